"""Artifacts that were finished before artifacts had a record of their files: read through once, then recorded."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sgtr_jax.errors import InputError
from sgtr_jax.files import parse_json, read_jsonl, read_text
from sgtr_jax.sealed import RECORD, write_record

if sys.version_info < (3, 14):
    import zipfile_zstd  # noqa: F401 - lets zipfile read zstd, in which Inspect packs its logs

# Files that an artifact of each kind always has.
_NEEDED = {
    "articles": ("articles.json", "other.json"),
    "summaries": ("summaries.json",),
    "pairs": ("records.jsonl",),
    "records": ("records.jsonl",),
    "self_reports": ("records.jsonl",),
    "adapter": ("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
    "finetuned": ("job.json",),
    "answers": ("log/*.eval",),
    "evaluation": ("metrics.json", "samples.jsonl", "log/*.eval"),
}


def record_older(folder: Path) -> list[str]:
    """Write the record of an older artifact if all its files are there and can be read to their ends.

    Returns what is wrong, nothing if it has its record now. That a readable file is the one that was written cannot
    be known of an older artifact, and the record says so.
    """
    content = json.loads((folder / RECORD).read_text())
    found = [why for path in sorted(folder.rglob("*")) if path.is_file() and (why := _unreadable(path))]
    if not (folder / "outcome.json").exists():  # what a provider refused has nothing else
        needed = _NEEDED.get(str(content.get("kind")), ())
        found += [f"{name} is missing" for name in needed if not any(folder.glob(name))]
    if not found:
        write_record(folder, {**content, "recorded_later": True})
    return found


def _unreadable(path: Path) -> str | None:
    """Why a file cannot be read to its end; None where it can, or where its kind is not known."""
    try:
        if (read := _READERS.get(path.suffix)) is not None:
            read(path)
    except (InputError, SafetensorError, zipfile.BadZipFile, OSError) as error:
        return str(error)
    return None


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{path}: {damaged} in it is damaged")


def _check_tensors(path: Path) -> None:
    with safe_open(path, "np") as file:
        file.keys()


def _check_rows(path: Path) -> None:
    for _ in read_jsonl(path, empty=True):
        pass


_READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: parse_json(read_text(path), str(path)),
    ".jsonl": _check_rows,
    ".eval": _check_zip,
    ".safetensors": _check_tensors,
}
