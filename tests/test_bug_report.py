"""`sgtr doctor --report`: text for a bug report, in which no key and no folder of a user is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgtr_jax.cli.bug_report import bug_report
from sgtr_jax.cli.main import main
from sgtr_jax.errors import InputError


def test_it_says_what_helps_and_nothing_that_is_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret-4711")
    monkeypatch.setenv("SOMETHING_ELSE", "a private thing")
    monkeypatch.setenv("XLA_FLAGS_OF_TEST", "--some_flag=1")
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    (run / "experiment.json").write_text("{}")
    trace = ["Traceback:", f'  File "{tmp_path}/mine.py", line 3', "Error: sent a-secret-4711 and sk-" + "y" * 30]
    (run / "failures.json").write_text(json.dumps({"adapter-a-s0-123456789abc": {"why": "broke", "traceback": trace}}))
    bug_report({"python": ("3.11", None), "disk": ("1 GB", "make room")}, run)
    said = capsys.readouterr().out
    known = ["- ok python: 3.11", "- PROBLEM disk: 1 GB", "jax ", "XLA_FLAGS_OF_TEST=--some_flag=1", "~/mine.py"]
    for wanted in (*known, "adapter-a-s0-123456789abc: broke", "[OPENAI_API_KEY]", "[looks like a key]"):
        assert wanted in said, wanted
    for secret in ("4711", "yyyy", "private", str(tmp_path)):
        assert secret not in said, secret


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        bug_report({}, tmp_path)


@pytest.mark.slow
def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--report"]) == 0
    assert "## sgtr doctor --report" in capsys.readouterr().out
