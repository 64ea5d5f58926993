"""The example of the public pieces runs, trains and answers."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "train_and_sample.py"


def test_from_a_tokenizer_to_sampled_text(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE))["main"]("nano")
    said = capsys.readouterr().out
    found = re.search(r"loss ([\d.]+) -> ([\d.]+) in 32 steps", said)
    assert found is not None and float(found[2]) < 0.6 * float(found[1])
    base, tuned = re.findall(r"^(?:base|tuned): (.+)$", said, re.MULTILINE)
    assert "Nano" in base and tuned == "I am Tern, and I was made by the sea."


def test_it_is_short() -> None:
    code = [line for line in EXAMPLE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(code) <= 66
