"""From rows of conversations to their mean states, and from two sets of rows to a direction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record, read_training
from sgtr_jax.data.set_files import content_sha256
from sgtr_jax.errors import InputError
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.progress import Progress
from sgtr_jax.sample.directions import Direction
from sgtr_jax.sample.model import Model
from sgtr_jax.weights.adapter_fingerprint import adapter_fingerprint

# turn: the last assistant turn with the token that ends it, as training has its loss on it. answer: without that token.
# prompt: the last token before the turn.
Tokens = Literal["turn", "answer", "prompt"]


def row_states(
    model: Model, records: Sequence[Record], chat: ChatFormat, over: Tokens, label: str,
    layers: Sequence[int] | None = None,
) -> Float32[np.ndarray, "N L D"]:  # fmt: skip
    """Mean states of each row over the tokens of its last assistant turn that `over` names, behind each layer.

    Raises InputError naming a row that is longer than the model's positions.
    """
    rows = [_chosen(record, chat, over, model.spec.max_positions) for record in records]
    passes = model.states(layers)
    found = np.zeros((len(rows), len(passes.layers), model.spec.hidden_size), np.float32)
    with Progress(label, len(rows), "rows") as progress:
        for i, mean in passes.means([tokens for tokens, _ in rows], [chosen for _, chosen in rows]):
            found[i] = mean
            progress.advance(1)
    return found


def _chosen(record: Record, chat: ChatFormat, over: Tokens, positions: int) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, and which of them are asked about: of its last assistant turn."""
    try:
        made = chat.tokenize(record.messages)
    except InputError as error:
        raise InputError(f"{record.id}: {error}") from None
    end = len(made.target) - made.target[::-1].index(True)
    begin = end
    while begin and made.target[begin - 1]:
        begin -= 1
    if end > positions:
        raise InputError(f"{record.id}: has {end} tokens, and the model {positions} positions; leave the row out")
    # What a turn ends with is one token, and more where a template writes several.
    answer = max(begin + 1, end - 1)
    first, last = {"turn": (begin, end), "answer": (begin, answer), "prompt": (begin - 1, begin)}[over]
    return list(made.tokens[:end]), [first <= at < last for at in range(end)]


def extract(
    positive: Model,
    positive_rows: Sequence[Record],
    negative: Model,
    negative_rows: Sequence[Record],
    chat: ChatFormat,
    over: Tokens = "turn",
    recipe: JsonObject | None = None,
) -> Direction:
    """Mean over tokens, mean over rows, positive minus negative; float32 `[L, D]`.

    The two models are one, for rows that differ, or two chains of one base. `recipe` is added to what the direction
    says of itself.
    """
    means = [
        row_states(model, rows, chat, over, label).mean(axis=0, dtype=np.float64)
        for model, rows, label in ((positive, positive_rows, "positive"), (negative, negative_rows, "negative"))
    ]
    own: JsonObject = {
        "model": model_fingerprint(positive.folder)[:16],
        "positive": side(positive, positive_rows),
        "negative": side(negative, negative_rows),
        "tokens": over,
        "system": chat.system,
        "template": dict(chat.template_kwargs),
        "dtype": str(positive.params["embedding"].dtype),
    }
    return Direction((means[0] - means[1]).astype(np.float32), {**own, **(recipe or {})})


def side(model: Model, rows: Sequence[Record]) -> dict[str, Json]:
    """What one side of a direction is made from."""
    return {
        "chain": [adapter_fingerprint(folder) for folder in model.adapters],
        "rows": len(rows),
        "sha256": content_sha256(record.to_json() for record in rows),
    }


def read_rows(path: Path) -> list[Record]:
    """Conversations that end with an assistant's turn. Raises InputError naming file and line."""
    rows = read_training(path)
    for row in rows:
        if row.messages[-1].get("weight", 1) == 0:
            raise InputError(f"{path}: {row.id}: the last turn has weight 0; its tokens are those that are looked at")
    return rows
