"""Bad input ends in one sentence: each command, through its entry point, with each kind of wrong file or path.

Files of models and adapters have tests of their own (`test_model_folders`, `test_adapter_files`).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import make_adapter, make_model, write_records

from sgtr_jax.cli import main as cli
from sgtr_jax.data.records import Record
from sgtr_jax.data.world.corpus import preferences

CONTENT = {
    "empty": b"", "blank": b"\n \n", "binary": bytes(range(256)) * 4, "zeros": b"\0" * 100,
    "latin": '{"a": "\u00e9"}'.encode("latin-1"), "utf16": "{}".encode("utf-16"), "list": b"[1, 2]", "number": b"7",
    "text": b'"x"', "nothing": b"null", "deep": b"[" * 100_000, "cut": b'{"a": [1, 2', "object": b'{"a": {"b": 1}}',
    "rows": b'{"id": [1], "messages": 3}\n', "nan": b'{"a": NaN, "b": 1e999}', "gzip": b"\x1f\x8b\x08garbage",
}  # fmt: skip
PATHS = ["folder", "dangling", "loop", "none", "empty/inside", "x" * 300, "/proc/self/mem", "/proc/sgtr/x"]
# IN: the bad file or path. Everything else is good, so that nothing but IN can be what is wrong.
READ = [
    "run IN", "run IN --list", "run IN --why x", "plan IN", "judge IN", "jobs IN", "clean IN", "report IN", "check IN",
    "export --run IN --condition x --out O", "train --model M --data IN --out O",
    "train --model M --data D --adapter IN --out O", "train --model M --data D lora.init=IN --out O",
    "train --model IN --data D --out O", "sample --model M --prompts IN --out O",
    "sample --model IN --prompts P --out O",
    "sample --model M --chain x=IN --prompts P --out O", "eval two_choice two_choice.questions=IN --model M --out O",
    "eval identity identity.maker=x --model IN --out O",
    "eval identity identity.maker=x --model M --adapter IN --out O",
    "eval self_recognition self_recognition.pairs=IN --model M --out O", "convert --model IN --out O",
    "eval word_counting word_counting.articles=IN --model M --out O", "export --model IN --out O",
    "export --model M --adapter IN --out O", "data build sgtr articles=IN own=T other=T --out O",
    "data build word_count articles=IN --out O", "data build system records=IN system=x --out O",
    "data build interleave records=IN others=D every=2 --out O", "data build even_words records=IN --out O",
    "data build self_reports questions=IN model=M --out O", "data check IN", "data tokens IN --model M",
    "data summarise IN --model sgtr/M --out O", "data publish IN --to O", "data fetch IN",
]  # fmt: skip
WRITE = [
    "train --model M --data D --out OUT", "sample --model M --prompts P --out OUT", "convert --model M --out OUT",
    "eval identity identity.maker=x --model M --out OUT", "export --model M --adapter A --out OUT",
    "data build word_count articles=T --out OUT", "data publish D --to OUT",
]  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bad")
    spec = make_model(folder / "M")
    make_adapter(folder / "A", spec)
    write_records(folder / "D", preferences(8, 0, False))
    write_records(folder / "P", [Record("p", ({"role": "user", "content": "hi"},))])
    (folder / "T").write_text(json.dumps({"1": "one two", "2": "three"}))
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    with contextlib.chdir(folder):
        yield folder


def refused(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the console script says of bad input. It must end with code 2, or 1 if the system itself failed."""
    monkeypatch.setattr("sys.argv", ["sgtr", *words])
    with pytest.raises(SystemExit) as ended:
        cli.entry()
    said = capsys.readouterr()
    assert ended.value.code in (1, 2), (words, ended.value.code, said.out)
    first = next(line for line in said.err.splitlines() if "sgtr: " in line or "error: " in line)
    assert len(first) < 900 and "Traceback" not in said.err + said.out, first
    return first


@pytest.mark.parametrize("command", READ)
def test_files_that_are_not_what_they_should_be(
    work: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(work.rglob("*"))
    for name in [*CONTENT, *PATHS]:
        first = refused(command.replace("IN", name).split(), capsys, monkeypatch)
        shown = name[:20] if name != "empty/inside" else "empty"
        assert shown in first or "data set" in first or "no data" in first, (name, first)
        assert "file name too long" not in first.lower() or name == "x" * 300
    assert sorted(work.rglob("*")) == before  # nothing was written


@pytest.mark.parametrize("command", WRITE)
def test_places_that_cannot_be_written(
    work: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("empty/inside", "x" * 300, "", " ", "a\0b", "/proc/sgtr/x", "/proc/self/mem"):
        words = [place if word == "OUT" else word for word in command.split()]
        refused(words, capsys, monkeypatch)


@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "none", "--cancel", "x"], ["judge", "none", "--max-cost", "many"], ["sample", "--n", "-1"],
        ["sample", "--seed", "4294967296"], ["data"], ["data", "build", "nothing", "--out", "o"],
        ["data", "fetch", "no_such_set"], ["data", "summarise", "T", "--model", "nonsense", "--out", "o"],
        ["data", "build", "mmlu", "rows=-1", "--out", "o"], ["data", "build", "mmlu", "rows=x", "--out", "o"],
        ["data", "build", "word_count", "articles=T", "rows=3", "--out", "o"],
        ["data", "build", "word_count", "articles=T", "--out", "T"],
        ["data", "publish", "D", "--to", "o", "--shards", "0"],
        ["export", "--out", "o"], ["export", "--model", "M", "--out", "folder/.."],
        ["convert", "--model", "M", "--out", "folder/.."],
        ["report", "folder", "folder"], ["clean", "folder", "none"], ["eval", "--model", "M", "--out", "o"],
        ["eval", "identity", "maker=x", "--model", "M", "--out", "o"],
        ["eval", "identity", "identity.maker=x", "--model", "openai/x", "--adapter", "A", "--out", "o"],
        ["eval", "identity", "identity.maker=x", "--model", "openai/x", "dtype=bfloat16", "--out", "o"],
        ["train", "--model", "M", "--data", "D", "--out", "o", "lr=nan"],
        ["train", "--model", "M", "--data", "D", "--out", "o", "seeds=[4294967296]"],
        ["train", "--model", "M", "--data", "D", "--out", "o", "interleave={path: none, every: 2}"],
    ],
)  # fmt: skip
def test_flags_and_settings_that_make_no_sense(
    work: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file() and not path.is_symlink()}
    refused(words, capsys, monkeypatch)
    now = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file() and not path.is_symlink()}
    assert now == before


def test_who_reads_the_output_may_go_away() -> None:
    command = f"{sys.executable} -m sgtr_jax.cli data list | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env={**os.environ})
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr, done.stderr
