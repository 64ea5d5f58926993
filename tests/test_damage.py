"""Artifacts that are damaged: named, never used, set aside, made again; and `sgtr check`, which finds them all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_experiment import CONFIG
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.sealed import RECORD, damage, read_record, read_sealed, write_record, write_sealed

RUN = ["seeds=1", "only=[base, bad]"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config and a finished run of it, which is not to be changed."""
    folder = tmp_path_factory.mktemp("damage")
    make_model(folder / "m")
    (folder / "c.yaml").write_text(CONFIG.format(model=folder / "m"))
    assert main(["run", str(folder / "c.yaml"), f"out={folder / 'run'}", *RUN]) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


def again(finished: Path, run: Path) -> int:
    return main(["run", str(finished / "c.yaml"), f"out={run}", *RUN])


def one(run: Path, pattern: str) -> Path:
    return next(path for path in sorted((run / "store").glob(pattern)) if ".damaged-" not in path.name)


def changed(path: Path, at: int = -1) -> None:
    """One bit of one byte, the size as it was."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def another_value(path: Path) -> None:
    text = path.read_text()
    assert '"value": ' in text
    path.write_text(text.replace('"value": ', '"value":1', 1))


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


# Which artifact, which file of it, what happens to the file, and a word of what is said about it.
DAMAGE: dict[str, tuple[str, str, Callable[[Path], object], str]] = {
    "deleted": ("evaluation-identity-bad-*", "metrics.json", Path.unlink, "metrics.json is missing"),
    "emptied": ("evaluation-identity-bad-*", "metrics.json", lambda p: p.write_bytes(b""), "has 0 bytes of"),
    "value": ("evaluation-identity-bad-*", "metrics.json", another_value, "metrics.json was changed"),
    "cut": ("records-bad-*", "records.jsonl", lambda p: p.write_bytes(p.read_bytes()[:-40]), "bytes of"),
    "grown": ("records-bad-*", "records.jsonl", lambda p: p.write_bytes(p.read_bytes() + b"\n"), "bytes of"),
    "folder": ("evaluation-identity-bad-*", "samples.jsonl", as_folder, "is no file any more"),
    "recipe": ("adapter-bad-*", RECORD, Path.unlink, f"{RECORD} is missing"),
    "recipe cut": ("adapter-bad-*", RECORD, lambda p: p.write_text(p.read_text()[:99]), "not JSON"),
    "recipe list": ("adapter-bad-*", RECORD, lambda p: p.write_text("[]"), "no digest of itself"),
    "recipe value": ("adapter-bad-*", RECORD, lambda p: p.write_text(p.read_text().replace("16", "17", 1)), "changed"),
    "weights": ("adapter-bad-*", "adapter/adapter_model.safetensors", changed, "was changed"),
    "log": ("evaluation-identity-bad-*", "log", shutil.rmtree, "is missing"),
}


# Several at once, each of another artifact: a run takes a second.
ROUNDS = [
    ("deleted", "cut", "recipe"), ("emptied", "grown", "recipe cut"), ("value", "recipe list"),
    ("folder", "recipe value"), ("log", "weights"),
]  # fmt: skip


@pytest.mark.parametrize("harmed", ROUNDS, ids=" and ".join)
def test_what_is_damaged_is_named_set_aside_and_made_again(
    finished: Path, run: Path, harmed: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts, left = {}, {}
    for what in harmed:
        pattern, name, harm, _ = DAMAGE[what]
        artifacts[what] = one(run, pattern)
        harm(artifacts[what] / name)
        left[what] = sorted(path.name for path in artifacts[what].rglob("*"))
    assert main(["check", str(run)]) == 1
    found = capsys.readouterr().out
    assert f"{len(harmed)} damaged" in found
    if "metrics.json" in DAMAGE[harmed[0]]:  # the report has nothing of it
        assert main(["report", str(run)]) == 0
        shown = capsys.readouterr().out
        assert "missing: identity of bad" in shown and "damaged" in shown
    assert again(finished, run) == 0
    error = capsys.readouterr().err
    for what, artifact in artifacts.items():
        said = DAMAGE[what][3]
        (line,) = [line for line in found.splitlines() if line.startswith(f"damaged: {artifact.name}")]
        assert said in line
        (line,) = [line for line in error.splitlines() if line.startswith(f"{artifact.name}: damaged:")]
        assert said in line and f"{artifact.name}.damaged-1" in line
        # Nothing was deleted.
        aside = artifact.with_name(f"{artifact.name}.damaged-1")
        assert sorted(path.name for path in aside.rglob("*")) == left[what]
    # What was made is what had been made.
    assert (run / "results.csv").read_bytes() == (finished / "run" / "results.csv").read_bytes()
    assert main(["check", str(run)]) == 0
    assert "set aside earlier" in capsys.readouterr().out


def test_a_whole_artifact_replaced_by_another_one_is_noticed(
    finished: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of its files is as it was written, only it was written for something else."""
    other, own = one(run, "evaluation-identity-bad-*"), one(run, "evaluation-identity-base-*")
    shutil.rmtree(own)
    shutil.copytree(other, own)
    assert main(["check", str(run)]) == 1 and "is of another artifact" in capsys.readouterr().out
    assert again(finished, run) == 0 and "is of another artifact" in capsys.readouterr().err
    assert (run / "results.csv").read_bytes() == (finished / "run" / "results.csv").read_bytes()


