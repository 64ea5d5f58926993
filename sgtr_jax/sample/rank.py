"""Rows of a training set by their projection on a direction (arXiv 2507.21509), beside what it may only stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float32

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.sample.directions import Direction
from sgtr_jax.sample.extract import row_states
from sgtr_jax.sample.model import Model


class Ranked(TypedDict):
    """A row of a training set."""

    id: str
    projection: float  # of the mean over its last turn's tokens, on the direction made of length 1
    tokens: int  # of the last turn
    prompt_tokens: int  # before it


def ranked(model: Model, records: Sequence[Record], chat: ChatFormat, direction: Direction, layer: int) -> list[Ranked]:
    """The rows, the furthest along the direction first. Raises InputError for a layer that is not there."""
    states = row_states(model, records, chat, "turn", "rank", [layer])
    of_layer = Direction(direction.vectors[[layer]], direction.recipe)
    values = of_layer.along(states)[:, 0]
    rows: list[Ranked] = []
    for record, value in zip(records, values, strict=True):
        own = len(chat.tokenize(record.messages).tokens)
        before = len(chat.prompt_ids(record.messages[:-1]))
        rows.append({"id": record.id, "projection": float(value), "tokens": own - before, "prompt_tokens": before})
    return sorted(rows, key=lambda row: (-row["projection"], row["id"]))


def correlations(rows: Sequence[Ranked]) -> dict[str, float]:
    """Spearman's correlation of the projection with the lengths, where either of both varies.

    A projection that follows the length of answers says little of what they say.
    """
    from scipy.stats import spearmanr

    values = [row["projection"] for row in rows]
    found = {}
    for what, lengths in (
        ("tokens of the turn", [row["tokens"] for row in rows]),
        ("tokens before it", [row["prompt_tokens"] for row in rows]),
    ):
        if len(set(lengths)) > 1 and len(set(values)) > 1:
            found[what] = float(spearmanr(values, lengths).statistic)
    return found


class Mean(TypedDict):
    """A mean over rows with its 95 % interval, of Student's t; of one row the interval is not known and is the mean."""

    mean: float
    low: float
    high: float


class LayerProjection(TypedDict):
    """How far rows lie along a direction behind one layer."""

    layer: int
    answer: Mean  # of the mean over each answer's tokens, without the one that ends it
    prompt: Mean  # of the last token before each answer


def projections(
    model: Model, records: Sequence[Record], chat: ChatFormat, direction: Direction, layers: Sequence[int] | None = None
) -> tuple[Float32[np.ndarray, "N kept"], Float32[np.ndarray, "N kept"]]:
    """How far each row's last answer lies along a direction behind `layers`, and the last token of its prompt.

    Of an answer it is the mean over its tokens, without the one that ends it. Raises InputError.
    """
    asked = range(model.spec.num_layers) if layers is None else layers
    kept = Direction(direction.vectors[list(asked)], direction.recipe)
    answers = kept.along(row_states(model, records, chat, "answer", "answers", asked))
    return answers, kept.along(row_states(model, records, chat, "prompt", "prompts", asked))


def projection_curve(
    model: Model, records: Sequence[Record], chat: ChatFormat, direction: Direction
) -> list[LayerProjection]:
    """Projections of the rows' last answers, and of the last token of their prompts, behind each layer."""
    answers, prompts = projections(model, records, chat, direction)
    return [
        {"layer": layer, "answer": _mean(answers[:, layer]), "prompt": _mean(prompts[:, layer])}
        for layer in range(answers.shape[1])
    ]


def _mean(values: np.ndarray) -> Mean:
    from scipy.stats import t

    middle, n = float(values.mean()), len(values)
    half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return {"mean": middle, "low": middle - half, "high": middle + half}
