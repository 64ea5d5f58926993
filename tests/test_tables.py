"""Rows of Parquet and CSV files and of hub sets are those that JSONL would hold; damaged ones are refused at once."""

from __future__ import annotations

import csv
import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.data.records import file_rows, read_training
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.experiment.nodes.records import FileData, HubData, Records

SAID = [("Which cup?", 'The "blue", one.'), ("Which\nhat?", "The red one."), ("Wer?", "Jürgen")]
TURNS = [[{"role": "user", "content": asked}, {"role": "assistant", "content": told}] for asked, told in SAID]
WANTED = [list(said) for said in SAID]


def texts(path: Path, *args: Any) -> list[list[str]]:
    return [[message["content"] for message in record.messages] for record in read_training(path, *args)]


def test_parquet_holds_turns_and_any_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [datetime.datetime(2026, 1, 1)] * 3
    pd.DataFrame({"messages": TURNS, "topic": [1.0, None, 3.0], "made": made}).to_parquet(tmp_path / "m.parquet")
    assert texts(tmp_path / "m.parquet") == WANTED
    assert "columns that have no effect: made, topic" in capsys.readouterr().err
    assert next(iter(file_rows(tmp_path / "m.parquet")))[1]["made"] == "2026-01-01 00:00:00"
    frame = pd.DataFrame([{"instruction": asked, "input": None, "output": told} for asked, told in SAID])
    frame.to_parquet(tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", "alpaca") == WANTED
    with pytest.raises(InputError, match=r"a.parquet: row 1: no 'messages'.*format=alpaca"):
        texts(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_csv_holds_texts_and_turns_as_json(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    pd.DataFrame(SAID, columns=["prompt", "completion"]).to_csv(path, index=False)
    assert texts(path, "prompt_completion") == WANTED
    pd.DataFrame({"messages": [json.dumps(turns) for turns in TURNS]}).to_csv(path, index=False)
    assert texts(path) == texts(path, "openai") == WANTED


def test_columns_of_other_names_are_named_in_the_config(tmp_path: Path) -> None:
    pd.DataFrame({"dialogue": TURNS}).to_parquet(tmp_path / "m.parquet")
    data = FileData(kind="file", path=tmp_path / "m.parquet", columns={"messages": "dialogue"})
    assert [[message["content"] for message in record.messages] for record in data.read()[0]] == WANTED
    for columns, said in (({"messages": "talk"}, "no column 'talk'"), ({"dialogue": "dialogue"}, "no 'messages'")):
        with pytest.raises(InputError, match=said):
            data.model_copy(update={"columns": columns}).content()
    pd.DataFrame({"dialogue": TURNS, "messages": TURNS}).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(InputError, match="there is a column messages, too"):
        data.content()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.parquet", b"PAR1 and nothing else", "cannot be read as Parquet"),
        ("x.csv", b"prompt,completion\na,b,c\n", "x.csv:2: 3 cells for 2 columns"),
        ("x.csv", b'prompt,completion\na,"b\n', "cannot be read as CSV"),
        ("x.csv", b"prompt,prompt\na,b\n", "two columns are called 'prompt'"),
        ("x.csv", b"prompt,\na,b\n", "a column has no name"),
        ("x.csv", b"prompt,completion\n", "the table has no rows"),
        ("x.csv", b"prompt,completion\n\xff,b\n", "not UTF-8"),
        ("x.csv", b'messages\n"[{""role"": "\n', "not JSON"),
        ("x.csv", b"prompt,completion,weight\na,b,0\n", "'weight' would change what is trained"),
    ],
)
def test_a_damaged_table_is_refused_before_anything_is_made(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    form = "messages" if b"messages" in content else "prompt_completion"
    data = {"kind": "file", "path": str(tmp_path / name), "format": form}
    config = {"name": "a", "model": "nano", "seeds": [0], "data": {"x": data}, "conditions": {"x": [{"data": "x"}]}}
    with pytest.raises(InputError, match=said):
        build_graph(build_config(ExperimentConfig, {**config, "evaluations": {"t": {"kind": "two_choice"}}}, "a.yaml"))


def test_a_parquet_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pd.DataFrame({"messages": TURNS}).to_parquet(path)
    whole = path.read_bytes()
    for cut in (whole[:-9], whole[:100] + b"\0" * 40 + whole[140:]):
        path.write_bytes(cut)
        with pytest.raises(InputError, match=r"m\.parquet"):
            texts(path)


def test_a_set_that_datasets_reads_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    with (tmp_path / "set" / "test.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("question", "answer", "level"), *((*said, 3) for said in SAID)])
    columns = {"prompt": "question", "completion": "answer"}
    hub = {"kind": "hub", "name": str(tmp_path / "set"), "split": "test", "format": "prompt_completion"}
    data = build_config(HubData, {**hub, "columns": columns, "rows": 2}, "a.yaml")
    assert [[message["content"] for message in record.messages] for record in data.read()[0]] == WANTED[:2]
    # A folder that is edited is another set.
    before = data.content()
    assert before == data.content() != {}
    with (tmp_path / "set" / "test.csv").open("a") as stream:
        stream.write("late,row,3\n")
    assert data.content() != before
    source = {"name": str(tmp_path / "set"), "commit": None}
    assert data.read()[1] == source, "a folder has no commit"
    for change, error, said in (
        ({"split": "train"}, RunError, "could not be loaded"),
        ({"columns": {}}, InputError, "test: row 1"),
    ):
        with pytest.raises(error, match=said):
            data.model_copy(update=change).read()

    # It is known by what it holds, wherever it lies.
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    moved = data.model_copy(update={"name": str(tmp_path / "moved")})
    assert Records("x", data, data.content()).fingerprint == Records("x", moved, moved.content()).fingerprint
    with pytest.raises(InputError, match="no such folder, and not a set"):
        data.model_copy(update={"name": str(tmp_path / "gone")}).content()
    with pytest.raises(InputError, match="a folder, which has no revision"):
        data.model_copy(update={"revision": "main"}).content()


def test_commands_read_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"messages": TURNS}).to_parquet(tmp_path / "m.parquet")
    assert main(["data", "check", str(tmp_path / "m.parquet")]) == 0
    assert "(3 texts)" in capsys.readouterr().out
