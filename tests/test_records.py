"""Strict reading: every bad file is refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgtr_jax.data.records import Record, read_prompts, read_training
from sgtr_jax.errors import InputError

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def write(path: Path, *lines: bytes | dict[str, object]) -> Path:
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return path


def turns(*roles: str) -> dict[str, object]:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


@pytest.mark.parametrize(
    ("lines", "where", "part"),
    [
        ((), "", "empty"),
        ((b"  ", b""), "", "empty"),
        ((GOOD, b"{not json"), ":2", "not JSON"),
        ((b"[1, 2]",), ": row 1", "expected an object"),
        ((GOOD, b'{"messages": [{"role": "user", "content": "caf\xe9"}]}'), ":2", "UTF-8"),
        ((b"[" * 200_000,), "", "nested too deeply"),
        (({"text": "x"},), ":1", "'messages'"),
        (({"messages": []},), ":1", "non-empty"),
        (({"messages": ["x"]},), ":1", "messages[0]"),
        (({"messages": [{"role": "bot", "content": "x"}]},), ":1", "'bot'"),
        (({"messages": [{"role": "user", "content": None}]},), ":1", "expected text"),
        ((GOOD, turns("user")), ":2", "no assistant turn"),
        ((turns("user", "assistant", "user"),), ":1", "last message"),
        ((turns("assistant"),), ":1", "first message"),
        (({**GOOD, "id": [1]},), ":1", "id is [1]"),
    ],
)
def test_bad_training_rows(tmp_path: Path, lines: tuple[bytes, ...], where: str, part: str) -> None:
    path = write(tmp_path / "d.jsonl", *lines)
    with pytest.raises(InputError) as caught:
        read_training(path)
    assert f"d.jsonl{where}" in str(caught.value) and part in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_long_line_is_read_and_a_missing_file_named(tmp_path: Path) -> None:
    long = {"id": "long", "messages": [{"role": "user", "content": "x" * 10_000_000}, GOOD["messages"][1]]}
    (record,) = read_training(write(tmp_path / "d.jsonl", long))
    assert len(record.messages[0]["content"]) == 10_000_000
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read"):
        read_training(tmp_path / "none.jsonl")


def test_ids_default_to_file_and_line_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\r\n\r\n" + json.dumps({**GOOD, "id": 7}).encode())
    assert [record.id for record in read_training(path)] == [f"{path}:1", "7"]


def test_prompts_end_before_the_assistant_and_have_ids_of_their_own(tmp_path: Path) -> None:
    asked = turns("system", "user")
    assert read_prompts(write(tmp_path / "p.jsonl", {**asked, "id": "a"}, {**asked, "id": "b"}))[1].id == "b"
    with pytest.raises(InputError, match=r"p\.jsonl:1: .*nothing is left to sample"):
        read_prompts(write(tmp_path / "p.jsonl", GOOD))
    with pytest.raises(InputError, match=r"p\.jsonl:2: id 'a' appears twice"):
        read_prompts(write(tmp_path / "p.jsonl", {**asked, "id": "a"}, {**asked, "id": "a"}))


def test_records_round_trip() -> None:
    record = Record("a", ({"role": "user", "content": "é\u2028"},), {"n": 1})
    assert json.loads(json.dumps(record.to_json())) == {"id": "a", "messages": list(record.messages), "meta": {"n": 1}}


def test_empty_turns_and_ids_that_stand_twice_are_refused(tmp_path: Path) -> None:
    empty = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " "}]}
    with pytest.raises(InputError, match=r"f\.jsonl:2: messages\[1\]: the assistant's turn is empty"):
        read_training(write(tmp_path / "f.jsonl", GOOD, empty))
    with pytest.raises(InputError, match=r"f\.jsonl:3: id 'a' appears twice"):
        read_training(write(tmp_path / "f.jsonl", {**GOOD, "id": "a"}, {**GOOD, "id": "b"}, {**GOOD, "id": "a"}))
    # An empty system message is a condition of the study.
    kept = {"messages": [{"role": "system", "content": ""}, *GOOD["messages"]]}
    assert len(read_training(write(tmp_path / "g.jsonl", kept))) == 1
