"""Bars on a terminal: one display for a whole run, which what is printed meanwhile does not interrupt."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sgtr_jax.errors import InputError
from sgtr_jax.experiment import reports
from sgtr_jax.experiment.run_left import seconds_left

SCRIPT = """
import logging, sys, warnings
from sgtr_jax.progress import Overall, Progress
with Overall("all", 3) as whole:
    whole.show(0, "")
    with Progress("adapters", 50, "steps") as part:
        for i in range(50):
            part.advance(1, f"loss {i}")
            if i == 20:
                print("a notice of a package", file=sys.stderr)
                warnings.warn("a warning of a package")
                logging.getLogger("theirs").error("an error of a package")
    whole.show(2, "about 0:00:05 left")
    with Progress("answers", 2, "rows") as part:
        part.advance(2)
    whole.show(3, "")
print("the end", file=sys.stderr)
"""


def on_terminal(script: str) -> str:
    """What a script writes to a terminal of 100 columns."""
    above, below = pty.openpty()
    env = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm-256color"}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=below, stderr=below, stdin=below, env=env)
    os.close(below)
    read = b""
    while True:
        try:
            block = os.read(above, 4096)
        except OSError:  # the other side is closed
            break
        if not block:
            break
        read += block
    os.close(above)
    assert process.wait() == 0, read
    return read.decode()


def test_the_bar_of_a_run_stays_below_what_is_printed() -> None:
    written = on_terminal(SCRIPT)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "\n")
    lines = [line.strip() for line in plain.splitlines()]
    # Every notice has a line of its own, and no bar is on it.
    for said in ("a notice of a package", "an error of a package", "the end"):
        assert said in lines, said
    assert any(line.endswith("UserWarning: a warning of a package") for line in lines)
    assert any(line.startswith("all") and "2/3" in line and line.endswith("about 0:00:05 left") for line in lines)
    assert any(line.startswith("adapters") and "/50" in line for line in lines)
    # The bars have gone when the run ends.
    assert plain.rstrip().endswith("the end")


def test_no_terminal_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert "adapters: 50/50 steps" in done.stderr and "all" not in done.stderr.replace("an error", "")


def test_time_left_is_that_of_the_same_kind_and_evaluation() -> None:
    done = [("answers", "em", 10.0, None), ("answers", "mmlu", 2.0, None), ("adapter", None, 60.0, None)]
    missing = [("answers", "em"), ("answers", "new"), ("adapter", None), ("pairs", None)]
    assert seconds_left(done, missing) == (10 + 6 + 60, 1)


def test_reports_are_written_when_they_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, written = [0.0], list[float]()
    monkeypatch.setattr(reports.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("sgtr_jax.report.write.report", lambda folder, show: written.append(now[0]))
    due = reports.Reports(tmp_path, 2, None)
    never = reports.Reports(tmp_path, None, None)
    for now[0] in (60, 119, 121, 200, 242, 500):
        due.write_if_due()
        never.write_if_due()
    assert written == [121, 242, 500]

    def broken(folder: Path, show: bool) -> None:
        raise InputError("nothing is measured yet")

    monkeypatch.setattr("sgtr_jax.report.write.report", broken)
    now[0] = 1000
    due.write_if_due()
    assert "no report of what is there so far: nothing is measured yet" in capsys.readouterr().err
