"""What a finished folder holds: its record names every file with size and sha256, and is itself sealed by a digest.

The record is written last, so that a folder without one is not finished. What does not match is named, never used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import parse_json, read_text, write_json
from sgtr_jax.fingerprint import file_digest
from sgtr_jax.json_types import JsonObject

RECORD = "recipe.json"
SEAL = "sealed_sha256"  # of the rest of the JSON object
_FILES = "files"
_ABSENT = object()


class FileFacts(TypedDict):
    """What the record of a folder says of a file."""

    bytes: int
    sha256: str


_SMALL = 1 << 20  # bytes of a file whose digest is compared whenever the folder is looked at


def write_sealed(path: Path, data: Mapping[str, object]) -> None:
    """Write a JSON object with a digest of itself, by which `read_sealed` sees any later change."""
    write_json(path, {**data, SEAL: _seal_of(data)})


def read_sealed(path: Path) -> JsonObject:
    """What `write_sealed` wrote. Raises InputError, naming the file, if it is anything else."""
    return parse_sealed(read_text(path), str(path))


def parse_sealed(text: str, path: str) -> JsonObject:
    """What `read_sealed` returns, of a text that came from `path`."""
    data = parse_json(text, path)
    if not isinstance(data, dict) or SEAL not in data:
        raise InputError(f"{path}: has no digest of itself: it is of an older version, or was damaged")
    seal = data.pop(SEAL)
    if seal != _seal_of(data):
        raise InputError(f"{path}: was changed after it was written (its digest is another one)")
    return data


def _seal_of(data: Mapping[str, object]) -> str:
    rest = {key: value for key, value in data.items() if key != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_record(folder: Path, content: Mapping[str, object]) -> None:
    """Write the record of all files of `folder`, with `content` beside them. Nothing may be written after it."""
    write_sealed(folder / RECORD, {**content, _FILES: files_of(folder)})


def files_of(folder: Path) -> dict[str, FileFacts]:
    """Size and sha256 of every file but the record, by its name."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
        for name in _files_in(folder)
    }


def read_record(folder: Path) -> JsonObject:
    """The record of a folder. Raises InputError if it is missing or damaged, or if it names no files."""
    record = read_sealed(folder / RECORD)
    if not isinstance(record.get(_FILES), dict):
        raise InputError(f"{folder / RECORD}: names no files: it is of an older version, or was damaged")
    return record


def recorded_files(folder: Path) -> dict[str, FileFacts]:
    """The files that the record of a folder names. Raises InputError as `read_record` does."""
    return cast(dict[str, FileFacts], read_record(folder)[_FILES])  # sealed: as `files_of` gave them


def is_older(folder: Path) -> bool:
    """Whether a folder was finished by a version that did not write down what it held."""
    try:
        data = parse_json(read_text(folder / RECORD), RECORD)
    except InputError:
        return False
    return isinstance(data, dict) and SEAL not in data and _FILES not in data and "fingerprint" in data


def damage(folder: Path, whole: bool, names: Sequence[str] | None = None) -> list[str]:
    """What of a finished folder is not as it was: a reason for each file; none where all is well.

    Sizes are always compared, digests of small files too, and with `whole` those of all. With `names` only these
    files are looked at, each of which must be there.
    """
    if not folder.is_dir():
        return ["is no folder" if folder.exists() else "is missing"]
    if not (folder / RECORD).is_file():
        return [f"{RECORD} is missing"]
    try:
        files = recorded_files(folder)
    except InputError as error:
        return [str(error).removeprefix(f"{folder}/")]
    absent = [f"{name} was never there" for name in names or () if name not in files]
    looked_at = files if names is None else {name: files[name] for name in names if name in files}
    return absent + compared(folder, looked_at, whole)


def check_part(part: Path) -> None:
    """Raise InputError if a folder is part of a finished one and has not the files that the record gives it.

    The folder of an adapter, `<artifact>/adapter`, is one. A folder that no record above it names is not judged.
    """
    real = Path(os.path.realpath(part))  # the artifact of a link is where the link leads
    record = real.parent / RECORD
    if not record.is_file() or not _is_sealed(record):
        return
    known = {name: facts for name, facts in recorded_files(real.parent).items() if name.startswith(f"{real.name}/")}
    if found := compared(real.parent, known):
        raise InputError(
            f"{part}: the files are not those that {record} names: {'; '.join(found)}. Copy the whole artifact again "
            "from where it is from, or run its experiment again, which makes it anew"
        )


def _is_sealed(record: Path) -> bool:
    """Whether a file of the record's name is one of ours. Raises InputError if it cannot be read."""
    data = parse_json(read_text(record), str(record))
    return isinstance(data, dict) and SEAL in data


def compared(folder: Path, files: Mapping[str, FileFacts], whole: bool = True) -> list[str]:
    """What of `files`, as `files_of` gave them, is not as it was."""
    return [f"{name} {why}" for name, known in files.items() if (why := _file_damage(folder / name, known, whole))]


def extra_files(folder: Path) -> list[str]:
    """Files of a finished folder that its record does not name; what the system hides is not looked at."""
    known = recorded_files(folder)
    return [name for name in _files_in(folder) if name not in known and not Path(name).name.startswith(".")]


def _file_damage(path: Path, known: FileFacts, whole: bool) -> str | None:
    if not path.is_file():
        return "is no file any more" if path.exists() else "is missing"
    try:
        size = path.stat().st_size
        if size != known["bytes"]:
            return f"has {size} bytes of {known['bytes']}"
        if (whole or size <= _SMALL) and file_digest(path) != known["sha256"]:
            return "was changed (its sha256 is another one)"
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def _files_in(folder: Path) -> list[str]:
    """Names of all files but the record, as they are written down: with `/` on any system."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(name for path in files if (name := path.relative_to(folder).as_posix()) != RECORD)


def differences(before: object, now: object, key: str = "") -> list[str]:
    """`lr was 1e-05, is 2e-05` for every key that differs, at any depth."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for name in [*before, *(name for name in now if name not in before)]
            for line in differences(
                before.get(name, _ABSENT), now.get(name, _ABSENT), f"{key}.{name}" if key else str(name)
            )
        ]
    if before == now:
        return []
    words = ["not there" if one is _ABSENT else json.dumps(one, ensure_ascii=False) for one in (before, now)]
    return [f"{key or 'all'} was {words[0]}, is {words[1]}"]


def set_aside(path: Path) -> Path:
    """Rename what is damaged to NAME.damaged-N, of which it is never read again; returns the new path."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        path.rename(target)
    except OSError as error:
        raise RunError(f"{path}: damaged, and could not be renamed: {error.strerror or error}") from error
    return target
