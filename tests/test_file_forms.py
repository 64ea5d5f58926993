"""A file or a row of another form is called what it is, in one message that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgtr_jax.data.records import read_training
from sgtr_jax.errors import InputError
from sgtr_jax.files import read_jsonl

ASKED = {"role": "user", "content": "Which paint dries last?"}
TOLD = {"role": "assistant", "content": "The blue one."}
ROW: dict[str, Any] = {"messages": [ASKED, TOLD]}
LINE = json.dumps(ROW)

FILES: list[tuple[str, bytes, str]] = [
    ("rows.jsonl", LINE.encode("utf-16-le"), "UTF-16 without a byte order mark"),
    ("rows.jsonl", f"{LINE}\n{LINE}\n".encode("utf-16-be"), "UTF-16 without a byte order mark"),
    ("rows.jsonl", LINE.encode("utf-32-be"), "UTF-32 without a byte order mark"),
    ("rows.csv", "id,messages\na,[]\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
    ("rows.jsonl", "\ufeff\ufeff".encode() + LINE.encode(), "two byte order marks"),
    ("rows.jsonl", json.dumps(ROW, indent=4).encode(), "one JSON object over several lines"),
    ("rows.jsonl", b'{"messages": [\n{"role": "user"}]}\n', "one JSON object over several lines"),
    ("rows.json", json.dumps({"data": [ROW]}, indent=1).encode(), "one JSON object over several lines"),
    ("rows.json", json.dumps({"data": [ROW, ROW]}).encode(), "a list under 'data'"),
    ("rows.json", json.dumps({"test": [{"prompt": "a", "completion": "b"}]}).encode(), "a list under 'test'"),
    ("rows.jsonl", f"{LINE},\n{LINE},\n".encode(), "end with commas"),
    ("rows.jsonl", (LINE + LINE).encode(), "Several objects stand in one line"),
    ("rows.jsonl", f"{LINE}\r{LINE}\r".encode(), "Several objects stand in one line"),
    ("rows.jsonl", str(ROW).encode(), "Python's form"),
    ("rows.tsv", b"id\tmessages\na\t[]\n", "divided by tabs"),
    ("rows.csv", b"id\tmessages\na\t[]\n", "divided by '\\t'"),
    ("rows.csv", b"id;messages\na;[]\n", "divided by ';'"),
    ("rows.jsonl", b'id,messages\na,"[]"\n', "a CSV table"),
    ("rows.jsonl", b"<html><body>404</body></html>\n", "a web page"),
    ("rows.jsonl", b"- messages:\n  - role: user\n", "YAML"),
    ("rows.jsonl", b"// made by hand\n" + LINE.encode(), "no comments"),
    ("rows.jsonl", json.dumps({"text": "Paint dries."}).encode(), "A text without turns"),
    ("rows.jsonl", json.dumps({"question": "a", "answer": "b"}).encode(), "columns: {prompt: question"),
    ("rows.jsonl", json.dumps({"custom_id": "1", "body": ROW}).encode(), "under 'body'"),
    ("rows.jsonl", json.dumps({"contents": [{"role": "user", "parts": [{"text": "a"}]}]}).encode(), "Gemini's form"),
    (
        "rows.jsonl",
        json.dumps({"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}).encode(),
        "format=sharegpt",
    ),
    ("rows.jsonl", json.dumps({"messages": [{"speaker": "user", "content": "a"}]}).encode(), "keys speaker, content"),
    ("rows.jsonl", json.dumps({"instruction": "a", "output": "b", "text": "c"}).encode(), "format=alpaca"),
]


@pytest.mark.parametrize(
    ("name", "content", "said"), FILES, ids=[f"{i}-{said[:20]}" for i, (*_, said) in enumerate(FILES)]
)
def test_what_it_is_and_what_to_do(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        read_training(path)
    message = str(caught.value)
    assert said in message and "\n" not in message and len(message) - len(str(path)) < 400


@pytest.mark.parametrize(
    "second",
    [b'{"messages": 3}', LINE.encode()[:-9], b'{"id": ' + b"9" * 5000 + b"}", b'{"a":' * 9000 + b"1" + b"}" * 9000],
)
def test_nothing_is_guessed_of_a_file_whose_rows_begin_well(tmp_path: Path, second: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    for content, line in ((LINE.encode() + b"\n" + second + b"\n", 2), (second + b"\n" + LINE.encode() + b"\n", 1)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"rows\.jsonl:{line}") as caught:
            read_training(path)
        assert "seem" not in str(caught.value)


def test_texts_that_hold_zeros_and_marks_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + json.dumps({"a": "\0b\0c \ufeff\ufeff"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [row for _, row in read_jsonl(path)] == [{"a": "\0b\0c \ufeff\ufeff"}]
