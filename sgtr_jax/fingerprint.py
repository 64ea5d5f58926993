"""Digests that stand for files and models in recipes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import BinaryIO

from sgtr_jax.errors import InputError


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_fingerprint(path: Path) -> str:
    """sha256 of a file's bytes. Raises InputError if it cannot be read."""
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def folder_fingerprint(folder: Path) -> str:
    """sha256 of the names and bytes of all files below a folder. Raises InputError if one cannot be read."""
    digest = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{file_fingerprint(path)}\0".encode())
    return digest.hexdigest()


_WHOLE = 64 << 20  # bytes up to which a file is read whole
_BLOCK = 1 << 14
_BLOCKS = 256  # of a bigger file, evenly spread


def model_fingerprint(folder: Path) -> str:
    """Digest of a model folder: small files whole, big ones by name, size, the beginning of every tensor, and blocks.

    Hashing 65 GB on every start would take minutes. A tensor that was finetuned is another one from its first rows on.
    Raises InputError if a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix not in (".json", ".safetensors", ".jinja", ".txt") and "params" not in path.parts:
            continue
        try:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder)}\0{size}\0".encode())
            with path.open("rb") as stream:
                for at in _blocks(stream, size) if size > _WHOLE else ():
                    stream.seek(at)
                    digest.update(stream.read(_BLOCK))
                if size <= _WHOLE:
                    digest.update(stream.read())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def _blocks(stream: BinaryIO, size: int) -> list[int]:
    """Where the blocks of a big file begin that stand for all of it."""
    step = (size - _BLOCK) / (_BLOCKS - 1)
    spread = {round(number * step) for number in range(_BLOCKS)}
    return sorted(spread | set(_tensors(stream, size)))


def _tensors(stream: BinaryIO, size: int) -> list[int]:
    """Where the tensors of a safetensors file begin, and its header; nothing of another or a broken file."""
    length = int.from_bytes(stream.read(8), "little")
    if length > min(size, _WHOLE):
        return []
    try:
        header = json.loads(stream.read(length))
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        return [*range(0, length, _BLOCK), *(8 + length + int(entry["data_offsets"][0]) for entry in entries)]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return []
