"""Recipes and their fingerprints: an artifact is named by everything that decides its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

# Raised when a change of code makes old artifacts of a kind wrong.
VERSIONS = {
    "articles": 1,
    "summaries": 1,
    "records": 1,
    "pairs": 1,
    "questions": 1,
    "adapter": 1,
    "evaluation": 1,
}


@dataclass(frozen=True, eq=False)
class Recipe:
    """One artifact to be made: its kind, its settings and what it is made from."""

    kind: str
    name: str  # for people; not part of the fingerprint
    settings: Mapping[str, Any]
    inputs: Mapping[str, Recipe] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest over kind, settings and the inputs' fingerprints."""
        content = {
            "kind": self.kind,
            "version": VERSIONS[self.kind],
            "settings": self.settings,
            "inputs": {role: recipe.fingerprint for role, recipe in sorted(self.inputs.items())},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> str:
        """Folder name in the store."""
        return f"{self.kind}-{self.name}-{self.fingerprint[:12]}"

    def to_json(self) -> dict[str, Any]:
        """What is stored beside the artifact."""
        return {
            "kind": self.kind,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "settings": dict(self.settings),
            "inputs": {role: recipe.folder for role, recipe in self.inputs.items()},
        }


def in_order(wanted: Sequence[Recipe]) -> list[Recipe]:
    """All recipes that `wanted` need, each once (by fingerprint), inputs before what is made from them."""
    done: dict[str, Recipe] = {}

    def visit(recipe: Recipe) -> Iterator[Recipe]:
        if recipe.fingerprint not in done:
            for made_from in recipe.inputs.values():
                yield from visit(made_from)
            done[recipe.fingerprint] = recipe
            yield recipe

    return [recipe for root in wanted for recipe in visit(root)]


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
