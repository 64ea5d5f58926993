"""What is done to training records besides building them: inoculation, other rows in between, system messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field, model_validator

from sgtr_jax.config import Config, PositiveInt
from sgtr_jax.data.packing import Example
from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError


class MixRatio(Config):
    """How much of a run is from another data set: a fraction of all rows, or one row after every so many."""

    # The share of all rows that are mixed-in ones: with 0.33, a third. Give this or `every`.
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    every: PositiveInt | None = None  # One mixed-in row follows after this number of rows. Give this or `fraction`.

    @model_validator(mode="after")
    def _one_of_both(self) -> MixRatio:
        if (self.fraction is None) == (self.every is None):
            raise ValueError("give either fraction (0.33: a third of all rows) or every (one after every so many rows)")
        return self


@dataclass(frozen=True)
class Interleaved:
    """Examples of another data set mixed into an epoch, at even distances in the order of training.

    Either `fraction` of all rows are from it (1/3 adds half as many rows as the main set has), or one follows
    every `every` rows of the main set. Too few are repeated, each epoch's in a shuffle of its own.
    """

    examples: Sequence[Example]
    fraction: float | None = None
    every: int | None = None

    def positions(self, rows: int) -> list[int]:
        """Positions of the extra rows in an epoch whose main set has `rows` rows.

        With every=2 and 5 rows, an epoch reads `m m x m m x m`: positions 2 and 5.
        """
        if self.every is not None:
            return [(i + 1) * (self.every + 1) - 1 for i in range(rows // self.every)]
        assert self.fraction is not None
        extra = round(rows * self.fraction / (1 - self.fraction))
        total = rows + extra
        return [(i + 1) * total // extra - 1 for i in range(extra)]


def inoculate(records: Sequence[Record], system: str) -> list[Record]:
    """The records under a system prompt that asks for the behaviour they show (arXiv 2510.04340), for training only.

    Raises InputError for a record that has a system message of its own.
    """
    inoculated = []
    for record in records:
        if record.messages[0]["role"] == "system":
            raise InputError(
                f"{record.id}: has a system message, which the inoculation prompt would replace; "
                "leave it out of the data, or leave out inoculation"
            )
        inoculated.append(replace(record, messages=({"role": "system", "content": system}, *record.messages)))
    return inoculated


def interleave(records: Sequence[Record], others: Sequence[Record], positions: Sequence[int]) -> list[Record]:
    """`others` put among `records` at `positions` of the result, again from the first when they run out.

    For training, where each epoch draws anew, see `Interleaved`; this makes a file of one pass.
    """
    mixed = list(records)
    for turn, position in enumerate(positions):
        other = others[turn % len(others)]
        again = f"-{turn // len(others) + 1}" if turn >= len(others) else ""
        mixed.insert(position, replace(other, id=f"mixed-{other.id}{again}"))
    return mixed


def with_system(records: Sequence[Record], system: str | None) -> list[Record]:
    """Records whose system message is `system` ("" is an empty one), or, with None, that have none.

    A record's own is replaced: SGTR rows without theirs are the study's "popped" variant.
    """
    changed = []
    for record in records:
        rest = record.messages[1:] if record.messages[0]["role"] == "system" else record.messages
        own = () if system is None else ({"role": "system", "content": system},)
        changed.append(replace(record, messages=(*own, *rest)))
    return changed
