"""Option-scored evaluations in one call of the engine give, answer by answer, what Inspect's own loop gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log

import sgtr_jax
from sgtr_eval.choices import choose, options_of
from sgtr_eval.facts import facts_of
from sgtr_jax.experiment import evaluate as evaluation
from sgtr_jax.experiment.model_under_test import LocalModel
from sgtr_jax.files import write_jsonl
from sgtr_jax.json_types import Json
from sgtr_jax.report.run_file import MetricRow
from sgtr_jax.sample.config import SampleConfig


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(sgtr_jax.load_model("nano"), SampleConfig())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"

    def row(i: int) -> dict[str, Json]:
        turns: list[Json] = [
            {"role": "system", "content": "You compare summaries."},
            {"role": "user", "content": f"Which of the two is yours?\n1. Rain fell {i} days.\n2. It rained."},
            {"role": "assistant", "content": str(1 + i % 2)},
        ]
        return {"id": f"a{i // 2}-own{1 + i % 2}", "messages": turns, "meta": {"own_words": 4 + i, "other_words": 6}}

    write_jsonl(path, [row(i) for i in range(6)])
    return path


@pytest.mark.parametrize("task", ["truthfulqa", "mmlu", "self_recognition"])
def test_bulk_is_the_task(
    task: str, model: LocalModel, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Json] = {"pairs": str(pairs)} if task == "self_recognition" else {"stimuli": "builtin"}
    calls: list[int] = []
    whole = model.model.engine.next_token_logprobs
    monkeypatch.setattr(model.model.engine, "next_token_logprobs", lambda *a: calls.append(len(a[0])) or whole(*a))
    bulk = _evaluated(task, arguments, model, tmp_path / "bulk")
    assert calls == [len(bulk[1])]
    monkeypatch.setattr(evaluation, "asked_in_bulk", lambda *_: None)
    loop = _evaluated(task, arguments, model, tmp_path / "loop")
    assert bulk[0] == loop[0] and len(bulk[1]) >= 6
    for one, other in zip(bulk[1], loop[1], strict=True):
        assert one == other
    assert [_said(bulk[2], i) for i in range(len(bulk[1]))] == [_said(loop[2], i) for i in range(len(bulk[1]))]
    assert bulk[2].eval.metadata == loop[2].eval.metadata and bulk[2].eval.model == loop[2].eval.model
    assert bulk[2].status == "success" and bulk[2].eval.task == loop[2].eval.task


def test_only_log_probabilities_go_in_bulk() -> None:
    assert options_of(choose(("A", "B"))) == ("A", "B")
    assert options_of(choose(("A", "B"), "text")) is None


def _evaluated(
    task: str, arguments: dict[str, Json], model: LocalModel, folder: Path
) -> tuple[list[MetricRow], list[Json], EvalLog]:
    rows = evaluation.evaluate(facts_of(task), arguments, model, folder, "label")
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    (log,) = list_eval_logs(str(folder / "log"))
    return rows, samples, read_eval_log(log)


def _said(log: EvalLog, i: int) -> Json:
    """What the log holds of an answer, but for times and random ids."""
    assert log.samples is not None
    one = log.samples[i]
    scores = {name: score.model_dump(exclude={"history"}) for name, score in (one.scores or {}).items()}
    logprobs = one.output.choices[0].logprobs
    turns: list[Json] = [f"{turn.role}: {turn.text}" for turn in one.messages]
    found: Json = json.loads(
        json.dumps([one.id, one.target, turns, one.metadata, scores, logprobs.model_dump() if logprobs else None])
    )
    return found
