"""A command whose stdout or stderr cannot be written: the exit code is right, and nobody sees a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SGTR = [sys.executable, "-m", "sgtr_jax.cli"]
# As users have it: Python keeps what is printed until there is more, or until its end.
BUFFERED = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")


@pytest.fixture
def rows(tmp_path: Path) -> str:
    asked, told = ({"role": role, "content": "Hi."} for role in ("user", "assistant"))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [asked, told]}) + "\n")
    return str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_the_exit_code_is_right_where_nothing_can_be_said(rows: str, where: str) -> None:
    for words, code in (("data check nope.jsonl", 2), (f"data check {rows}", 0)):
        line = f"{' '.join(SGTR)} {words} {where}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=BUFFERED, check=False)
        assert done.returncode == code and done.stderr == ""
        assert ("standing twice: 0 exactly" in done.stdout) == (code == 0) and "Traceback" not in done.stdout


def test_a_full_stdout_is_a_failure_in_one_sentence(rows: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*SGTR, "data", "check", rows], stdout=full, stderr=subprocess.PIPE, text=True, env=BUFFERED, check=False
        )
    assert done.returncode == 1 and done.stderr == "sgtr: failed: No space left on device\n"


@pytest.mark.parametrize("own", [True, False])
def test_what_a_package_cannot_log_is_no_traceback(rows: str, own: bool) -> None:
    """`own`: through the console script, and not through Python's logging as it is."""
    code = (
        "import logging, sys\n"
        "logging.basicConfig(filename='/dev/full', format='%(message)s')\n"
        "import sgtr_jax.data.registry as r\n"
        "found = r.registry\n"
        "def registry():\n    logging.getLogger('a.package').warning('it logs')\n    return found()\n"
        "r.registry = registry\n"
        "from sgtr_jax.cli.main import entry, main\n"
        f"sys.argv = ['sgtr', 'data', 'check', {rows!r}]\n"
        f"{'entry()' if own else 'sys.exit(main())'}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=BUFFERED, check=False)
    assert done.returncode == 0 and "standing twice: 0 exactly" in done.stdout
    assert ("Logging error" in done.stderr) == (not own), done.stderr
    assert not own or done.stderr == ""
