"""What the keys of a row and of a message mean for training: honoured, without effect, or refused.

No key that could change what is trained is dropped. A message has few keys, so one that is not known is refused. Rows
carry columns of their owners' (topic, source, score): those are ignored, and said once a file, unless their name is one
that a trainer reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sgtr_jax.errors import InputError
from sgtr_jax.json_types import Json

_MESSAGE_WITHOUT_EFFECT = {"id", "timestamp", "date", "create_time", "model"}
_ROW_KNOWN = {"id", "messages", "meta"}
# Keys that OpenAI's API, TRL, axolotl, LLaMA-Factory or a chat template reads, each of which changes what is trained.
_ROW_REFUSED = {
    "tools": "tool definitions become part of the prompt",
    "functions": "function definitions become part of the prompt",
    "tool_choice": "tools are not rendered",
    "function_call": "functions are not rendered",
    "parallel_tool_calls": "tools are not rendered",
    "documents": "documents become part of the prompt",
    "chat_template": "the tokenizer's own chat template is used",
    "chat_template_kwargs": "give them for the whole run as template_kwargs",
    "enable_thinking": "give it for the whole run in template_kwargs",
    "thinking": "thinking is not rendered",
    "reasoning": "reasoning is not rendered",
    "reasoning_content": "reasoning is not rendered",
    "weight": "rows have no weight; a message has (weight: 0 or 1)",
    "loss_weight": "rows have no weight; a message has (weight: 0 or 1)",
    "sample_weight": "rows have no weight; a message has (weight: 0 or 1)",
    "train": "a message has it (train: false), a row has not",
    "training": "a message has train: false, a row has not",
    "label": "examples of what is wanted and what is not (KTO) are not trained on",
    "train_on_input": "the loss is on assistant turns only",
    "train_on_inputs": "the loss is on assistant turns only",
    "labels": "labels are made from the messages",
    "input_ids": "token ids are made from the messages",
    "prompt": "the row has messages, too",
    "completion": "the row has messages, too",
    "conversations": "the row has messages, too",
    "conversation": "the row has messages, too",
    "instruction": "the row has messages, too",
    "chosen": "preference pairs are not trained on",
    "rejected": "preference pairs are not trained on",
    "images": "this is a text model",
    "image": "this is a text model",
    "videos": "this is a text model",
    "audios": "this is a text model",
    "history": "earlier turns belong into messages",
    "available_tools": "tool definitions become part of the prompt",
    "train_on": "the loss is on assistant turns only",
    "train_on_completion": "the loss is on assistant turns only",
    "train_on_eos": "the end of a trained turn is always trained",
    "roles_to_train": "the loss is on assistant turns only",
    "only_last": "the loss is on all assistant turns; a message may have train: false",
    "skip": "every row of a file is trained on",
    "exclude": "every row of a file is trained on",
    "drop": "every row of a file is trained on",
    "deleted": "every row of a file is trained on",
    "use": "every row of a file is trained on",
    "is_train": "every row of a file is trained on",
    "system_instruction": "name it system",
    "tools_json": "tool definitions become part of the prompt",
    "ignore": "every row of a file is trained on",
    "system_message": "name it system",
    "instructions": "put them into a system message",
    "preprompt": "put it into a system message",
    "sys_prompt": "name it system",
    "systemprompt": "name it system",
    "model_identity": "put it into a system message",
    "builtin_tools": "tool definitions become part of the prompt",
    "reasoning_effort": "give it for the whole run in template_kwargs",
    "rejected_response": "preference pairs are not trained on",
    "rejected_messages": "preference pairs are not trained on",
    "train_on_turn": "a message may have train: false",
}
# What is no word of a trainer that is known, and yet says by its name that it weighs or hides something.
_STEERS = re.compile(
    r"(?:^|[^a-z])(?:(?:up|down|re|over|under)?weights?|importance|masks?|masked|loss|losses|trainable)(?:$|[^a-z])",
    re.IGNORECASE,
)
# Of these, false is what happens anyway. Of others it is not: `loss: false`, `enable_thinking: false`.
_FALSE_IS_NOTHING = {
    "tools", "functions", "tool_choice", "tool_calls", "function_call", "parallel_tool_calls", "documents", "prefix",
    "train_on_input", "train_on_inputs", "images", "image", "videos", "audios", "audio", "refusal", "available_tools",
    "skip", "ignore", "only_last", "exclude", "drop", "deleted", "tools_json",
}  # fmt: skip
_SYSTEM = ("system", "system_prompt")


def says_nothing(key: str, value: Json) -> bool:
    """Whether a value is what writers of tables put where a row has no such key."""
    return value is None or value in ("", [], {}) or (value is False and key in _FALSE_IS_NOTHING)


def check_row(row: Mapping[str, Json], where: str) -> set[str]:
    """The columns of a row that have no effect. Raises InputError for one that would change what is trained."""
    ignored = set()
    for key, value in row.items():
        plain = _plain(key)
        why = _ROW_REFUSED.get(plain)
        if why is None and _STEERS.search(key):
            why = "its name says that it weighs or hides something"
        if plain in _SYSTEM and key not in _SYSTEM:
            why = f"name it {plain}"
        if why is not None and not _is_as_usual(plain, value, row):
            raise InputError(
                f"{where}: the key {key!r} would change what is trained, and is not honoured ({why}); leave it out"
            )
        if why is None and key not in _ROW_KNOWN and key not in _SYSTEM:
            ignored.add(key)
    return ignored


def _plain(key: str) -> str:
    """A key as trainers write it: `systemPrompt` and `System-Prompt` are `system_prompt`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).replace("-", "_").replace(" ", "_").lower()


