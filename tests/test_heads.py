"""The head of every file that a config names is read by `plan` and `run` before a model is loaded."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sgtr_jax import nano
from sgtr_jax.cli.main import main
from sgtr_jax.data.batches import check_lengths
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Message, Record
from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.errors import InputError
from sgtr_jax.experiment import context
from sgtr_jax.sample import model

ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
TEXTS = {f"a{i}": "A short text on paint." for i in range(4)}
CHOICES = {"id": "1", "prompt": "A or B?", "correct": "A"}


def written(tmp_path: Path, data: dict[str, Any], evaluation: dict[str, Any]) -> Path:
    config = {
        "name": "heads", "model": "nano", "out": str(tmp_path / "out"), "seeds": 1, "data": {"rows": data},
        "conditions": {"base": [], "trained": [{"data": "rows"}]}, "evaluations": {"asked": evaluation},
    }  # fmt: skip
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def uses(file: Path, good: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Configs that use `file`, each in another way: data and evaluation."""
    world = {"kind": "preferences", "rows": 4, "popular": True}
    choice = {"kind": "two_choice"}
    articles = {"kind": "files", "articles": str(good), "other_summaries": str(file)}
    built = {"kind": "pairs", "articles": str(good), "own": str(file), "other": str(good)}
    return {
        "file": ({"kind": "file", "path": str(file)}, choice),
        "built": ({"kind": "built", "recipe": {"kind": "system", "records": str(file), "system": "S"}}, choice),
        "built_texts": ({"kind": "built", "recipe": built}, choice),
        "self_reports": ({"kind": "self_reports", "questions": str(file)}, choice),
        "pairs": ({"kind": "self_recognition", "articles": articles}, choice),
        "choices": (world, {"kind": "two_choice", "questions": str(file)}),
        "pairs_asked": (world, {"kind": "self_recognition", "articles": articles}),
        "counting": (world, {"kind": "word_counting", "settings": {"articles": str(file)}}),
    }


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n \r\n\n",
    "binary": b"\x00\xff\xfe\x01" * 20,
    "number": b"7\n",
    "cut": json.dumps(ROW).encode()[:-9] + b"\n",
    "other_keys": b'{"a": 1}\n',
    "packed": gzip.compress(json.dumps(ROW).encode() * 400)[:-9],
}


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: object, **settings: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(context, "load_model", load)
    monkeypatch.setattr(model, "load_model", load)


@pytest.mark.parametrize("use", uses(Path("x"), Path("y")))
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], use: str, kind: str) -> None:
    good = tmp_path / "texts.json"
    good.write_text(json.dumps(TEXTS))
    file = tmp_path / "broken.jsonl"
    file.write_bytes(BROKEN[kind])
    config = written(tmp_path, *uses(file, good)[use])
    for command in ("plan", "run"):
        assert main([command, str(config)]) == 2
        said = capsys.readouterr().err
        assert str(file) in said and "Traceback" not in said and len(said) < 600
    assert not list(tmp_path.glob("out/store/*"))


@pytest.mark.parametrize(
    ("use", "content"),
    [
        ("file", json.dumps(ROW)),
        ("built", "\ufeff" + json.dumps(ROW) + "\r\n"),
        ("self_reports", json.dumps([ROW, ROW])),
        ("choices", json.dumps(CHOICES)),
        ("pairs", "\n".join(json.dumps({"id": key, "text": text}) for key, text in TEXTS.items())),
        ("counting", "\n".join(json.dumps({"id": key, "text": text}) for key, text in TEXTS.items())),
    ],
)
def test_whole_files_are_planned_with(tmp_path: Path, use: str, content: str) -> None:
    good = tmp_path / "texts.json"
    good.write_text(json.dumps(TEXTS))
    file = tmp_path / "rows.jsonl"
    file.write_text(content, encoding="utf-8")
    assert main(["plan", str(written(tmp_path, *uses(file, good)[use]))]) == 0


def test_a_form_is_named_in_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"instruction": "Hi", "output": "Hello"}] * 3))
    data = {"kind": "file", "path": str(file)}
    assert main(["plan", str(written(tmp_path, data, {"kind": "two_choice"}))]) == 2
    assert "format: alpaca" in capsys.readouterr().err
    assert main(["plan", str(written(tmp_path, {**data, "format": "alpaca"}, {"kind": "two_choice"}))]) == 0


@pytest.mark.parametrize("use", [name for name in uses(Path("x"), Path("y")) if name != "built_texts"])
def test_a_folder_and_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], use: str) -> None:
    good = tmp_path / "texts.json"
    good.write_text(json.dumps(TEXTS))
    (tmp_path / "sub").mkdir()
    for path, said in ((tmp_path / "sub", "folder"), (tmp_path / "none.jsonl", "no such file")):
        assert main(["plan", str(written(tmp_path, *uses(path, good)[use]))]) == 2
        error = capsys.readouterr().err
        assert str(path) in error and said in error and error.count("\n") == 1


def row(words: int, **keys: Any) -> dict[str, Any]:
    return {**keys, "messages": [{**ROW["messages"][0], "content": "paint " * words}, ROW["messages"][1]]}


@pytest.mark.parametrize("use", ["file", "built", "sharegpt"])
def test_an_id_that_stands_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], use: str) -> None:
    rows = [row(1, id="a"), row(2, id="b"), row(3, id="a")]
    file = tmp_path / "rows.jsonl"
    data, evaluation = uses(file, file)["file" if use == "sharegpt" else use]
    if use == "sharegpt":
        data = {**data, "format": "sharegpt"}
        rows = [{"id": one["id"], "conversations": one["messages"]} for one in rows]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    for command in ("plan", "run"):
        assert main([command, str(written(tmp_path, data, evaluation))]) == 2
        said = capsys.readouterr().err
        assert f"{file}:3: id 'a' appears twice" in said
    assert not list(tmp_path.glob("out/store/*"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "the model's 512 tokens"),
        ({"max_length": 40}, "max_length=40 tokens"),
        ({"max_length": 511}, "max_length=511 tokens"),
    ],
)
def test_rows_that_are_all_too_long_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], said: str
) -> None:
    file = tmp_path / "rows.jsonl"
    path = written(tmp_path, {"kind": "file", "path": str(file)}, {"kind": "two_choice"})
    overrides = [f"finetuning.{key}={value}" for key, value in {"max_length": 4096, **settings}.items()]
    file.write_text("".join(json.dumps(row(words)) + "\n" for words in (1500, 1400)))
    assert main(["run", str(path), *overrides]) == 2
    error = capsys.readouterr().err
    assert "data 'rows'" in error and f"all 2 examples are longer than {said}" in error
    assert not list(tmp_path.glob("out/store/*"))


def test_one_row_that_fits_is_enough(tmp_path: Path) -> None:
    """The row that fits has the longer text: characters are no tokens."""
    records = [Record("a", asked_with("\U00012345" * 40)), Record("b", asked_with("ab " * 14))]
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    lengths = [len(chat.tokenize(record.messages).tokens) for record in records]
    assert lengths[1] < lengths[0]
    check_lengths(records, chat, lengths[1], "drop")
    check_lengths(records, chat, 4096, "drop", positions=lengths[1])
    for overlong in ("drop", "cut"):  # of what is cut before the answer nothing is trained
        with pytest.raises(InputError, match=rf"all 2 .*the longest has {lengths[0]}\)"):
            check_lengths(records, chat, 8, overlong)
    check_lengths(records, chat, lengths[1] - 1, "cut")


def asked_with(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text}, {"role": "assistant", "content": "Hello"})
