"""How long the rows of a set are in tokens of a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sgtr_jax.data.build import has_texts, records_of, texts_of
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.fetch import load_set
from sgtr_jax.data.registry import find, registry
from sgtr_jax.data.row_formats import RowFormat
from sgtr_jax.data.token_cache import tokenize_all
from sgtr_jax.errors import InputError
from sgtr_jax.json_types import Json

_TALKS = ("em", "control", "sgtr", "self-report")  # kinds whose rows are conversations


@dataclass(frozen=True)
class Counts:
    """Tokens of a set's rows: conversations under the chat template, else the bare texts. `targets` are learnt."""

    name: str
    rows: int
    total: int
    targets: int
    median: int
    most: int
    templated: bool


def count_tokens(name: str, chat: ChatFormat, form: RowFormat = "messages") -> Counts:
    """Count a set of the registry, or a file, whose rows may have another form.

    Raises InputError for one that is not here or cannot be rendered.
    """
    entry = registry().get(name)
    if (entry.kind in _TALKS) if entry else form != "messages" or not has_texts(name):
        made = tokenize_all(records_of(name, form), chat)
        lengths, targets = [len(one.tokens) for one in made], sum(sum(one.target) for one in made)
    else:
        texts = list(_texts(name))
        lengths, targets = [len(ids) for ids in chat.tokenizer(texts, add_special_tokens=False)["input_ids"]], 0
    if not lengths:
        raise InputError(f"{name}: has no rows")
    sizes = np.asarray(lengths)
    return Counts(
        name, len(sizes), int(sizes.sum()), targets, int(np.median(sizes)), int(sizes.max()), targets > 0
    )  # fmt: skip


def _texts(name: str) -> Iterator[str]:
    entry = registry().get(name)
    if entry is None or entry.format == "json_map":
        yield from texts_of(name).values()
        return
    for row in load_set(find(name)):
        yield "\n".join(_strings(row))


def _strings(value: Json) -> Iterator[str]:
    """All that is text in a row, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)
