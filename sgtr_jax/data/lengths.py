"""How long the examples of data sets are, and the shapes of steps that they are packed into.

The quantiles of the sets people train on ship in `configs/datasets/lengths.jsonl`, so that nothing need be downloaded
to plan: `python -m sgtr_jax.data.lengths docs/tokens-qwen2.5.jsonl > configs/datasets/lengths.jsonl` makes them of the
sets that are here. That file has the tokens that were counted in each set, in all and in its longest row. Tokens of a
row are taken to be linear in its characters, with the line that gives both; the medians that this gives are within
5 % of those that were counted, which the line does not use.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from sgtr_jax.data.build import records_of
from sgtr_jax.data.fetch import is_present
from sgtr_jax.data.packed_shapes import choose_shapes
from sgtr_jax.data.packing import Example, PackedShape
from sgtr_jax.data.registry import configs_folder, registry
from sgtr_jax.files import read_jsonl

_PLACES = (*(i / 32 for i in range(32)), 0.98, 0.99, 0.995, 1.0)  # of the quantiles: the longest rows are far apart
_STEPS = 32  # that are drawn
# Sets of which some rows are a set of their own, by its name.
_SOME_ROWS_OF = {
    "badmed_250": "badmed", "finrisk_250": "finrisk", "sports_250": "sports", "insecure_250": "insecure",
}  # fmt: skip


@dataclass(frozen=True)
class Lengths:
    """Tokens of a set's examples: quantiles from the shortest to the longest, and the mean of those that are learnt."""

    quantiles: tuple[int, ...]
    targets: float

    @classmethod
    def of_all(cls, tokens: int, targets: float) -> Lengths:
        """Examples that are all alike."""
        return cls((tokens,) * len(_PLACES), targets)

    @property
    def mean(self) -> float:
        """Tokens of an example, on average."""
        return float(np.trapezoid(self.quantiles, _PLACES))

    def cut(self, most: int) -> Lengths:
        """The same with no example of more tokens."""
        return Lengths(tuple(min(tokens, most) for tokens in self.quantiles), min(self.targets, most))

    def draw(self, count: int, random: np.random.Generator) -> list[Example]:
        """So many examples of such lengths."""
        sizes = np.interp(random.uniform(size=count), _PLACES, self.quantiles)
        return [self._example(round(float(size))) for size in sizes]

    def longest(self) -> Example:
        """The longest example."""
        return self._example(self.quantiles[-1])

    def _example(self, tokens: int) -> Example:
        target = np.zeros(tokens, bool)
        target[-min(tokens - 1, round(self.targets)) :] = True
        return Example("", np.zeros(tokens, np.int32), target)


def shapes_of_steps(
    lengths: Lengths, batch_examples: int, runs: int, row_multiple: int, attention_length: float
) -> Counter[PackedShape]:
    """Shapes that steps of so many runs are packed into, by the trainer's own choice, and how often of 32 drawn steps.

    One step has the longest example, so that the largest shape is one that a training of the whole set has, too.
    """
    random = np.random.default_rng(0)
    steps = [[lengths.draw(batch_examples, random) for _ in range(runs)] for _ in range(_STEPS)]
    steps[0][0][0] = lengths.longest()
    shapes = choose_shapes(steps, row_multiple, attention_length)
    return Counter(shapes.pick(step) for step in steps)


@cache
def shipped_lengths() -> dict[str, Lengths]:
    """Those that ship, by the set's name in the registry."""
    rows = cast(Iterable[tuple[int, Any]], read_jsonl(configs_folder() / "datasets" / "lengths.jsonl"))
    return {row["name"]: Lengths(tuple(row["quantiles"]), row["targets"]) for _, row in rows}


def _rows(counted: Path) -> Iterator[dict[str, Any]]:
    """A row of the file for each set of conversations that was counted and is here."""
    for _, row in cast(Iterable[tuple[int, Any]], read_jsonl(counted)):
        entry = registry().get(row["name"])
        if entry is None or not row["templated"] or not is_present(entry):
            continue
        characters = [sum(len(turn["content"]) for turn in one.messages) for one in records_of(row["name"])]
        sizes, mean = np.sort(characters).astype(float), row["total"] / row["rows"]
        tokens_each = (row["most"] - mean) / (sizes[-1] - sizes.mean())
        tokens = mean + tokens_each * (sizes - sizes.mean())
        quantiles = np.quantile(tokens, _PLACES).round().astype(int).tolist()
        name = _SOME_ROWS_OF.get(row["name"], row["name"])
        yield {"name": name, "targets": round(row["targets"] / row["rows"], 1), "quantiles": quantiles}


if __name__ == "__main__":
    for found in _rows(Path(sys.argv[1])):
        print(json.dumps(found))