def _is_as_usual(key: str, value: Json, row: Mapping[str, Json]) -> bool:
    """Whether a key that could change what is trained has a value that does not."""
    if key.endswith("weight"):
        return value is None or (value == 1 and value is not True)
    if key in ("use", "exclude", "drop", "deleted") and not isinstance(value, bool | int):
        return True  # a text about something else
    if key in ("train", "training", "train_on_completion", "is_train", "use"):
        return value is None or value is True
    if key == "label" and not isinstance(value, bool):
        return True  # the name of a class
    if key == "prompt" and isinstance(value, str) and value in _asked_first(row):
        return True  # a column that repeats the question
    return says_nothing(key, value)


def _asked_first(row: Mapping[str, Json]) -> list[Json]:
    messages = row.get("messages")
    listed = messages if isinstance(messages, list) else []
    return [turn.get("content") for turn in listed if isinstance(turn, dict) and turn.get("role") == "user"][:1]


def system_of(row: Mapping[str, Json], where: str) -> str | None:
    """The text of a `system` beside `messages`, which is the conversation's system message. Raises InputError."""
    given = {key: row[key] for key in _SYSTEM if row.get(key) not in (None, "")}
    if len(given) > 1:
        raise InputError(f"{where}: both {' and '.join(given)} are there; keep one")
    for key, system in given.items():
        if not isinstance(system, str):
            raise InputError(f"{where}: {key} is {system!r:.60}; expected text")
        first = _first_system(row)
        if first is None:
            return system
        if system != first:
            raise InputError(f"{where}: a {key!r} stands beside messages that begin with another system message")
    return None


def _first_system(row: Mapping[str, Json]) -> Json:
    """The content of the system message that a row's messages begin with."""
    messages = row.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    return first.get("content") if isinstance(first, dict) and first.get("role") == "system" else None


def is_trained(message: Mapping[str, Json], at: str) -> bool:
    """Whether the loss is on a message, where its keys `weight` (OpenAI) and `train` (axolotl) decide.

    Raises InputError for values that are not honoured, and for keys of a message that are not known.
    """
    for key, value in message.items():
        if key not in ("role", "content", "weight", "train", *_MESSAGE_WITHOUT_EFFECT) and not says_nothing(key, value):
            raise InputError(
                f"{at}: the key {key!r} could change what is trained, and is not honoured; leave the row out, or the "
                "key if it has no effect"
            )
    weight, train = message.get("weight"), message.get("train")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise InputError(f"{at}: weight is {weight!r:.40}; expected 0 (no loss on this message) or 1")
    if train is not None and not isinstance(train, bool):
        raise InputError(f"{at}: train is {train!r:.40}; expected true, or false (no loss on this message)")
    marked = [value for value in (None if weight is None else bool(weight), train) if value is not None]
    if len(set(marked)) > 1:
        raise InputError(f"{at}: weight is {weight!r} and train {train!r}, which say opposite things; keep one")
    if any(marked) and message.get("role") != "assistant":
        raise InputError(f"{at}: the loss can be on the assistant's messages only, and this is the {message['role']}'s")
    return marked[0] if marked else message.get("role") == "assistant"
