"""`sgtr plan --power`: power by simulation, compared with numbers computed elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgtr_jax.cli.main import main
from sgtr_jax.report.power import Assumptions, powers
from sgtr_jax.report.simulated import Condition, Questions, Size, simulated

CONFIGS = Path(__file__).parent.parent / "configs"
TRIALS = 600


@pytest.mark.parametrize(
    ("low", "high", "between", "questions", "known"),
    [(0.1, 0.2, 0.04, 1, 0.70), (0.59, 0.41, 0.2, 1, 0.23), (0.774, 0.805, 0.017, 790, 0.45)],
)
def test_five_seeds_have_the_power_that_is_known(
    low: float, high: float, between: float, questions: int, known: float
) -> None:
    """A plain Welch test of five seeds has it: 100 verdicts each, or 790 questions that are not paired."""
    size = Size(5, 1, 790 if questions > 1 else 100)
    of, against = Condition(high, between), Condition(low, between)
    found = simulated(of, against, size, Questions(0, 0), False, TRIALS, seed=1)
    assert sum(one.p_value < 0.05 for one in found) / TRIALS == pytest.approx(known, abs=0.06)


def contrast(of: str, against: str, kind: str = "difference", margin: float | None = None) -> dict[str, object]:
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
