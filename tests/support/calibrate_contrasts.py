"""How often contrasts of known effects are told rightly: `python tests/support/calibrate_contrasts.py 1000`.

`two 1000` instead of 1000 gives type I error and coverage of two trained conditions of equal share, whose spreads
between seeds differ. `base 1000` gives those of differences from the base model over a grid of shares, `logit 1000`
where the logits of seeds' shares are normal instead: no model of the statistics, with longer tails.

Each setting is simulated with no difference, and with one of exactly the margin, where neither equivalence nor
non-inferiority holds and each may be found in 5 % of trials.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from unittest import mock

import numpy as np
import scipy

from sgtr_jax.report.contrasts import p_values
from sgtr_jax.report.simulated import Condition, Questions, Size, _shares, simulated

# The study's sizes: questions, draws, share, how much questions decide, margin.
EVALUATIONS = {
    "em_questions": (24, 50, 0.35, Questions(0.1, 0.05), 0.25),
    "truthfulqa": (790, 1, 0.75, Questions(0.6, 0.05), 0.15),
    "frame_colleague": (1, 100, 0.4, Questions(0.0, 0.0), 0.3),
}
MANNERS = ("independent", "paired", "base")


@dataclass(frozen=True)
class Rates:
    """Shares of trials."""

    type_one: float  # a difference is found where there is none
    coverage: float  # of the 95 % interval, where there is none and where there is one
    equivalent: float  # equivalence is found where the difference is the margin
    not_inferior: float  # non-inferiority is found where the condition is worse by the margin


def rates(evaluation: str, seeds: int, between: float, manner: str, trials: int, seed: int = 0) -> Rates:
    """The report's functions on `trials` experiments of a setting."""
    questions, draws, share, decided, margin = EVALUATIONS[evaluation]
    size, paired = Size(seeds, questions, draws), manner == "paired"
    counts = [0, 0, 0, 0]
    for i, gap in enumerate((0.0, -margin)):
        one, other = Condition(share + gap, between), Condition(share, between, manner != "base")
        for found in simulated(one, other, size, decided, paired, trials, seed + i):
            counts[1] += found.difference.low <= gap <= found.difference.high
            if not i:
                counts[0] += found.p_value < 0.05
                continue
            counts[2] += p_values(found, "equivalence", margin, "higher")[0] < 0.05
            counts[3] += p_values(found, "non_inferiority", margin, "higher")[0] < 0.05
    return Rates(counts[0] / trials, counts[1] / (2 * trials), counts[2] / trials, counts[3] / trials)


# Of the differences from the base model: shares and their standard deviations between seeds, up to the published ones.
SHARES = ((0.0, 0.0), (0.01, 0.0), (0.01, 0.02), (0.1, 0.0), (0.1, 0.05), (0.1, 0.1), (0.1, 0.15),
          (0.5, 0.0), (0.5, 0.1), (0.5, 0.3), (0.9, 0.1))  # fmt: skip
SIZES = {
    "frame_colleague": (1, 100, Questions(0.0, 0.0)),
    "em_questions": (8, 50, Questions(0.2, 0.1)),
    "truthfulqa": (790, 1, Questions(0.5, 0.1)),
}


def from_base(evaluation: str, seeds: int, share: float, between: float, trials: int) -> tuple[float, float]:
    """Type I error and coverage of the difference from a base model that has the same share."""
    questions, draws, decided = SIZES[evaluation]
    one, other = Condition(share, between), Condition(share, 0.0, trained=False)
    found = list(simulated(one, other, Size(seeds, questions, draws), decided, False, trials, seed=7))
    covered = sum(d.difference.low <= 0 <= d.difference.high for d in found)
    return sum(d.p_value < 0.05 for d in found) / trials, covered / trials


def logit_normal(condition: Condition, quantiles: np.ndarray) -> np.ndarray:
    """Shares of seeds whose logits are normal, with the mean and the standard deviation of the condition."""
    share, between = condition.share, condition.between
    if not condition.trained or between == 0 or share in (0, 1):
        return np.full(len(quantiles), share)
    middle, spread = _logits_of(share, between)
    return np.asarray(scipy.special.expit(middle + spread * scipy.stats.norm.ppf(quantiles)))


