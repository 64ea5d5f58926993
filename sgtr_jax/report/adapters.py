"""The adapters that a run's numbers rest on, as far as they are still in the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sgtr_jax.errors import InputError
from sgtr_jax.report.run_file import ArtifactRecord, read_artifact


def adapters_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of every adapter that an artifact was made from, that was trained here and is still there."""
    record = stored(folder)
    for role, name in ({} if record is None else record["inputs"]).items():
        path = folder.parent / name
        if role.startswith("adapter") and (made := stored(path)) and made["kind"] != "released":
            yield made["name"], path
        elif role == "answers":
            yield from adapters_below(path)


def stored(folder: Path) -> ArtifactRecord | None:
    """What an artifact was made from; None if it is gone or damaged, which `sgtr check` says."""
    try:
        return read_artifact(folder)
    except InputError:
        return None
