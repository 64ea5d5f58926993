"""Chat records: rows of messages, checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

from sgtr_jax.data.file_forms import seems
from sgtr_jax.data.row_formats import Columns, RowFormat, renamed, to_messages
from sgtr_jax.data.row_keys import check_row, is_trained, says_nothing, system_of
from sgtr_jax.data.table_files import is_table, table_rows
from sgtr_jax.errors import InputError
from sgtr_jax.files import begins_with, first_line, parse_json, read_jsonl, read_text
from sgtr_jax.json_types import Json, JsonObject

ROLES = ("system", "user", "assistant")
_ROLE_HINTS = {
    "developer": "; write system, which it is a newer word for",
    "tool": "; calls of tools are not trained on",
    "function": "; calls of functions are not trained on",
    "human": "; conversations of human and gpt are ShareGPT's: put them under 'conversations', format=sharegpt",
    "gpt": "; conversations of human and gpt are ShareGPT's: put them under 'conversations', format=sharegpt",
}


class Message(TypedDict):
    """One turn of a conversation."""

    role: str  # one of ROLES
    content: str
    weight: NotRequired[int]  # 0: an assistant's turn without a loss on it, as in OpenAI's format
    tool_calls: NotRequired[list[JsonObject]]  # by the assistant, in prompts only: as chat templates take them


class RecordRow(TypedDict):
    """A record as it is stored."""

    id: str
    messages: list[Message]
    meta: NotRequired[JsonObject]


@dataclass(frozen=True)
class Record:
    """One conversation. `id` names it in errors and outputs; `meta` is carried along, never read."""

    id: str
    messages: tuple[Message, ...]
    meta: JsonObject = field(default_factory=dict)

    def to_json(self) -> RecordRow:
        """The row as it is stored."""
        row: RecordRow = {"id": self.id, "messages": list(self.messages)}
        if self.meta:
            row["meta"] = self.meta
        return row


def parse_messages(row: Mapping[str, Json], where: str) -> tuple[Message, ...]:
    """The `messages` of a row, checked. Raises InputError."""
    messages = to_messages(row, "messages", where)["messages"]
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where}: expected a non-empty list under 'messages', found {messages!r:.60}")
    system = system_of(row, where)
    parsed: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    for i, message in enumerate(messages):
        at = f"{where}: messages[{i}]"
        if not isinstance(message, dict):
            raise InputError(f"{at}: expected an object with role and content, found {message!r:.60}")
        role, content = message.get("role"), _text_of(message.get("content"))
        if role not in ROLES:
            hint = _ROLE_HINTS.get(role, "") if isinstance(role, str) else _turn_hint(message)
            raise InputError(f"{at}: role is {role!r:.60}; expected one of {', '.join(ROLES)}{hint}")
        trained = is_trained(message, at)
        if not isinstance(content, str):
            raise InputError(f"{at}: content is {content!r:.60}; expected text, or a list of parts that are all text")
        if role != "system" and not content.strip():
            raise InputError(f"{at}: the {role}'s turn is empty; leave the row out")
        one: Message = {"role": role, "content": content}
        if not trained and role == "assistant":
            one["weight"] = 0
        parsed.append(one)
    return tuple(parsed)


def _turn_hint(message: Mapping[str, Json]) -> str:
    """What a message without a role seems to be."""
    if "from" in message and "value" in message:
        return "; turns of from and value are ShareGPT's: put them under 'conversations', format=sharegpt"
    return f"; the message has the keys {', '.join(message)}" if "role" not in message else ""


def _text_of(content: Json) -> Json:
    """The text of a content that is given in parts, all of them text; anything else as it is."""
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        return "".join(part["text"] for part in content)
    return content


def _is_text_part(part: Json) -> bool:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        return False
    return all(says_nothing(key, value) for key, value in part.items() if key not in ("type", "text"))


def read_prompts(path: Path) -> list[Record]:
    """Read prompts to sample from: rows `{"id", "messages"}` that do not end with the assistant."""
    records, seen = [], set()
    ignored: set[str] = set()
    for where, row in file_rows(path):
        ignored |= check_row(row, where)
        record = Record(_id_of(row, where), parse_messages(row, where))
        if record.messages[-1]["role"] == "assistant":
            raise InputError(f"{where}: the last message is the assistant's; nothing is left to sample")
        if record.id in seen:
            raise InputError(f"{where}: id {record.id!r} appears twice; ids name the outputs")
        seen.add(record.id)
        records.append(record)
    _say_ignored(path, ignored)
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


def read_training(path: Path, form: RowFormat = "messages", columns: Columns | None = None) -> list[Record]:
    """Read training rows: `messages` with at least one assistant turn that follows another turn.

    A file is JSONL, one JSON list of rows, Parquet or CSV. Columns without effect are said once.
    Raises InputError naming file and line.
    """
    return training_records(file_rows(path), str(path), form, columns)


def training_records(
    rows: Iterable[tuple[str, JsonObject]], name: str, form: RowFormat, columns: Columns | None = None
) -> list[Record]:
    """Training records of rows, of which it is known where each stands; `name` is that of all of them.

    Raises InputError.
    """
    ignored: set[str] = set()
    records = list(_parsed(rows, form, columns, ignored))
    _say_ignored(name, ignored)
    return records


def _parsed(
    rows: Iterable[tuple[str, JsonObject]], form: RowFormat, columns: Columns | None, ignored: set[str]
) -> Iterator[Record]:
    """The records of rows, one by one; columns without effect are added to `ignored`. Raises InputError."""
    seen: set[str] = set()
    for where, row in rows:
        formed = to_messages(renamed(row, columns or {}, where), form, where)
        ignored |= check_row(formed, where)
        record = parse_training(formed, where, where)
        if record.id in seen:
            raise InputError(f"{where}: id {record.id!r} appears twice; give each row its own, or none an id")
        seen.add(record.id)
        yield record


def check_rows(path: Path, form: RowFormat = "messages", columns: Columns | None = None) -> None:
    """Read all rows of a training file, so that a broken one is refused before anything is computed.

    Raises InputError, which names the first row that cannot be trained on.
    """
    for _ in _parsed(file_rows(path), form, columns, set()):
        pass


def file_rows(path: Path) -> Iterator[tuple[str, JsonObject]]:
    """Where each row of a file stands, and the row: of JSONL, of one JSON list, or of a table. Raises InputError."""
    if is_table(path):
        yield from table_rows(path)
        return
    if not begins_with(path, "["):
        try:
            yield from read_jsonl(path)
        except InputError as error:
            hint = seems(first_line(path))
            raise InputError(f"{error}. {hint}" if hint is not None else str(error)) from None
        return
    listed = parse_json(read_text(path), str(path))
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{path}: the list has no rows")
    for i, row in enumerate(listed):
        if not isinstance(row, dict):
            raise InputError(f"{path}: row {i + 1} is {json.dumps(row):.60}; expected an object")
        yield f"{path}: row {i + 1}", row


def _say_ignored(path: Path | str, columns: set[str]) -> None:
    if columns:
        print(f"{path}: columns that have no effect: {', '.join(sorted(columns))}", file=sys.stderr)


def parse_training(row: Mapping[str, Json], where: str, name: str) -> Record:
    """One training row; `name` is its id where it has none. Raises InputError."""
    messages = parse_messages(row, where)
    if not any(message["role"] == "assistant" for message in messages):
        raise InputError(f"{where}: no assistant turn, so there is nothing to train on")
    if not any(is_target(message) for message in messages):
        raise InputError(f"{where}: every assistant turn has weight 0, so there is nothing to train on")
    if messages[-1]["role"] != "assistant":
        raise InputError(f"{where}: the last message is {messages[-1]['role']}'s; expected assistant")
    if messages[0]["role"] == "assistant":
        raise InputError(f"{where}: the first message is the assistant's; expected system or user")
    return Record(_id_of(row, name), messages)


def is_target(message: Message) -> bool:
    """Whether the loss is on a turn: the assistant's, unless its weight is 0."""
    return message["role"] == "assistant" and message.get("weight", 1) != 0


def _id_of(row: Mapping[str, Json], where: str) -> str:
    value = where if row.get("id") is None else row["id"]
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{where}: id is {value!r}; expected text or a whole number")
    return str(value)


def to_jsonl(records: Sequence[Record]) -> list[RecordRow]:
    """Rows for `files.write_jsonl`."""
    return [record.to_json() for record in records]
