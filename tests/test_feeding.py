"""Inspect's tasks reach the engine in large batches."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from inspect_ai.model._model_info import clear_model_info_cache

import sgtr_jax

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


@pytest.mark.parametrize("task", ["identity", "truthfulqa"])
def test_the_model_is_loaded_once(feeder: ModuleType, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    """Inspect asks for the size of a model's context by its name, and would load it for that."""
    clear_model_info_cache()
    model = sgtr_jax.load_model("nano")
    monkeypatch.setattr(sgtr_jax, "load_model", lambda name: model)

    loads: list[str] = []

    def again(name: str, *_: object, **__: object) -> None:
        loads.append(name)
        raise RuntimeError("a second copy")

    monkeypatch.setattr("sgtr_jax.sample.model.load_model", again)
    arguments = {"identity": {"maker": "qwen", "samples": 3}, "truthfulqa": {"stimuli": "builtin"}}
    assert feeder.feed(task, arguments[task], 0.0).calls == 1 and not loads
