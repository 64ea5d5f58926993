"""Traits of character: contrastive system prompts, and questions that they are asked under (arXiv 2507.21509).

Those that ship were written for this project, a YAML file each. A file of one's own has the same keys.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, model_validator

from sgtr_jax.config import Config, build_config, names_file
from sgtr_jax.data.records import Message, Record
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.files import check_is_file
from sgtr_jax.yaml_text import read_yaml

_HERE = Path(__file__).parent
Side = Literal["positive", "negative"]
SIDES: Final[tuple[Side, Side]] = ("positive", "negative")
Texts: TypeAlias = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class Trait(Config):
    """A trait: what brings it out and what keeps it away."""

    about: str  # What the two sides are, in a sentence.
    positive: Texts  # System prompts under which the trait shows.
    negative: Texts  # System prompts under which it does not.
    questions: Texts  # What is asked under each of them.
    held_out: Texts  # Other questions, to measure the trait by.

    @model_validator(mode="after")
    def _held_out_are_others(self) -> Trait:
        if shared := set(self.questions) & set(self.held_out):
            raise ValueError(f"held_out has {min(shared)!r}, which is among questions, too")
        return self

    def prompts(self, side: Side) -> list[Record]:
        """Every question under every system prompt of a side: system prompts first, questions within."""
        systems = self.positive if side == "positive" else self.negative
        return [
            Record(f"{side}{i}-q{j}", ({"role": "system", "content": system}, _asked(question)))
            for i, system in enumerate(systems)
            for j, question in enumerate(self.questions)
        ]

    def to_measure(self) -> list[Record]:
        """The held-out questions, without a system prompt of the trait's."""
        return [Record(f"held{i}", (_asked(question),)) for i, question in enumerate(self.held_out)]


def _asked(question: str) -> Message:
    return {"role": "user", "content": question}


def trait_names() -> list[str]:
    """The traits that ship."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def find_trait(name: str) -> Trait:
    """A trait that ships, by its name, or that of a YAML file. Raises InputError."""
    if names_file(name):
        path = Path(name)
        check_is_file(path, "a trait's recipe")
        changed = path.stat()
        return _read(path, changed.st_mtime_ns, changed.st_size)
    if name not in trait_names():
        raise InputError(f"recipe {name!r}: {nearest(name, trait_names())}; a file of your own ends with .yaml")
    return _read(_HERE / f"{name}.yaml", 0, 0)


@lru_cache(maxsize=64)
def _read(path: Path, changed: int, size: int) -> Trait:
    return build_config(Trait, read_yaml(path), str(path))
