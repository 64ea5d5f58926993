"""`sgtr settings` lists what the code has, quickly, and by whatever a user may have in mind."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from sgtr_eval.facts import all_facts
from sgtr_jax.cli.main import main
from sgtr_jax.experiment.settings import listed, stored


def test_what_is_stored_is_what_the_code_has() -> None:
    assert stored() == list(listed()), "settings have changed: python -m sgtr_jax.experiment.settings"
    assert {one.of for one in stored()} == {"experiment", "train", "sample", "summarise", *all_facts()}
    assert all(one.description and one.type and one.default for one in stored())


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["settings", *words]) == 0
    return capsys.readouterr().out


def test_settings_by_path_name_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    everything = said(capsys)
    assert "finetuning.lora.rank   int; default 32" in everything and "\n## finetuning\n" in everything
    assert "sgtr settings WORD with one of: train, sample" in everything
    below = said(capsys, "finetuning.lora")
    assert "finetuning.lora.rank" in below and "finetuning.lr" not in below
    assert "The peak learning rate." in (train := said(capsys, "train.lr")) and "experiment" not in train
    rank = said(capsys, "lora.rank")
    assert "# sgtr train" in rank and "# an experiment" in rank
    task = said(capsys, "em_questions")
    assert task.startswith("# sgtr eval em_questions em_questions.KEY=value\nquestions   text; default free\n")
    rows = [json.loads(line) for line in said(capsys, "sample", "--json").splitlines()]
    assert {"top_p", "mesh.tensor"} <= {row["path"] for row in rows}


def test_what_there_is_not_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for word, near in (("finetunning", "finetuning"), ("em_question", "em_questions"), ("warmup", "warmup_steps")):
        assert main(["settings", word]) == 2
        assert f"did you mean '{near}'?" in capsys.readouterr().err


def test_the_answer_is_quick_and_imports_no_jax() -> None:
    code = "import sys, sgtr_jax.cli.main as c\nc.main(['settings', 'lr'])\nassert 'jax' not in sys.modules"
    best = 9.0
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        best = min(best, time.perf_counter() - started)
        assert done.returncode == 0, done.stderr
    assert best < 2
