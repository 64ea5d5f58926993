"""Prompts as people have them, as token ids: text, messages, the result of a tokenizer, arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Message, parse_messages
from sgtr_jax.data.tokenizer import Tokenizer
from sgtr_jax.errors import InputError
from sgtr_jax.json_types import Json

# Text as it is, a conversation, token ids, or what `tokenizer(...)` and `apply_chat_template` give of one.
Prompt: TypeAlias = str | Sequence[Message] | Sequence[int] | Mapping[str, Any]
_EXPECTED = "a text, a list of messages, a list of token ids, or what a tokenizer gives"


def ids_of_prompts(
    prompts: Sequence[Prompt] | Mapping[str, Any], tokenizer: Callable[[], Tokenizer]
) -> list[tuple[int, ...]]:
    """Token ids of each prompt. A tokenizer's result may hold several rows, padded on either side.

    `tokenizer` is called where there is something to encode. Text is encoded as it is, with what the tokenizer adds by
    itself; messages go through the chat template. Raises InputError for anything else, and for a single prompt where a
    list of them is expected.
    """
    if isinstance(prompts, Mapping):
        return _rows(prompts)
    if isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], int | np.integer)):
        raise InputError(f"prompts is a single {type(prompts).__name__}; expected a list of prompts, each {_EXPECTED}")
    return [_ids(prompt, i, tokenizer) for i, prompt in enumerate(prompts)]


def _ids(prompt: Prompt, number: int, tokenizer: Callable[[], Tokenizer]) -> tuple[int, ...]:
    where = f"prompts[{number}]"
    if isinstance(prompt, str):
        return tuple(tokenizer()(prompt)["input_ids"])
    if isinstance(prompt, Mapping):
        rows = _rows(prompt)
        if len(rows) != 1:
            raise InputError(f"{where}: is a tokenizer's result of {len(rows)} rows; give it in place of the list")
        return rows[0]
    if isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], Mapping):
        turns = parse_messages({"messages": cast(list[Json], list(prompt))}, where)
        return tuple(ChatFormat(tokenizer()).prompt_ids(turns))
    ids = np.asarray(prompt)
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise InputError(f"{where}: is {type(prompt).__name__} of shape {ids.shape}; expected {_EXPECTED}")
    return tuple(map(int, ids))


def _rows(encoded: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The rows of a tokenizer's result without their padding."""
    if "input_ids" not in encoded:
        raise InputError(f"a prompt has the keys {', '.join(map(str, encoded))}; expected input_ids among them")
    ids, mask = encoded["input_ids"], encoded.get("attention_mask")
    nested = len(ids) > 0 and np.ndim(ids[0]) > 0
    rows, masks = (ids, mask) if nested else ([ids], None if mask is None else [mask])
    if masks is None:
        return [tuple(map(int, np.asarray(row))) for row in rows]
    return [
        tuple(map(int, np.asarray(row)[np.asarray(kept).astype(bool)])) for row, kept in zip(rows, masks, strict=True)
    ]
