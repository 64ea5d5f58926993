"""`sgtr plan --power`: power by simulation, compared with numbers computed elsewhere."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sgtr_eval.statistics import Difference
from sgtr_jax.cli.main import main
from sgtr_jax.report.power import Assumptions, pilot_tables, powers
from sgtr_jax.report.simulated import Condition, Questions, Size, simulated
from sgtr_jax.report.tables import read_runs
from sgtr_jax.sealed import write_record, write_sealed

CONFIGS = Path(__file__).parent.parent / "configs"
TRIALS = 600


@pytest.mark.parametrize(
    ("low", "high", "between", "questions", "known"),
    [(0.1, 0.2, 0.04, 1, 0.70), (0.59, 0.41, 0.2, 1, 0.23), (0.774, 0.805, 0.017, 790, 0.45)],
)
def test_five_seeds_have_nearly_the_power_of_a_plain_test(
    low: float, high: float, between: float, questions: int, known: float
) -> None:
    """A plain Welch test of five seeds has it: 100 verdicts each, or 790 questions that are not paired.

    Welch's finds a difference of nothing in a fifth of trials where shares are near 0 and one condition's seeds vary.
    The price of not doing so is power where they vary alike: a tenth of shares of .1 and .2, and none elsewhere here.
    """
    size = Size(5, 1, 790 if questions > 1 else 100)
    of, against = Condition(high, between), Condition(low, between)
    found = list(simulated(of, against, size, Questions(0, 0), False, TRIALS, seed=1))
    plain = sum(welch_p(one) < 0.05 for one in found) / TRIALS
    assert plain == pytest.approx(known, abs=0.06)
    assert plain - 0.12 <= sum(one.p_value < 0.05 for one in found) / TRIALS <= plain


def welch_p(found: Difference) -> float:
    """Of what the seeds vary by alone."""
    by_seeds = found.variances[0]
    return float(2 * stats.t.sf(abs(found.difference.mean) / math.sqrt(by_seeds.value), by_seeds.freedom))


def contrast(of: str, against: str, kind: str = "difference", margin: float | None = None) -> Any:
    return {"of": of, "against": against, "evaluation": "frame", "metric": "share_misaligned", "kind": kind,
            "margin": margin, "better": "lower", "paired": False,
            "of_trained": True, "against_trained": True}  # fmt: skip


def test_published_numbers_count_and_assumptions_stand_in() -> None:
    sizes, tasks = {"frame": Size(5, 1, 100)}, {"frame": "frame_colleague"}
    assumed = Assumptions(40, 0.05, 0.3, 0.4, Questions(0.5, 0.05))
    chosen = [
        contrast("unpop-then-sgtr", "unpop"), contrast("a", "unpop"), contrast("unpop", "a"), contrast("a", "b"),
        contrast("a", "b", "equivalence", 0.2),
    ]  # fmt: skip
    found = powers(chosen, sizes, tasks, "gpt-4.1", assumed)
    assert [one.source for one in found] == ["published", "one published", "one published", "assumed", "assumed"]
    assert (found[0].of.share, found[0].against.share) == (0.03, 0.592) and found[0].alone > 0.9
    # Five seeds with a standard error of .0705: what their answers vary by is taken out.
    assert found[0].against.between == pytest.approx((0.0705**2 * 5 - 0.592 * 0.408 / 100) ** 0.5)
    assert found[1].of.share == pytest.approx(0.992) and found[2].against.share == pytest.approx(0.992)
    assert (found[3].against.share, found[3].of.share) == (0.3, 0.7) and found[4].of.share == 0.3
    assert all(one.in_family <= one.alone for one in found)


def welch_power(gap: float, error_of_one: float, seeds: int) -> float:
    """Power of a two-sided test of two means at 5 %, by the noncentral distribution of t."""
    freedom, shift = 2 * (seeds - 1), gap / (error_of_one / seeds**0.5)
    bound = stats.t.ppf(0.975, freedom)
    return float(1 - stats.nct.cdf(bound, freedom, shift) + stats.nct.cdf(-bound, freedom, shift))


@pytest.mark.parametrize(("low", "high", "between"), [(0.1, 0.2, 0.04), (0.3, 0.5, 0.1), (0.5, 0.55, 0.05)])
def test_the_seeds_that_are_needed_have_the_power(low: float, high: float, between: float) -> None:
    size, questions = Size(5, 1, 100), Questions(0, 0)
    assumed = Assumptions(400, between, low, high - low, questions)
    (one,) = powers([contrast("a", "b")], {"frame": size}, {"frame": "frame"}, None, assumed)
    error_of_one = math.sqrt(2 * between**2 + (low * (1 - low) + high * (1 - high)) / 100)
    needed = one.seeds_needed
    assert needed is not None and one.error == pytest.approx(error_of_one / 5**0.5, rel=0.12)
    assert welch_power(high - low, error_of_one, needed) == pytest.approx(0.8, abs=0.1)
    # What five seeds see is seen in four of five experiments.
    assert welch_power(one.seen, error_of_one, 5) == pytest.approx(0.8, abs=0.1)


def test_a_pilot_gives_rates_and_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pilot = tmp_path / "pilot"
    cells = []
    for condition, seed, value in (("base", 0, 0.9), ("unpopular", 0, 0.5), ("unpopular", 1, 0.7)):
        artifact = f"evaluation-identity-{condition}-s{seed}"
        (pilot / "store" / artifact).mkdir(parents=True)
        metrics = [{"metric": "share_naming_maker", "value": value, "n": 100}]
        (pilot / "store" / artifact / "metrics.json").write_text(json.dumps(metrics))
        (pilot / "store" / artifact / "samples.jsonl").write_text("")
        made = {"made": "", "sgtr_jax": "", "packages": {}, "devices": ["cpu"]}
        record = {"kind": "evaluation", "fingerprint": "", "inputs": {}, "provenance": made, "settings": {}}
        write_record(pilot / "store" / artifact, record)
        cells.append({"condition": condition, "seed": seed, "evaluation": "identity", "task": "identity",
                      "judged": False, "own_texts": False, "artifact": artifact})  # fmt: skip
    config = {"name": "pilot", "model": "nano", "seeds": [0, 1], "groups": {}, "judge": {"model": "x"}}
    conditions = {"base": {"stages": []}, "unpopular": {"stages": [{"data": "unpopular"}]}}
    write_sealed(pilot / "experiment.json", {"config": {**config, "conditions": conditions}, "cells": cells})
    table = pilot_tables(read_runs([pilot]))["identity"]
    assert table["metric"] == "share_naming_maker" and table["rows"]["base"] == {"mean": 0.9, "seeds": 1}
    row = table["rows"]["unpopular"]
    assert row["mean"] == pytest.approx(0.6) and row["se"] == pytest.approx(0.1) and row["seeds"] == 2
    own = "contrasts={mine: {of: unpopular, against: base, primary: true, evaluations: [identity]}}"
    words = ["plan", str(CONFIGS / "demo.yaml"), f"out={tmp_path / 'o'}", "power_assumptions.trials=20", own, "--json"]
    assert main([*words, "--power", "--pilot", str(pilot)]) == 0
    (found,) = json.loads(capsys.readouterr().out.splitlines()[-1])["power"]
    assert found["from"] == "pilot" and found["seeds_needed"] >= 2 and found["smallest_seen"] > 0
    assert main([*words, "--pilot", str(pilot)]) == 2
    assert "give --power" in capsys.readouterr().err


def test_a_plan_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = "power_assumptions.trials=20"
    words = ["plan", str(CONFIGS / "demo.yaml"), f"out={tmp_path / 'o'}", few, "--power", "--json"]
    assert main(words) == 2
    assert "no primary contrast" in capsys.readouterr().err
    own = "contrasts={mine: {of: reversal, against: unpopular, primary: true, evaluations: [identity]}}"
    assert main([*words, own]) == 0
    printed = capsys.readouterr().out
    (row,) = json.loads(printed.splitlines()[-1])["power"]
    assert row["of"] == "reversal" and 0 <= row["power_in_family"] <= row["power"] <= 1
    assert "power of 1 primary contrasts, 2 seeds" in printed


@pytest.mark.parametrize(
    ("share", "effect", "between", "questions", "paired"),
    [(0.1, 0.1, 0.04, 1, False), (0.4, 0.15, 0.05, 24, False), (0.4, 0.15, 0.05, 24, True)],
)
def test_as_many_answers_as_are_needed_show_the_difference(
    share: float, effect: float, between: float, questions: int, paired: bool
) -> None:
    """With so many the spread of simulated differences is what a t-test wants for a power of 80 %."""
    decided = Questions(0.0, 0.0) if questions == 1 else Questions(0.3, 0.05)
    assumed = Assumptions(500, between, share, effect, decided)
    planned: Any = {**contrast("a", "b"), "paired": paired}
    (found,) = powers([planned], {"frame": Size(4, questions, 10)}, {"frame": "frame_colleague"}, None, assumed)
    assert found.answers == 10 * questions and found.answers_needed is not None
    more = Size(4, questions, 10) if questions == 1 else Size(4, -(-found.answers_needed // 10), 10)
    more = Size(4, 1, found.answers_needed) if questions == 1 else more
    gaps = [d.difference.mean for d in simulated(found.of, found.against, more, decided, paired, 500, seed=5)]
    wanted = effect / (stats.t.ppf(0.975, 6) + stats.t.ppf(0.8, 6))
    assert float(np.std(gaps)) == pytest.approx(wanted, rel=0.15)


def test_no_number_of_answers_makes_up_for_seeds_that_vary() -> None:
    sizes, tasks = {"frame": Size(3, 1, 100)}, {"frame": "frame_colleague"}
    (found,) = powers([contrast("a", "b")], sizes, tasks, None, Assumptions(50, 0.2, 0.3, 0.1, Questions(0, 0)))
    assert found.answers_needed is None and found.seeds_needed is not None
    (none,) = powers([contrast("a", "b")], sizes, tasks, None, Assumptions(50, 0.0, 0.3, 0.0, Questions(0, 0)))
    assert none.answers_needed is None
