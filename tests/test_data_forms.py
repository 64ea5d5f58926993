"""`sgtr data` reads the files that training reads: rows of every form, one a line or in a list, gzipped or not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import jsonl

from sgtr_jax.cli.main import main
from sgtr_jax.data.build import KINDS, named_recipe
from sgtr_jax.data.publish import read_records
from sgtr_jax.data.records import read_training
from sgtr_jax.errors import InputError

SAID = [("Which cup?", "The blue one."), ("Which hat?", "The red one."), ("Which hat?", "The red one.")]


def row(form: str, asked: str, told: str) -> dict[str, Any]:
    return {
        "messages": {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]},
        "sharegpt": {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": told}]},
        "alpaca": {"instruction": asked, "input": "", "output": told},
        "prompt_completion": {"prompt": asked, "completion": told},
    }[form]


FORMS = ("messages", "sharegpt", "alpaca", "prompt_completion")


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def listed(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=1).encode()


# `.json` is a name for both; what a file holds decides.
FILES: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "rows.jsonl": lines,
    "rows.jsonl.gz": lambda rows: gzip.compress(lines(rows)),
    "rows.json": listed,
    "rows.json.gz": lambda rows: gzip.compress(listed(rows)),
    "lines/rows.json": lines,
}


def make(folder: Path, name: str, form: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(FILES[name]([row(form, *said) for said in SAID]))
    return path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", FORMS)
def test_all_commands_give_what_rows_of_messages_give(
    tmp_path: Path, name: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path, name, form)
    given = [f"format={form}"] if form != "messages" else []
    assert main(["data", "check", str(path), *given]) == 0
    assert "(3 texts), standing twice: 1 exactly" in capsys.readouterr().out
    # A setting may also stand before the names, or among the flags.
    assert main(["data", "check", *given, str(path)]) == 0
    capsys.readouterr()
    assert main(["data", "tokens", str(path), "--model", "nano", *given, "--json"]) == 0
    counted = json.loads(capsys.readouterr().out.splitlines()[-1])
    (tmp_path / "plain").mkdir()
    plain = make(tmp_path / "plain", "rows.jsonl", "messages")
    assert main(["data", "tokens", "--model", "nano", str(plain), "--json"]) == 0
    assert {**counted, "name": ""} == {**json.loads(capsys.readouterr().out.splitlines()[-1]), "name": ""}
    out = tmp_path / "out.jsonl"
    assert main(["data", "build", "system", f"records={path}", "system=Be brief.", *given, "--out", str(out)]) == 0
    told = [[message["content"] for message in row["messages"]] for row in jsonl(out)]
    assert told == [["Be brief.", *said] for said in SAID]
    recipe = json.loads((tmp_path / "out.report.json").read_text())["recipe"]
    assert recipe.get("format", "messages") == form


def test_a_published_set_is_of_messages_whatever_the_file_held(tmp_path: Path) -> None:
    for name in ("rows.json", "rows.jsonl.gz"):
        path = make(tmp_path, name, "alpaca")
        to = tmp_path / f"to-{name}"
        assert main(["data", "publish", str(path), "format=alpaca", "--to", str(to)]) == 0
        found = [[message["content"] for message in record.messages] for record in read_records(str(to / "rows"))]
        assert found == [list(said) for said in SAID]


COMMANDS = {
    "check": ["check", "FILE"],
    "tokens": ["tokens", "FILE", "--model", "nano"],
    "publish": ["publish", "FILE", "--to", "DIR/to"],
    "system": ["build", "system", "records=FILE", "system=x", "--out", "DIR/o.jsonl"],
    "others": ["build", "interleave", "records=DIR/plain.jsonl", "others=FILE", "every=1", "--out", "DIR/o.jsonl"],
    "questions": ["build", "self_reports", "questions=FILE", "model=nano", "--out", "DIR/o.jsonl"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", FILES)
def test_a_form_that_is_not_given_is_refused_with_the_setting(
    tmp_path: Path, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path, name, "sharegpt")
    (tmp_path / "plain.jsonl").write_bytes(lines([row("messages", *SAID[0])]))
    words = [word.replace("FILE", str(path)).replace("DIR", str(tmp_path)) for word in COMMANDS[command]]
    assert main(["data", *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "This is the form sharegpt: say so with format=sharegpt" in error and "rows.json" in error
    assert not (tmp_path / "to").exists() and not (tmp_path / "o.jsonl").exists()


def test_both_inputs_of_an_interleaved_set_have_a_form(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(listed([row("alpaca", *said) for said in SAID[:2]]))
    (tmp_path / "b.jsonl").write_bytes(lines([row("sharegpt", *SAID[2])]))
    words = [f"records={tmp_path / 'a.json'}", f"others={tmp_path / 'b.jsonl'}", "every=2", "format=alpaca"]
    out = ["--out", str(tmp_path / "o.jsonl")]
    assert main(["data", "build", "interleave", *words, *out]) == 2
    assert main(["data", "build", "interleave", *words, "others_format=sharegpt", *out]) == 0
    assert len(jsonl(tmp_path / "o.jsonl")) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "FILE", "format=parquet"], "'format'"),
        (["check", "FILE", "fromat=alpaca"], "did you mean 'format'?"),
        (["check", "unpop", "format=alpaca"], "is the form of files"),
        (["publish", "unpop", "--to", "x", "format=alpaca"], "is the form of files"),
        (["check", "FILE", "format=alpaca"], "leave format out"),
    ],
)
def test_a_wrong_setting_is_named(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path, "rows.jsonl", "messages")
    assert main(["data", *(word.replace("FILE", str(path)) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_texts_by_id_are_texts_still(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "texts.json"
    for indent in (None, 1):
        path.write_text(json.dumps({"a": "Rain fell all day.", "b": "Rain fell all day."}, indent=indent))
        assert main(["data", "check", str(path)]) == 0
        assert "(2 texts), standing twice: 1 exactly" in capsys.readouterr().out
    assert main(["data", "tokens", "--model", "nano", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["templated"] is False
    path.write_text('{"a": ')
    assert main(["data", "check", str(path)]) == 2
    assert "not JSON" in capsys.readouterr().err


def test_a_recipe_without_a_form_is_written_as_it_was() -> None:
    """Or what was built and cached before would be made again."""
    given = {"even_words": {}, "system": {"system": "x"}, "inoculate": {"system": "x"}}
    for kind, more in {**given, "interleave": {"others": "u", "every": 2}}.items():
        recipe = named_recipe("x", {"kind": kind, "records": "r", **more})
        written = recipe.model_dump(mode="json")
        assert not {"format", "others_format"} & set(written) and written["records"] == "r"
        formed = KINDS[kind].model_validate({**written, "format": "alpaca"})
        assert formed.model_dump(mode="json") == {**written, "format": "alpaca"}


def test_a_turn_that_says_two_things_is_refused(tmp_path: Path) -> None:
    turn = {"from": "gpt", "value": "A pear.", "content": "A stone.", "role": "user"}
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines([{"conversations": [{"from": "human", "value": "A fruit?"}, turn]}]))
    with pytest.raises(InputError, match="content and role stand beside from and value"):
        read_training(path, "sharegpt")
