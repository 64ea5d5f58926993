"""Inspect's tasks reach the engine in large batches."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "feeder.py"


@pytest.fixture
def feeder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("feeder", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "feeder", module)
    spec.loader.exec_module(module)
    return module


def test_many_answers_are_few_calls(feeder: ModuleType) -> None:
    fed = feeder.feed("em_questions", {"questions": "own", "samples": 40, "max_tokens": 20}, 0.0)
    assert fed.answers == 320 and fed.calls <= 3


def test_option_scored_questions_are_few_calls(feeder: ModuleType) -> None:
    fed = feeder.feed("truthfulqa", {"stimuli": "builtin"}, 0.0)
    assert fed.answers > 20 and fed.calls <= 2
