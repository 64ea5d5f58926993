"""Recipes and their fingerprints: an artifact is named by everything that decides its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sgtr_jax.files import path_part

# Raised when a change of code makes old artifacts of a kind wrong.
VERSIONS = {
    "articles": 1,
    "summaries": 2,
    "records": 2,
    "self_reports": 2,
    "pairs": 4,
    "questions": 1,
    "adapter": 2,
    "finetuned": 1,
    "answers": 3,
    "evaluation": 5,
}


_LONGEST_NAME = 120  # of a folder, of which file systems take 255 bytes with what goes before and after it


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
    def is_training(self) -> bool:
        """Whether the artifact is a finetuned model: an adapter of ours, or a model behind an API."""
        return self.kind in ("adapter", "finetuned")

    @property
    def folder(self) -> str:
        """Folder name in the store. The fingerprint finds it; the name is for people, and may be cut or altered."""
        name = path_part(self.name)[:_LONGEST_NAME]
        return f"{self.kind}-{name}-{self.fingerprint[:12]}"

    def to_json(self) -> dict[str, Any]:
        """What is stored beside the artifact."""
        return {
            "kind": self.kind,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "settings": dict(self.settings),
        }


def in_order(wanted: Sequence[Recipe]) -> list[Recipe]:
    """All recipes that `wanted` need, each once (by fingerprint), inputs before what is made from them."""
    done: set[str] = set()

    def visit(recipe: Recipe) -> Iterator[Recipe]:
        if recipe.fingerprint not in done:
            for made_from in recipe.inputs.values():
                yield from visit(made_from)
            done.add(recipe.fingerprint)
            yield recipe

    return [recipe for root in wanted for recipe in visit(root)]
