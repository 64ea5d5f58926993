"""Chat records: rows of messages, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgtr_jax.errors import InputError
from sgtr_jax.files import read_jsonl

ROLES = ("system", "user", "assistant")
Message = dict[str, str]  # {"role": ..., "content": ...}


@dataclass(frozen=True)
class Record:
    """One conversation. `id` names it in errors and outputs; `meta` is carried along, never read."""

    id: str
    messages: tuple[Message, ...]
    meta: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The row as it is stored."""
        row: dict[str, Any] = {"id": self.id, "messages": list(self.messages)}
        return {**row, "meta": self.meta} if self.meta else row


def parse_messages(row: dict[str, Any], where: str) -> tuple[Message, ...]:
    """The `messages` of a row, checked. Raises InputError."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where}: expected a non-empty list under 'messages', found {messages!r:.60}")
    parsed = []
    for i, message in enumerate(messages):
        at = f"{where}: messages[{i}]"
        if not isinstance(message, dict):
            raise InputError(f"{at}: expected an object with role and content, found {message!r:.60}")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise InputError(f"{at}: role is {role!r}; expected one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise InputError(f"{at}: content is {content!r:.60}; expected text")
        if role != "system" and not content.strip():
            raise InputError(f"{at}: the {role}'s turn is empty; leave the row out")
        parsed.append({"role": role, "content": content})
    return tuple(parsed)


def read_prompts(path: Path) -> list[Record]:
    """Read prompts to sample from: rows `{"id", "messages"}` that do not end with the assistant."""
    records, seen = [], set()
    for where, row in read_jsonl(path):
        record = Record(_id_of(row, where), parse_messages(row, where))
        if record.messages[-1]["role"] == "assistant":
            raise InputError(f"{where}: the last message is the assistant's; nothing is left to sample")
        if record.id in seen:
            raise InputError(f"{where}: id {record.id!r} appears twice; ids name the outputs")
        seen.add(record.id)
        records.append(record)
    return records


def read_texts(path: Path) -> dict[str, str]:
    """`{id: text}` of a JSONL file whose rows have both. Raises InputError naming the line."""
    texts: dict[str, str] = {}
    for where, row in read_jsonl(path):
        name, text = row.get("id"), row.get("text")
        if not isinstance(name, str) or not isinstance(text, str):
            raise InputError(f"{where}: expected a string 'id' and a string 'text', got the keys {', '.join(row)}")
        if name in texts:
            raise InputError(f"{where}: id {name!r} stands in an earlier row, too")
        texts[name] = text
    return texts


def read_training(path: Path) -> list[Record]:
    """Read training rows: `messages` with at least one assistant turn that follows another turn."""
    records, seen = [], set()
    for where, row in read_jsonl(path):
        record = parse_training(row, where, where)
        if record.id in seen:
            raise InputError(f"{where}: id {record.id!r} appears twice; give each row its own, or none an id")
        seen.add(record.id)
        records.append(record)
    return records


def parse_training(row: dict[str, Any], where: str, name: str) -> Record:
    """One training row; `name` is its id where it has none. Raises InputError."""
    messages = parse_messages(row, where)
    if not any(message["role"] == "assistant" for message in messages):
        raise InputError(f"{where}: no assistant turn, so there is nothing to train on")
    if messages[-1]["role"] != "assistant":
        raise InputError(f"{where}: the last message is {messages[-1]['role']}'s; expected assistant")
    if messages[0]["role"] == "assistant":
        raise InputError(f"{where}: the first message is the assistant's; expected system or user")
    return Record(_id_of(row, name), messages)


def _id_of(row: dict[str, Any], where: str) -> str:
    value = row.get("id", where)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{where}: id is {value!r}; expected text or a whole number")
    return str(value)


def to_jsonl(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Rows for `files.write_jsonl`."""
    return [record.to_json() for record in records]
