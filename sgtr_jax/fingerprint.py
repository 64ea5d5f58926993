"""Digests that stand for files and models in recipes."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_fingerprint(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_SAMPLE_BYTES = 1 << 20


def model_fingerprint(folder: Path) -> str:
    """Digest of a model folder: small files whole, weights by name, size, first and last mebibyte.

    Hashing 65 GB on every start would take minutes; two checkpoints that agree in all of these do not occur.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        if path.suffix not in (".json", ".safetensors", ".jinja", ".txt") and "params" not in path.parts:
            continue
        digest.update(f"{path.relative_to(folder)}\0{size}\0".encode())
        with path.open("rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES))
            if size > 2 * _SAMPLE_BYTES:
                stream.seek(-_SAMPLE_BYTES, 2)
            digest.update(stream.read())
    return digest.hexdigest()
