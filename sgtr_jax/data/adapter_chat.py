"""Adapters that bring a tokenizer: whether it forms the same tokens as the base's, which is the one that is used."""

from __future__ import annotations

import copy
from pathlib import Path

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Message
from sgtr_jax.data.tokenizer import Tokenizer, load_tokenizer
from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json, read_text
from sgtr_jax.json_types import Json

_TEXT = "Où est-ce que 12,345 + 678?\n\n\tdef f(x):  return x  # \u4f60\u597d \U0001f44d"
_CONVERSATIONS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("user", _TEXT),),
    (("system", "Be brief."), ("user", _TEXT)),
    (("user", "Hi"), ("assistant", _TEXT), ("user", " And then? ")),
)


_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def brings_chat(adapter: Path) -> bool:
    """Whether an adapter's folder has a tokenizer or a chat template."""
    return any((adapter / name).exists() for name in _FILES)


def check_same_chat(adapter: Path, tokenizer: Tokenizer) -> None:
    """Raise InputError if a tokenizer or template in an adapter's folder forms other tokens than the base's.

    Trainers save what they trained with beside the adapter. The base's is what is used here, so a different one would
    ask the model in a form that it was not trained for.
    """
    if not tokenizer.chat_template:
        return
    own = _own(adapter, tokenizer)
    if own is None:
        return
    for conversation in _CONVERSATIONS:
        messages: list[Message] = [{"role": role, "content": text} for role, text in conversation]
        if _tokens(own, messages) != _tokens(tokenizer, messages):
            raise InputError(
                f"{adapter}: the tokenizer and chat template in this folder form other tokens than the base's for a "
                f"conversation of {', '.join(role for role, _ in conversation)}. If what is in it was trained with "
                "them, copy them into the base's folder; if not, remove them from this one"
            )


def _own(adapter: Path, tokenizer: Tokenizer) -> Tokenizer | None:
    """The tokenizer in the folder, or the base's with the folder's template; None where the folder has neither."""
    if (adapter / "tokenizer.json").exists():
        own = load_tokenizer(adapter)
        # Without a template of its own it is the vocabulary alone that could differ.
        own.chat_template = own.chat_template or tokenizer.chat_template
        return own
    template, config = adapter / "chat_template.jinja", adapter / "tokenizer_config.json"
    if template.exists():
        text: Json = read_text(template)
    else:
        text = read_json(config).get("chat_template") if config.exists() else None
    if not isinstance(text, str):
        return None
    own = copy.copy(tokenizer)
    own.chat_template = text
    return own


def _tokens(tokenizer: Tokenizer, messages: list[Message]) -> list[int] | None:
    """Token ids, or None where the template refuses the conversation."""
    chat = ChatFormat(tokenizer)
    try:
        return chat.prompt_ids(messages)
    except InputError:
        return None
