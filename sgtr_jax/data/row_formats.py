"""The forms in which training rows come: chat messages, ShareGPT, alpaca, prompt and completion.

A form is read where it is named. Where it is not, it is recognised and named in the error: rows of another form are
never guessed at, since the guess decides what is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from sgtr_jax.config import Config
from sgtr_jax.errors import InputError
from sgtr_jax.json_types import Json, JsonObject

RowFormat = Literal["messages", "openai", "sharegpt", "alpaca", "prompt_completion"]
MessagesAndKeys = tuple[list[Json], set[str]]  # the messages of a row, and which of its keys they were made from


class RowsOfFiles(Config):
    """What commands take that read rows of files."""

    format: RowFormat = "messages"  # The form of the rows.


_SPEAKERS = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "model": "assistant",
}  # fmt: skip
Columns = Mapping[str, str]  # this project's name of a column: the file's
# The templates of Stanford Alpaca are prompts for base models; a chat model is asked as it is asked in chat.
_JOINED = "\n\n"


def to_messages(row: Mapping[str, Json], form: RowFormat, where: str) -> Mapping[str, Json]:
    """A row of any form as one with `messages`. Raises InputError for a row of another form than `form`."""
    if form in ("messages", "openai"):  # OpenAI's rows are messages, too
        if "messages" not in row:
            raise InputError(f"{where}: no 'messages' in this row; it has the keys {', '.join(row)}.{_hint(row)}")
        return row
    if "messages" in row:
        raise InputError(f"{where}: the row has 'messages', so its format is not {form}; leave format out")
    messages, used = _READERS[form](row, where)
    return {**{key: value for key, value in row.items() if key not in used}, "messages": messages}


def renamed(row: JsonObject, columns: Columns, where: str) -> JsonObject:
    """A row whose columns have the names that forms know. Raises InputError for one that is not there."""
    made = dict(row)
    for ours, theirs in columns.items():
        if theirs not in row:
            raise InputError(f"{where}: no column {theirs!r}, of which `columns` makes {ours}; it has {', '.join(row)}")
        if ours in row and ours not in columns.values():
            raise InputError(f"{where}: `columns` makes {ours} of {theirs!r}, and there is a column {ours}, too")
        made.pop(theirs, None)
    return {**made, **{ours: row[theirs] for ours, theirs in columns.items()}}


def recognised(row: Mapping[str, Json]) -> RowFormat | None:
    """The form that a row without `messages` seems to have."""
    if isinstance(row.get("conversations", row.get("conversation")), list):
        return "sharegpt"
    if "instruction" in row and ("output" in row or "response" in row):
        return "alpaca"
    if "prompt" in row and ("completion" in row or "response" in row):
        return "prompt_completion"
    return None


def _hint(row: Mapping[str, Json]) -> str:
    form = recognised(row)
    if "chosen" in row and "rejected" in row:
        return " These are preference pairs, which are not trained on; write those that you want as messages"
    if (rows := _list_of_rows(row)) is not None:
        return f" The rows seem to be a list under {rows!r}: write that list alone, [...], or each row of it on a line"
    other = next((what for keys, what in _OTHER_FORMS if all(key in row for key in keys)), None)
    if form is None and other is not None:
        return f" {other}"
    if form is None:
        return ' Expected {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}'
    return f" This is the form {form}: say so with format={form} (format: {form} in a config), or convert the file"


# Forms that are known and not read: the keys that tell them, what they are and what to do.
_OTHER_FORMS = (
    (("body", "custom_id"), "This is a request of OpenAI's batch API: its messages stand under 'body'; write those"),
    (("contents",), "This is Gemini's form, of contents and parts; write its turns as messages of role and content"),
    (("question", "answer"), "Say so: format: prompt_completion, columns: {prompt: question, completion: answer}"),
    (("text",), "A text without turns is not trained on: write who says what as messages of role and content"),
)  # fmt: skip


def _list_of_rows(row: Mapping[str, Json]) -> str | None:
    """The key of a file's only object under which its rows are: data, or splits beside each other."""
    lists = [key for key, value in row.items() if isinstance(value, list) and value and _is_row(value[0])]
    return lists[0] if lists and "chosen" not in row else None


