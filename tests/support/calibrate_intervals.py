"""How often intervals of a share hold the share of all: `python tests/support/calibrate_intervals.py 1000`.

The logit of an answer's chance is a sum of what the seed and the question give, both normal. A missing seed is one
fewer: the table's columns are the seeds that are left.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy

from sgtr_eval.statistics import seeds_and_questions, share_interval

RATES = (0.0, 0.01, 0.1, 0.5)
SPREADS = ((0.0, 1.0), (0.3, 1.0), (1.0, 0.0), (1.0, 1.0))  # of the logit between seeds, between questions
SIZES = ((100, 1), (8, 50))  # questions, draws


@lru_cache
def centre(rate: float, spread: float) -> float:
    """The mean logit of a normal distribution whose mean share is `rate`."""
    at, weights = np.polynomial.hermite_e.hermegauss(80)

    def too_high(logit: float) -> float:
        return float((weights * scipy.special.expit(logit + spread * at)).sum() / weights.sum()) - rate

    return float(scipy.optimize.brentq(too_high, -30, 30))


def tables(
    rate: float, spreads: tuple[float, float], size: tuple[int, int], seeds: int, trials: int, seed: int = 0
) -> Iterator[np.ndarray]:
    """Shares by seed and question, once for each trial."""
    rng = np.random.default_rng(seed)
    questions, draws = size
    for _ in range(trials):
        if rate == 0:
            yield np.zeros((seeds, questions))
            continue
        logits = centre(rate, float(np.hypot(*spreads))) + spreads[0] * rng.normal(size=(seeds, 1))
        yield rng.binomial(draws, scipy.special.expit(logits + spreads[1] * rng.normal(size=questions))) / draws


def coverage(
    rate: float, spreads: tuple[float, float], size: tuple[int, int], seeds: int, trials: int
) -> tuple[float, float]:
    """Of the interval over seeds, and of that over seeds and questions: shares of trials in which it holds the rate.

    The former is about the questions that were asked, so that questions which vary are not in it.
    """
    answers, inside = size[0] * size[1], np.zeros(2)
    for table in tables(rate, spreads, size, seeds, trials):
        over_seeds = share_interval(table.mean(axis=1).tolist(), answers)
        over_both = seeds_and_questions(table.tolist(), answers)
        inside += [one.low <= rate <= one.high for one in (over_seeds, over_both)]
    return float(inside[0]) / trials, float(inside[1]) / trials


def main(trials: int) -> None:
    """Print the table: percent."""
    print("| rate | sd of the logit: seeds, questions | questions x draws | 2 seeds | 3 seeds | 5 seeds |")
    print("|---|---|---|---|---|---|")
    for rate in RATES:
        for spreads in SPREADS[: 1 if rate == 0 else None]:
            for size in SIZES:
                found = [coverage(rate, spreads, size, seeds, trials) for seeds in (2, 3, 5)]
                alone = spreads[1] == 0
                cells = " | ".join(f"{100 * a:.1f}, {100 * b:.1f}" if alone else f"{100 * b:.1f}" for a, b in found)
                print(f"| {rate} | {spreads[0]}, {spreads[1]} | {size[0]} x {size[1]} | {cells} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