@lru_cache
def _logits_of(share: float, between: float) -> tuple[float, float]:
    at, weights = np.polynomial.hermite_e.hermegauss(80)

    def off(logits: np.ndarray) -> list[float]:
        shares = scipy.special.expit(logits[0] + logits[1] * at)
        mean = float((weights * shares).sum() / weights.sum())
        return [mean - share, math.sqrt(float((weights * (shares - share) ** 2).sum() / weights.sum())) - between]

    start = [scipy.special.logit(share), between / share / (1 - share)]
    middle, spread = scipy.optimize.fsolve(off, start)
    return float(middle), float(spread)


def grid(trials: int, evaluations: Sequence[str]) -> None:
    """Print the table of differences from the base model: percent of type I error and of coverage."""
    print("| evaluation | share | sd between seeds | 2 seeds | 3 seeds | 5 seeds |")
    print("|---|---|---|---|---|---|")
    for evaluation in evaluations:
        for share, between in SHARES:
            found = [from_base(evaluation, seeds, share, between, trials) for seeds in (2, 3, 5)]
            cells = " | ".join(f"{100 * wrong:.1f}, {100 * covered:.1f}" for wrong, covered in found)
            print(f"| {evaluation} | {share} | {between} | {cells} |", flush=True)


# Of two trained conditions: their share, and the standard deviation between the seeds of either.
SPREADS = ((0.01, 0.0, 0.0), (0.01, 0.02, 0.0), (0.05, 0.1, 0.0), (0.05, 0.1, 0.1), (0.1, 0.05, 0.0), (0.1, 0.15, 0.0),
           (0.1, 0.15, 0.15), (0.3, 0.3, 0.0), (0.4, 0.1, 0.1), (0.5, 0.3, 0.05), (0.5, 0.3, 0.3))  # fmt: skip


def two_conditions(trials: int, evaluations: Sequence[str]) -> None:
    """Print the table of two trained conditions: percent of type I error and of coverage, unpaired and paired."""
    print("| evaluation | share | sd between seeds | compared | 2 seeds | 3 seeds | 5 seeds |")
    print("|---|---|---|---|---|---|---|")
    for evaluation in evaluations:
        questions, draws, decided = SIZES[evaluation]
        for share, one, other in SPREADS:
            for paired in (False, True):
                cells = []
                for seeds in (2, 3, 5):
                    both, size = (Condition(share, one), Condition(share, other)), Size(seeds, questions, draws)
                    found = list(simulated(*both, size, decided, paired, trials, seed=11))
                    wrong = sum(d.p_value < 0.05 for d in found)
                    covered = sum(d.difference.low <= 0 <= d.difference.high for d in found)
                    cells.append(f"{100 * wrong / trials:.1f}, {100 * covered / trials:.1f}")
                manner = "paired" if paired else "independent"
                print(f"| {evaluation} | {share} | {one}, {other} | {manner} | {' | '.join(cells)} |", flush=True)


def main(trials: int) -> None:
    """Print the table."""
    print("| evaluation | seeds | sd between seeds | compared | type I | coverage | equivalence | non-inferiority |")
    print("|---|---|---|---|---|---|---|---|")
    for evaluation in EVALUATIONS:
        for seeds in (3, 5):
            for between in (0.04, 0.1):
                for manner in MANNERS:
                    found = rates(evaluation, seeds, between, manner, trials)
                    shown = (found.type_one, found.coverage, found.equivalent, found.not_inferior)
                    cells = " | ".join(f"{100 * value:.1f}" for value in shown)
                    print(f"| {evaluation} | {seeds} | {between} | {manner} | {cells} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "two":
        two_conditions(int(sys.argv[2]), sys.argv[3:] or list(SIZES))
    elif sys.argv[1] in ("base", "logit"):
        with mock.patch("sgtr_jax.report.simulated._shares", logit_normal if sys.argv[1] == "logit" else _shares):
            grid(int(sys.argv[2]), sys.argv[3:] or list(SIZES))
    else:
        main(int(sys.argv[1]))