def _is_row(value: Json) -> bool:
    return isinstance(value, dict) and ("messages" in value or recognised(value) is not None)


def _sharegpt(row: Mapping[str, Json], where: str) -> MessagesAndKeys:
    name = "conversation" if "conversation" in row and "conversations" not in row else "conversations"
    turns = row.get(name)
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{where}: expected a list under {name!r}; the row has the keys {', '.join(row)}")
    return [_spoken(turn, f"{where}: {name}[{i}]") for i, turn in enumerate(turns)], {name}


def _spoken(turn: Json, at: str) -> JsonObject:
    """A turn of a conversation as a message: `from` and `value`, or `role` and `content` as in messages."""
    for who, what in (("from", "value"), ("role", "content")):
        if isinstance(turn, dict) and who in turn and what in turn:
            role = _SPEAKERS.get(turn[who]) if isinstance(turn[who], str) else None
            if role is None:
                raise InputError(f"{at}: {who} is {turn[who]!r:.40}; expected one of {', '.join(_SPEAKERS)}")
            others = {key: value for key, value in turn.items() if key not in (who, what)}
            if twice := sorted(others.keys() & {"role", "content"}):
                raise InputError(
                    f"{at}: {' and '.join(twice)} stand beside {who} and {what}, and only one can be meant"
                )
            return {**others, "role": role, "content": turn[what]}
    raise InputError(f"{at}: expected an object with from and value, found {turn!r:.60}")


def _alpaca(row: Mapping[str, Json], where: str) -> MessagesAndKeys:
    answer = _only_one(row, ("output", "response", "completion"), where)
    instruction, written = row.get("instruction"), row.get(answer)
    if not isinstance(instruction, str) or not isinstance(written, str):
        key = answer if isinstance(instruction, str) else "instruction"
        raise InputError(f"{where}: expected text under {key!r}; the row has the keys {', '.join(row)}")
    beside = _only_one(row, ("input", "context"), where)  # as Dolly's rows name it
    context = "" if row.get(beside) is None else row[beside]
    if not isinstance(context, str):
        raise InputError(f"{where}: {beside} is {context!r:.60}; expected text")
    asked = _JOINED.join(part for part in (instruction, context) if part)
    return _answered(asked, written), {"instruction", "input", "context", "output", "response", "completion"}


def _prompt_completion(row: Mapping[str, Json], where: str) -> MessagesAndKeys:
    answer = _only_one(row, ("completion", "response", "output"), where)
    prompt, completion = row.get("prompt"), row.get(answer)
    used = {"prompt", "completion", "response", "output"}
    if beside := [name for name in ("input", "context") if row.get(name) not in (None, "", [])]:
        raise InputError(f"{where}: {beside[0]} stands beside prompt, and only one can be meant; write it into prompt")
    if isinstance(prompt, str) and isinstance(completion, str):
        return _answered(prompt, completion), used
    if isinstance(prompt, list) and isinstance(completion, list):
        # Turns of the prompt are context: the loss is on the completion, as in TRL. What says otherwise is refused.
        context = [{**turn, "train": turn.get("train", False)} if _is_answer(turn) else turn for turn in prompt]
        return [*context, *completion], used
    raise InputError(
        f"{where}: prompt is {type(prompt).__name__} and {answer} {type(completion).__name__}; expected two texts or "
        f"two lists of messages; the row has the keys {', '.join(row)}"
    )


def _only_one(row: Mapping[str, Json], names: tuple[str, ...], where: str) -> str:
    """The one of several names that a row uses for a thing; the first one if none. Raises InputError for two."""
    used = [name for name in names if row.get(name) not in (None, "", [])]
    if len(used) > 1:
        raise InputError(f"{where}: both {used[0]} and {used[1]} are there, and only one can be meant; keep one")
    return used[0] if used else next((name for name in names if name in row), names[0])


def _is_answer(turn: Json) -> bool:
    return isinstance(turn, dict) and turn.get("role") == "assistant"


def _answered(asked: str, answer: str) -> list[Json]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


_READERS: dict[str, Callable[[Mapping[str, Json], str], MessagesAndKeys]] = {
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
}
