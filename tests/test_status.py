"""`sgtr status`: what is done, running, failed and left, read beside a run that may be going on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_experiment import CONFIG
from test_run_folder import BROKEN
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.experiment.run_left import left_in_words
from sgtr_jax.experiment.run_lock import run_lock
from sgtr_jax.sealed import read_sealed, write_sealed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which a part failed."""
    folder = tmp_path_factory.mktemp("status")
    make_model(folder / "m")
    row = {"id": "a", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    (folder / "one.jsonl").write_text(json.dumps(row) + "\n")
    before, _, rest = CONFIG.format(model=folder / "m").partition("data:\n")
    config = folder / "c.yaml"
    broken = BROKEN.replace("BROKEN", str(folder / "one.jsonl"))
    config.write_text(before + broken + rest[rest.index("evaluations:") :])
    assert main(["run", str(config), f"out={folder / 'out'}", "seeds=[0]", "measure=identity"]) == 1
    return folder / "out"


def said(run: Path | str, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(["status", str(run), *flags]) == 0
    return capsys.readouterr().out


def states(run: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {f"{one['kind']} {one['name']}": one for one in json.loads(said(run, capsys, "--json"))["artifacts"]}


def test_done_failed_and_left_are_told_with_reasons(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = states(run, capsys)
    by_state = {
        state: {n for n, one in found.items() if one["state"] == state} for state in ("done", "failed", "to do")
    }
    assert by_state["failed"] == {"adapter broken-with-bad-s0"}
    assert {"adapter bad-s0", "evaluation identity-bad-s0", "evaluation identity-base-s0"} <= by_state["done"]
    assert by_state["to do"] == {
        "adapter broken-with-bad+bad-s0", "evaluation identity-broken-s0", "evaluation identity-after-s0"
    }  # fmt: skip
    assert found["evaluation identity-after-s0"]["waits_for"] == ["broken-with-bad-s0"]
    assert all(one["seconds"] >= 0 for one in found.values() if one["state"] == "done")
    text = said(run, capsys)
    why = found["adapter broken-with-bad-s0"]["why"]
    assert f"{len(by_state['done'])} of {len(found)} done, 1 failed, 3 to do" in text and "\nnot running" in text
    assert f"  adapter broken-with-bad-s0: {why}" in text and "none is left" in why
    assert "  evaluation identity-after-s0: needs broken-with-bad-s0, which failed" in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith("adapter ")] == [["adapter", "1", "3"]]


def test_what_is_left_is_what_the_same_took_before() -> None:
    done = [
        ("evaluation", "em", 100.0, 0.5), ("evaluation", "em", 200.0, 0.25), ("evaluation", "mmlu", 10.0, None),
        ("adapter", None, 3600.0, None), ("data", None, None, None),
    ]  # fmt: skip
    # Two more of em; one of an evaluation that none is done of, which takes the mean of its kind: 310 / 3.
    missing = [("evaluation", "em"), ("evaluation", "em"), ("evaluation", "quiz"), ("adapter", None), ("data", None)]
    assert left_in_words(done, missing)[1:] == [
        "left: about 1:06:43 and $1.12 of judging, as long as those took that are done",
        "left besides, of kinds that none is done of: 1 data",
    ]
    assert left_in_words(done, []) == [] == left_in_words([], missing)


def test_dollars_of_a_run_come_from_its_ledger(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (done,) = (run / "store").glob("evaluation-identity-bad-s0-*")
    row = {"date": "", "judge": "j", "artifact": done.name, "dollars": 0.5}
    (run / "spending.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n{{")
    found = states(run, capsys)["evaluation identity-bad-s0"]
    assert found["dollars"] == 1.0 and found["evaluation"] == "identity"
    # Two more measurements of identity are left.
    assert "and $2.00 of judging" in said(run, capsys)
    (run / "spending.jsonl").unlink()


UNREADABLE = {
    "latin1": '{"é": 1}\n{}\n'.encode("latin-1"),
    "utf16": json.dumps({"a": {"why": "b"}}, indent=1).encode("utf-16"),
    "zeros": bytes(40) + b"\n",
    "cut": b'{"why": \n\n{"a"\n',
    "other": b'[{"why": 3}]\n',
    "number": b"7\n",
}


@pytest.mark.parametrize("name", ["experiment.json", "failures.json", "spending.jsonl"])
@pytest.mark.parametrize("content", UNREADABLE)
def test_a_file_of_the_run_that_cannot_be_read_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    path = shutil.copytree(run, tmp_path / "run") / name
    run = path.parent
    path.write_bytes(UNREADABLE[content])
    assert main(["status", str(run)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error and error.count("\n") == 1 and len(error) < 500
    assert main(["check", str(run)]) == 1
    found = capsys.readouterr().out
    assert f"damaged: {path}" in found and "nothing is damaged" not in found
    assert ("sets it aside" in found) == (name != "spending.jsonl")
    path.unlink()
    path.mkdir()
    assert main(["status", str(run)]) == 2 and str(path) in capsys.readouterr().err


def test_a_run_that_is_going_on_has_an_owner(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scratch = run / "store" / ".scratch-adapter-after-s0-0123456789ab"
    scratch.mkdir()
    with run_lock(run):
        text = said(run, capsys)
        assert "\nrunning: process " in text and "  makes adapter-after-s0-0123456789ab\n" in text
        # Whoever asks takes nothing from the run.
        assert main(["clean", str(run)]) == 2
    capsys.readouterr()
    assert "\nnot running; `sgtr run` makes the other 4\n" in said(run, capsys)
    scratch.rmdir()


def test_what_is_damaged_is_made_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = (run / "store").glob("evaluation-identity-bad-s0-*/recipe.json")
    before = record.read_bytes()
    record.write_bytes(before.replace(b"identity", b"identitz"))
    assert "evaluation identity-bad-s0: damaged: recipe.json: was changed" in said(run, capsys)
    record.write_bytes(before)


def test_runs_of_older_versions_name_their_evaluations_only(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "experiment.json"
    before = path.read_bytes()
    stored = read_sealed(path)
    stored.pop("artifacts")
    write_sealed(path, stored)
    assert ": 2 of 4 done, 0 failed, 2 to do" in said(run, capsys)
    path.write_bytes(before)


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (tmp_path, tmp_path / "none"):
        assert main(["status", str(place)]) == 2
        assert "no run here" in capsys.readouterr().err
    with run_lock(tmp_path):
        assert main(["status", str(tmp_path)]) == 2
    assert "has only begun" in capsys.readouterr().err
    (tmp_path / "experiment.json").write_text("{}")
    assert main(["status", str(tmp_path)]) == 2
    assert "experiment.json" in capsys.readouterr().err


def test_neither_jax_nor_anything_heavy_is_imported(run: Path) -> None:
    code = (
        f"import sys, sgtr_jax.cli.main as c\nassert c.main(['status', {str(run)!r}]) == 0\n"
        "assert not {'jax', 'transformers', 'inspect_ai'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
