"""`sgtr --print-completion SHELL`: the script knows every command and flag, and its absence is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sgtr_jax.cli.main import main


def test_bash_completes_commands_and_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert ended.value.code == 0
    script = tmp_path / "sgtr.bash"
    script.write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        ask = f"source {script}\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words) - 1}\n"
        # `complete -p` ends with the function's name before the command's.
        ask += "name=$(complete -p sgtr | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\n$name\nprintf '%s\\n' \"${COMPREPLY[@]}\""
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True)
        return {word.strip() for word in done.stdout.split("\n")}

    assert {"train", "status", "settings"} <= completed("sgtr", "")
    assert "train" in completed("sgtr", "tr")
    assert {"--model", "--out", "--data"} <= completed("sgtr", "train", "--")
    assert {"fetch", "list"} <= completed("sgtr", "data", "")


def test_without_shtab_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    assert "pip install 'sgtr-jax[completion]'" in capsys.readouterr().err
