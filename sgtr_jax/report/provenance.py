"""Where every number comes from: evaluation, answers, adapters, data, and the code and machine that made them."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, cast

from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json
from sgtr_jax.report.run_file import SOURCE, at_commit, read_artifact, read_source
from sgtr_jax.report.tables import RunData
from sgtr_jax.sealed import damage

SourceEntry = TypedDict(
    "SourceEntry",
    {
        "kind": str,
        "fingerprint": str,
        "from": dict[str, str],
        "made": str,
        "code": str,
        "packages": dict[str, str],
        "devices": str,
        "mesh": str | None,
        "source": str | None,  # what it was read from: a repository of the hub at its commit, or a folder
    },
)


class Sources(TypedDict):
    """`cells`: condition, seed, evaluation and artifact of each number; `artifacts` by their folders."""

    cells: list[tuple[str, int, str, str]]
    artifacts: dict[str, SourceEntry]


def provenance(run: RunData) -> Sources:
    """`cells`: artifact of each number, `artifacts`: what each was made from, by what, when."""
    artifacts: dict[str, SourceEntry] = {}
    cells = []
    for cell in run.cells:
        if cell.why_missing is None:
            _collect(cell.folder, artifacts)
            cells.append((cell.condition, cell.seed, cell.evaluation, cell.folder.name))
    return {"cells": cells, "artifacts": artifacts}


class _TrainingReport(TypedDict, total=False):
    mesh: dict[str, int]


def _collect(folder: Path, artifacts: dict[str, SourceEntry]) -> None:
    if folder.name in artifacts:
        return
    try:
        recipe = read_artifact(folder)
    except InputError:
        return  # it was removed, or is damaged: `sgtr check` says so
    made = recipe["provenance"]
    mesh = None
    if _is_whole(folder, "report.json"):
        mesh = cast(_TrainingReport, read_json(folder / "report.json")).get("mesh")
    source = read_source(folder) if _is_whole(folder, SOURCE) else None
    artifacts[folder.name] = {
        "kind": recipe["kind"],
        "fingerprint": recipe["fingerprint"][:16],
        "from": recipe["inputs"],
        "made": made["made"],
        "code": made["sgtr_jax"],
        "packages": made["packages"],
        "devices": f"{len(made['devices'])} x {made['devices'][0]}",
        "mesh": None if mesh is None else " ".join(f"{axis} {size}" for axis, size in mesh.items()),
        "source": None if source is None else at_commit(source),
    }
    for made_from in recipe["inputs"].values():
        _collect(folder.parent / made_from, artifacts)


def _is_whole(folder: Path, name: str) -> bool:
    return (folder / name).exists() and not damage(folder, True, [name])
