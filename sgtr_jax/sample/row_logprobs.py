"""Mean log-probability of the target tokens of rows under a model: what a run's loss would be on each, negated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.data.token_cache import tokenize_all
from sgtr_jax.sample.model import Model


def row_logprobs(model: Model, records: Sequence[Record], chat: ChatFormat, most_tokens: int) -> list[float | None]:
    """For each row the mean over its target tokens, in nats; None for a row of more than `most_tokens` tokens.

    Raises InputError naming a row that the chat template cannot render.
    """
    rows = tokenize_all(records, chat)
    most = min(most_tokens, model.spec.max_positions)
    scored = [i for i, row in enumerate(rows) if len(row.tokens) <= most]
    targets = [np.asarray(rows[i].target, bool) for i in scored]
    # From the first target to the last: what lies between, another turn's prompt, is scored and not counted.
    spans = [(int(target.argmax()), len(target) - int(target[::-1].argmax())) for target in targets]
    prompts = [rows[i].tokens[:begin] for i, (begin, _) in zip(scored, spans, strict=True)]
    answers = [rows[i].tokens[begin:end] for i, (begin, end) in zip(scored, spans, strict=True)]
    found: list[float | None] = [None] * len(rows)
    for i, target, (begin, end), values in zip(
        scored, targets, spans, model.engine.score(prompts, answers), strict=True
    ):
        found[i] = float(np.asarray(values, np.float64)[target[begin:end]].mean())
    return found
