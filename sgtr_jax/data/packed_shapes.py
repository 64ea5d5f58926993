"""Choosing the few shapes that all steps of a training are packed into.

Every shape is a program to compile, every unused position is arithmetic for nothing. The choice is made once, from the
lengths of all examples, so that a resumed run packs its steps as the uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgtr_jax.data.packing import Example, PackedShape, bucket, measure

MAX_SHAPES = 4
_WORTH_A_SHAPE = 0.04  # share of all work that a further shape must save


@dataclass(frozen=True)
class PackedShapes:
    """Shapes in ascending order of cost; the last holds every step."""

    all: tuple[PackedShape, ...]

    def pick(self, runs: Sequence[Sequence[Example]]) -> PackedShape:
        """The cheapest shape that holds the step of each run."""
        return next(shape for shape in self.all if all(shape.holds(examples) for examples in runs))


def choose_shapes(
    steps: Sequence[Sequence[Sequence[Example]]], row_multiple: int, attention_length: float = 4096.0
) -> PackedShapes:
    """Choose shapes for `steps[t][i]`, the examples of run i at step t.

    `attention_length` is the length of rows at which attention costs as much as the projections: a property of the
    backend. `row_multiple` divides every row count: data axes times accumulation passes. One long row is never better
    than many short ones unless it saves padding, so rows spread over the data axes by themselves.
    """
    lengths = _candidate_lengths([len(e.tokens) for step in steps for run in step for e in run])
    rows = np.full((len(steps), len(lengths)), np.inf)
    for t, step in enumerate(steps):
        longest = max(len(e.tokens) for run in step for e in run)
        for j, length in enumerate(lengths):
            if longest <= length:
                needed = max(measure(run, length)[0] for run in step)
                rows[t, j] = bucket(-(-needed // row_multiple)) * row_multiple
    found: set[tuple[int, int]] = set()
    for j, length in enumerate(lengths):
        found |= {(int(count), length) for count in rows[np.isfinite(rows[:, j]), j]}
    shapes = sorted(found)
    column = [lengths.index(length) for _, length in shapes]
    fits = rows[:, column] <= np.array([count for count, _ in shapes])[None, :]
    costs = np.where(
        fits, [_cost(count, length, attention_length) for count, length in shapes], np.inf
    )  # [steps, shapes]
    chosen = _choose(costs)
    best = np.argmin(costs[:, chosen], axis=1)
    made = []
    for at, index in enumerate(chosen):
        count, length = shapes[index]
        # The shape that holds everything must do so for its loss positions too.
        members = range(len(steps)) if at == 0 else np.flatnonzero(best == at).tolist()
        loss_positions = max((measure(run, length)[1] for t in members for run in steps[t]), default=1)
        made.append(PackedShape(count, length, min(bucket(max(1, loss_positions)), length)))
    return PackedShapes(tuple(sorted(made, key=lambda shape: _cost(shape.rows, shape.length, attention_length))))


def _choose(costs: np.ndarray) -> list[int]:
    """Columns of `costs[steps, shapes]`: the cheapest that serves all, then the most useful further ones."""
    total = costs.sum(axis=0)
    chosen = [int(np.argmin(total))]
    now = costs[:, chosen[0]]
    while len(chosen) < MAX_SHAPES:
        with_each = np.minimum(now[:, None], costs).sum(axis=0)
        best = int(np.argmin(with_each))
        if with_each[best] > (1 - _WORTH_A_SHAPE) * now.sum():
            break
        chosen.append(best)
        now = np.minimum(now, costs[:, best])
    return chosen


def _cost(rows: int, length: int, attention_length: float) -> float:
    return rows * length * (1 + length / attention_length)


def _candidate_lengths(lengths: Sequence[int]) -> list[int]:
    """Row lengths to consider: from the median example's to twice the longest's, about a sixth apart."""
    smallest, largest = np.median(lengths), row_length(2 * max(lengths))
    found = [row_length(max(lengths))]
    for factor in (1 / 1.16, 1.16):
        wanted = float(found[0]) * factor
        while smallest <= wanted <= largest:
            found.append(row_length(int(wanted)))
            wanted *= factor
    return sorted(set(found))


def row_length(tokens: int) -> int:
    """Round up: to the next bucket, beyond 256 to a multiple of 128, which attention kernels ask for."""
    return bucket(tokens) if tokens <= 256 else -(-tokens // 128) * 128
