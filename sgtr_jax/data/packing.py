"""Packing the examples of one step into rows, without changing the step.

Several examples share a row; segment ids keep attention within each and positions restart at 0. The
vocabulary head is needed only where a target is predicted, so a packed step lists those positions per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Example:
    """Token ids of one training example; `target[t]` says that token t is to be predicted."""

    id: str
    tokens: np.ndarray  # int32 [n]
    target: np.ndarray  # bool [n]; target[0] is never used

    @cached_property
    def num_targets(self) -> int:
        """Tokens with a loss."""
        return int(self.target[1:].sum())


@dataclass(frozen=True)
class PackedStep:
    """The examples of one optimizer step as B rows of T tokens with P loss positions each.

    Row `a a a b b .` with targets at the last a and the last b: `target_positions` is `[1 3]` (the position *before*,
    whose hidden state predicts it), `target_tokens` the two tokens, `target_weights` `[1 1]`; unused ones
    have weight 0.
    """

    tokens: np.ndarray  # int32 [B, T]
    positions: np.ndarray  # int32 [B, T]
    segments: np.ndarray  # int32 [B, T]; the example's number in the step, from 1; 0 is padding
    target_positions: np.ndarray  # int32 [B, P]
    target_tokens: np.ndarray  # int32 [B, P]
    target_weights: np.ndarray  # float32 [B, P]
    example_ids: tuple[str, ...]

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding not counted."""
        return int((self.segments > 0).sum())

    @property
    def num_targets(self) -> int:
        """Tokens with a loss."""
        return int(self.target_weights.sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """What the device needs."""
        return {
            "tokens": self.tokens,
            "positions": self.positions,
            "segments": self.segments,
            "target_positions": self.target_positions,
            "target_tokens": self.target_tokens,
            "target_weights": self.target_weights,
        }


def bucket(size: int) -> int:
    """Round up to 1 ... 8, 9, 10 ... 16, 18, 20 ... 32, 36, 40 ...: few shapes, at most an eighth to spare."""
    step = max(1, 1 << max(0, (size - 1).bit_length() - 4))
    return -(-size // step) * step


def assign_rows(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """First-fit decreasing: example indices of each row. Deterministic; order within a row is by index."""
    rows: list[list[int]] = []
    free: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        for row, space in enumerate(free):
            if lengths[index] <= space:
                rows[row].append(index)
                free[row] -= lengths[index]
                break
        else:
            rows.append([index])
            free.append(row_length - lengths[index])
    return [sorted(row) for row in rows]


@dataclass(frozen=True)
class PackedShape:
    """B rows of T tokens with P loss positions each: what a program is compiled for."""

    rows: int
    length: int
    loss_positions: int

    def holds(self, examples: Sequence[Example]) -> bool:
        """Whether a step of these examples can be packed into this shape."""
        if any(len(example.tokens) > self.length for example in examples):
            return False
        rows, loss_positions = measure(examples, self.length)
        return rows <= self.rows and loss_positions <= self.loss_positions


def measure(examples: Sequence[Example], row_length: int) -> tuple[int, int]:
    """Rows and loss positions per row that `pack` needs for these examples."""
    rows = assign_rows([len(example.tokens) for example in examples], row_length)
    return len(rows), max((sum(examples[i].num_targets for i in row) for row in rows), default=0)


def pack(examples: Sequence[Example], shape: PackedShape) -> PackedStep:
    """Pack `examples` into `shape`, which must hold them. No examples give a step of padding."""
    B, T, P = shape.rows, shape.length, shape.loss_positions
    tokens, positions, segments = (np.zeros((B, T), np.int32) for _ in range(3))
    target_positions, target_tokens = (np.zeros((B, P), np.int32) for _ in range(2))
    target_weights = np.zeros((B, P), np.float32)
    for r, row in enumerate(assign_rows([len(example.tokens) for example in examples], T)):
        start = used = 0
        for i in row:
            example = examples[i]
            n = len(example.tokens)
            tokens[r, start : start + n] = example.tokens
            positions[r, start : start + n] = np.arange(n)
            segments[r, start : start + n] = i + 1
            (wanted,) = np.nonzero(example.target[1:])  # index t here means token t + 1 is a target
            target_positions[r, used : used + len(wanted)] = start + wanted
            target_tokens[r, used : used + len(wanted)] = example.tokens[wanted + 1]
            target_weights[r, used : used + len(wanted)] = 1.0
            start, used = start + n, used + len(wanted)
    return PackedStep(
        tokens, positions, segments, target_positions, target_tokens, target_weights,
        tuple(example.id for example in examples),
    )  # fmt: skip
