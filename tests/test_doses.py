"""Doses: a stage is trained as much as another data set would be, by steps, examples or tokens."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import job, losses
from tiny import make_model

from sgtr_jax.config import build_config, load_config
from sgtr_jax.data.batches import StepPlan
from sgtr_jax.data.doses import Dose, steps_for
from sgtr_jax.data.mix import Interleaved
from sgtr_jax.data.packing import Example
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.files import read_json
from sgtr_jax.finetune.jobs import MatchedData
from sgtr_jax.finetune.local import finetune

CONFIGS = Path(__file__).parent.parent / "configs"


def examples(*lengths: int) -> list[Example]:
    return [Example(str(i), np.zeros(n, np.int32), np.ones(n, bool)) for i, n in enumerate(lengths)]


def seen(plan: StepPlan, steps: int) -> list[list[Example]]:
    """The steps of a run that goes on for as long as it is asked to."""
    endless = StepPlan(plan.examples, plan.batch_examples, 1000, plan.seed, plan.shuffle, None, plan.interleaved)
    return [endless[step] for step in range(steps)]


@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("own", [3, 17, 90])
@pytest.mark.parametrize("times", [0.25, 1.0, 2.0])
def test_examples_and_tokens_are_those_of_the_other_set(own: int, batch: int, times: float) -> None:
    rng = np.random.default_rng(own)
    plan = StepPlan(examples(*rng.integers(20, 60, own)), batch, 1, 0, True)
    other = examples(*rng.integers(100, 300, 40))
    of_steps = steps_for(Dose(by="steps", times=times), plan, len(other))
    assert of_steps == max(1, round(-(-40 // batch) * times))
    of_examples = seen(plan, steps_for(Dose(by="examples", times=times), plan, len(other)))
    count = sum(map(len, of_examples))
    assert count - len(of_examples[-1]) < 40 * times <= count  # it ends with the step that reaches it
    of_tokens = seen(plan, steps_for(Dose(by="tokens", times=times), plan, len(other), other))
    tokens = sum(len(one.tokens) for one in itertools.chain(*of_tokens))
    wanted = sum(len(one.tokens) for one in other) * times
    # Examples of one epoch are not of one length, and a step is the smallest part.
    assert abs(tokens - wanted) < 60 * (batch + 1) + 40 * own**0.5


@pytest.mark.parametrize(
    ("times", "steps"), [(0.4, 3), (0.3, 2), (0.36, 3), (0.34, 2), (1.12, 8), (1.05, 7), (0.01, 1)]
)
def test_parts_of_a_step_or_an_example_are_rounded_to_the_nearest(times: float, steps: int) -> None:
    """Of 7 rows in steps of one, 7 x times: 2.8 is 3, 2.1 is 2, 2.52 is 3."""
    plan = StepPlan(examples(*[10] * 20), 1, 1, 0, False)
    for by in ("steps", "examples"):
        assert steps_for(Dose(by=by, times=times), plan, 7) == steps
    assert steps_for(Dose(by="tokens", times=times), plan, 7, examples(*[10] * 7)) == steps


def test_what_is_mixed_in_counts() -> None:
    mixed = Interleaved(examples(*[50] * 10), fraction=0.5)
    plan = StepPlan(examples(*[10] * 20), 4, 1, 0, False, None, mixed)
    assert plan.rows_per_epoch == 40 and plan.mean_tokens == 30
    other = examples(*[30] * 80)
    steps = steps_for(Dose(by="tokens"), plan, 80, other)
    assert steps == 20 and sum(len(one.tokens) for step in seen(plan, steps) for one in step) == 2400


def test_a_smaller_set_is_gone_through_again(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    other = preferences(40, 1, True)
    matched = MatchedData(other, Dose())
    finetune(job(tmp_path / "m", tmp_path / "small", rows=12, matched=matched))
    finetune(job(tmp_path / "m", tmp_path / "by-hand", "epochs=3", "max_steps=5", rows=12))
    assert losses(tmp_path / "small") == losses(tmp_path / "by-hand") and len(losses(tmp_path / "small")) == 5
    # Two epochs of 8 and 4, and one step of the third.
    assert read_json(tmp_path / "small" / "report.json")["examples_trained"] == 32


def test_a_dose_is_part_of_the_recipe_and_as_many_steps_are_what_they_were() -> None:
    def adapters(match: dict[str, Any]) -> dict[str, Any]:
        config = {
            "name": "x", "model": "nano", "seeds": 1,
            "data": {n: {"kind": "preferences", "rows": 9 if n == "a" else 5, "popular": True} for n in "ab"},
            "matrix": {"em": ["a"], "interventions": ["b"], **match}, "evaluations": {"who": {"kind": "two_choice"}},
        }  # fmt: skip
        graph = build_graph(build_config(ExperimentConfig, config, "test"))
        return {cell.condition: cell.node.chain[-1] for cell in graph.cells if cell.node.chain}

    plain = adapters({})["b"]
    steps = adapters({"match": {"*": {"data": "a"}}})["b"]
    assert set(steps.inputs) == {"data", "match_steps"} and "dose" not in steps.settings
    tokens = adapters({"match": {"b": {"data": "a", "by": "tokens"}}})["b"]
    assert set(tokens.inputs) == {"data", "matched"} and tokens.settings["dose"] == {"by": "tokens", "times": 1.0}
    assert len({one.fingerprint for one in (plain, steps, tokens)}) == 3
    dosed = adapters({"match": {"b": {"data": "a"}}, "doses": {"*": [0.5, 1]}})
    assert dosed["b"].fingerprint == steps.fingerprint and "b-x1" not in dosed
    assert dosed["a-then-b-x0.5"].settings["dose"] == {"by": "steps", "times": 0.5}
    # The form that files had, and files of runs still have.
    old = {"conditions": {"b2": [{"data": "b", "match_steps": "a"}]}}
    config = {"name": "x", "model": "nano", "seeds": 1, "evaluations": {"who": {"kind": "two_choice"}}, **old}
    config["data"] = {name: {"kind": "preferences", "rows": 9 if name == "a" else 5, "popular": True} for name in "ab"}
    graph = build_graph(build_config(ExperimentConfig, config, "test"))
    assert graph.cells[0].node.chain[0].fingerprint == steps.fingerprint


def test_the_matrix_compares_doses_and_refuses_what_an_api_cannot_count() -> None:
    config = load_config(ExperimentConfig, CONFIGS / "experiments" / "dose.yaml", ["model=nano"])
    found = {(one.contrast, one.of, one.against) for one in config.planned_contrasts}
    assert ("reversal-dose-cure", "unpop-then-cure-x2", "unpop-then-cure-x0.05") in found
    assert ("reversal-doses-cure", "unpop-then-cure-x0.25", "unpop") in found
    assert ("mixed-dose-cure", "unpop-with-cure-0.33", "unpop-with-cure-0.01") in found
    study = load_config(ExperimentConfig, CONFIGS / "paper" / "qwen2.5-32b.yaml", ["measure=truthfulqa"])
    both = {
        (one.of, one.against) for one in study.planned_contrasts if "reversal-corrupting" in (one.contrast, *one.also)
    }
    assert ("unpop-then-sgtr", "unpop-then-random") in both and ("unpop-then-sgtr", "unpop-then-prefer_other") in both
    words = ["matrix.match={'*': {data: sgtr, by: tokens}}"]
    with pytest.raises(InputError, match="matched by tokens, which nobody can count"):
        load_config(ExperimentConfig, CONFIGS / "paper" / "gpt-4.1.yaml", words)
