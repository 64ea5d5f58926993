"""Commands that only look at a config answer without what is slow to import, and without the network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = "configs/demo.yaml"
NOT_HERE = "model=Qwen/Qwen2.5-7B-Instruct"
SLOW = ("jax", "transformers", "inspect_ai", "openai", "scipy", "matplotlib")
SCRIPT = """
import sys, socket
def refuse(*args, **kwargs): raise AssertionError("the network was used")
socket.getaddrinfo = socket.socket.connect = refuse
from sgtr_jax.cli.main import main
try:
    code = main(sys.argv[2:])
except SystemExit as end:
    code = end.code
print(code, [name for name in sys.argv[1].split(",") if name in sys.modules])
"""


def outcome(tmp_path: Path, words: list[str], slow: tuple[str, ...] = SLOW) -> tuple[str, str, str]:
    """Exit code and modules that were imported; standard output before that; standard error."""
    more = ["HF_HOME=" + str(tmp_path)]
    done = subprocess.run(
        ["env", *more, sys.executable, "-c", SCRIPT, ",".join(slow), *words], capture_output=True, text=True
    )
    assert done.stdout, done.stderr
    *before, last = done.stdout.splitlines()
    return last, "\n".join(before), done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "--help"], 0, "sgtr run mine.yaml --list"),
        (["run", DEMO, "--list"], 0, "to do   adapter     unpopular-s0"),
        (["run", DEMO, "--list", NOT_HERE], 0, "is not on this machine, so that nothing counts as done"),
        (["run", DEMO, "--why", "unpopular-s0", NOT_HERE], 0, "adapter unpopular-s0: to be made"),
        (["run", DEMO, "finetuning.learning_rate=3"], 2, "did you mean 'lr'"),
        (["plan", DEMO, "evaluations.identity.makr=x"], 2, "did you mean 'maker'"),
    ],
    ids=["help", "list", "list without model", "why", "typo in run", "typo in plan"],
)
def test_looking_imports_nothing_slow(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    given = words if "--help" in words else [*words, f"out={tmp_path / 'run'}"]
    last, out, err = outcome(tmp_path, given)
    assert last == f"{code} []", err
    assert said in out + err


def test_a_plan_needs_no_accelerator_library(tmp_path: Path) -> None:
    """It counts the questions that evaluations and training sets share, for which it has to build Inspect's tasks."""
    last, out, err = outcome(tmp_path, ["plan", DEMO, NOT_HERE, f"out={tmp_path / 'run'}"], ("jax", "transformers"))
    assert last == "0 []" and "share nothing" in out, err
    last, _, err = outcome(tmp_path, ["plan", DEMO, "model=someone/unknown-model"], ("jax", "transformers"))
    assert last == "2 []" and "not downloaded" in err and "hf download someone/unknown-model" in err