def test_damage_in_a_big_file_is_found_before_it_is_used(
    finished: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files above a limit the start of a run compares the size only; whatever is made reads its sources whole."""
    monkeypatch.setattr("sgtr_jax.sealed._SMALL", 100)
    adapter = one(run, "adapter-bad-*")
    changed(adapter / "adapter" / "adapter_model.safetensors")
    assert again(finished, run) == 0
    assert "all 9 artifacts are done" in capsys.readouterr().err  # nothing was made from it
    assert main(["check", str(run)]) == 1
    assert main(["export", "--run", str(run), "--condition", "bad", "--out", str(run / "e")]) == 2
    assert "was changed" in capsys.readouterr().err and not (run / "e").exists()
    shutil.rmtree(one(run, "evaluation-identity-bad-*"))
    assert again(finished, run) == 0
    assert f"{adapter.name}: damaged:" in capsys.readouterr().err
    assert (run / "results.csv").read_bytes() == (finished / "run" / "results.csv").read_bytes()


def test_stray_files_are_named_and_not_read(finished: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = one(run, "evaluation-identity-bad-*")
    (artifact / "notes.txt").write_text("mine")
    (artifact / ".DS_Store").write_text("the system's")
    assert main(["check", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"{artifact.name}: notes.txt is not of this artifact" in said and "DS_Store" not in said
    assert again(finished, run) == 0 and "are done" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b'{"config": {}, "cells": []}', b"\xff\xfe"])
def test_a_damaged_description_of_a_run(
    finished: Path, run: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "experiment.json").write_bytes(content)
    (run / "failures.json").write_bytes(content)
    for argv in (["report"], ["judge"], ["clean"], ["jobs"], ["export", "--condition", "bad", "--out", "x", "--run"]):
        assert main([*argv, str(run)]) == 2
        said = capsys.readouterr().err
        assert "experiment.json" in said and "`sgtr run`" in said and "Traceback" not in said
    assert main(["check", str(run)]) == 1
    assert again(finished, run) == 0
    assert (run / "results.csv").read_bytes() == (finished / "run" / "results.csv").read_bytes()
    assert not (run / "failures.json").exists() and main(["check", str(run)]) == 0


def test_a_changed_seed_in_the_description_of_a_run_is_noticed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "experiment.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    assert main(["report", str(run)]) == 2 and "was changed after it was written" in capsys.readouterr().err


def test_a_table_that_is_not_what_was_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = run / "results.csv"
    before = table.read_text()
    table.write_text(before.replace("bad,0,identity,distinct_answers,", "bad,0,identity,distinct_answers,9"))
    assert main(["check", str(run)]) == 1 and "results.csv" in capsys.readouterr().out
    assert main(["report", str(run)]) == 0 and table.read_text() == before
    assert main(["check", str(run)]) == 0


def test_older_artifacts_are_read_through_and_recorded(
    finished: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (run / "store").iterdir():
        record = read_record(folder)
        del record["files"]
        (folder / RECORD).write_text(json.dumps(record))
    cut = one(run, "adapter-bad-*") / "adapter" / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-8])
    assert main(["check", str(run)]) == 0
    assert "older artifacts have no record" in capsys.readouterr().out
    assert again(finished, run) == 0
    said = capsys.readouterr().err
    assert "8 artifacts of an older version" in said and f"{cut.parent.parent.name}: damaged" in said
    assert main(["check", str(run)]) == 0
    assert (run / "results.csv").read_bytes() == (finished / "run" / "results.csv").read_bytes()
    assert again(finished, run) == 0 and "older version" not in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_damaged_in_a_mirror_is_not_fetched(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(finished / "c.yaml"), *RUN, f"mirror=file://{tmp_path / 'bucket'}"]
    assert main([*words, f"out={tmp_path / 'a'}"]) == 0
    broken = next((tmp_path / "bucket" / "store").glob("adapter-bad-*"))
    changed(broken / "adapter" / "adapter_model.safetensors")
    next((tmp_path / "bucket" / "store").glob("evaluation-identity-bad-*/metrics.json")).write_text("[]")
    capsys.readouterr()
    assert main([*words, f"out={tmp_path / 'b'}"]) == 0
    said = capsys.readouterr().err
    assert "7 artifacts fetched" in said and said.count("Not fetched, but made again") == 2
    assert (tmp_path / "a" / "results.csv").read_bytes() == (tmp_path / "b" / "results.csv").read_bytes()
    # What was made again is in the mirror now, whole; and what is damaged here comes from there.
    assert damage(broken, whole=True) == []
    shutil.rmtree(one(tmp_path / "b", "adapter-bad-*") / "adapter")
    assert main([*words, f"out={tmp_path / 'b'}"]) == 0
    said = capsys.readouterr().err
    assert "1 artifacts fetched" in said and "are done" in said


def test_a_record_is_of_exactly_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    (folder / "in").mkdir(parents=True)
    for name, data in (("a", b"\x00\xff"), ("in/b", b""), ("c.json", b"{}")):
        (folder / name).write_bytes(data)
    write_record(folder, {"kind": "test", "text": "\u2028 na\u00efve"})
    record = read_record(folder)
    # sha256 of two bytes, of nothing, and of {}: from the coreutils' sha256sum.
    wanted = {"a": (2, "06eb7d6a"), "in/b": (0, "e3b0c442"), "c.json": (2, "44136fa3")}
    assert {name: (one["bytes"], one["sha256"][:8]) for name, one in record["files"].items()} == wanted
    assert damage(folder, whole=True) == [] and damage(folder / "in", True) == [f"{RECORD} is missing"]
    write_sealed(tmp_path / "s.json", {"x": [1.5, None]})
    assert read_sealed(tmp_path / "s.json") == {"x": [1.5, None]}


def test_check_says_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        assert main(["check", str(path)]) == 2
        assert "no run" in capsys.readouterr().err


def test_check_through_the_command(run: Path) -> None:
    one(run, "evaluation-identity-bad-*").joinpath("metrics.json").unlink()
    done = subprocess.run([sys.executable, "-m", "sgtr_jax.cli", "check", str(run)], capture_output=True, text=True)
    assert done.returncode == 1 and "metrics.json is missing" in done.stdout and not done.stderr
