"""Every share has an interval of its own answers inside [0, 1], and a seed without a value is missing by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from sgtr_eval.facts import facts_of
from sgtr_eval.few_seeds import wilson
from sgtr_jax.report.comparisons import Line, compare
from sgtr_jax.report.contrasts import all_tested
from sgtr_jax.report.tables import CellData, Measurement, RunData, measurements_of


def lines_of(task: str, by_seed: dict[int, dict[str, float]], base: dict[str, float], n: int = 32) -> list[Line]:
    """The lines of a tuned condition."""
    run = run_of(task, by_seed, base, n)
    return [line for line in compare(run, run.measurements) if line.condition == "t"]


def run_of(task: str, by_seed: dict[int, dict[str, float]], base: dict[str, float], n: int) -> RunData:
    rows: list[Measurement] = []
    cells = []
    for condition, seed, metrics in [("base", 0, base), *(("t", seed, found) for seed, found in by_seed.items())]:
        cell: Any = {"seed": seed, "evaluation": task}
        metric_rows: Any = [{"metric": name, "value": value, "n": n} for name, value in metrics.items()]
        rows += measurements_of(condition, cell, facts_of(task), metric_rows)
        cells.append(CellData(condition, seed, task, task, False, False, Path("none"), None))
    return RunData("x", (), tuple(cells), tuple(rows), ("base", "t"), "base")


def em(rate: float, coherent_rate: float, n_all: float, n_coherent: float) -> dict[str, float]:
    return {"rate_all": rate, "rate_coherent": coherent_rate, "n_all": n_all, "n_coherent": n_coherent}


def test_other_shares_have_intervals_of_their_own_denominators() -> None:
    found = lines_of("em_questions", {0: em(0.0, 0.0, 20, 4), 1: em(0.1, 0.3, 20, 10)}, em(0.0, 0.0, 1, 1))
    by_metric = {line.metric: line for line in found}
    coherent = by_metric["rate_coherent"]
    assert (coherent.n, by_metric["rate_all"].n) == ("4 10", "20") and coherent.answers == pytest.approx(
        2 / (1 / 4 + 1 / 10)
    )
    for line in (coherent, by_metric["rate_all"]):
        assert 0 <= line.over_seeds.low < line.over_seeds.high <= 1
        assert line.difference is not None and -1 <= line.difference.low < 0 < line.difference.high <= 1
    # One scored answer of 32 is one answer.
    (line,) = [one for one in lines_of("em_questions", {0: em(0.0, 0.0, 1, 1)}, em(0.0, 0.0, 1, 1))
               if one.metric == "rate_all"]  # fmt: skip
    assert (line.over_seeds.low, line.over_seeds.high) == pytest.approx(wilson(0.0, 1, 1.959964), abs=1e-6)
    assert line.n == "1" and line.over_seeds.high > 0.79


def test_a_denominator_that_is_not_known_is_not_made_up() -> None:
    metrics = {"share_correct": 0.5, "balanced_accuracy": 0.9}
    found = lines_of("self_recognition", {0: metrics, 1: {**metrics, "balanced_accuracy": 1.0}}, metrics)
    (line,) = [one for one in found if one.metric == "balanced_accuracy"]
    assert line.answers is None and 0 <= line.over_seeds.low < 0.9 and 0.95 < line.over_seeds.high <= 1
    known = {**metrics, "n_own_shorter": 3.0, "n_own_longer": 29.0}
    (line,) = [one for one in lines_of("self_recognition", {0: known, 1: known}, known)
               if one.metric == "balanced_accuracy"]  # fmt: skip
    assert line.answers == 6 and line.difference is not None and line.difference.low < -0.2


def test_a_seed_without_a_value_is_missing_and_the_others_count() -> None:
    scored, nothing = em(0.5, 0.5, 80, 80), em(math.nan, math.nan, 0, 0)
    by_seed = {0: scored, 1: em(0.6, 0.6, 80, 80), 2: nothing}
    found = lines_of("em_questions", by_seed, em(0.0, 0.0, 80, 80))
    line = next(one for one in found if one.metric == "rate_all")
    assert line.missing == (2,) and set(line.values) == {0, 1} and line.over_seeds.mean == pytest.approx(0.55)
    assert line.over_seeds.low > 0 and line.difference is not None and line.difference.mean == pytest.approx(0.55)
    run = run_of("em_questions", by_seed, em(0.0, 0.0, 80, 80), 80)
    planned: Any = {
        "contrast": "c", "of": "t", "against": "base", "evaluation": "em_questions", "metric": "rate_all",
        "kind": "difference", "margin": None, "primary": True, "paired": False, "better": "lower", "of_trained": True,
        "against_trained": False, "also": (),
    }  # fmt: skip
    (tested,) = all_tested(RunData(**{**run.__dict__, "contrasts": (planned,)}), run.measurements, {})
    assert tested.of_seeds == 2 and tested.difference.mean == line.difference.mean
    assert (tested.difference.low, tested.p_value) == (line.difference.low, line.p_value)
    (all_missing,) = [one for one in lines_of("em_questions", {0: nothing}, scored) if one.metric == "rate_all"]
    assert all_missing.missing == (0,) and math.isnan(all_missing.over_seeds.mean) and all_missing.difference is None
