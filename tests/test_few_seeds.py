"""What few seeds say of all: the likelihood of scipy's beta-binomial distribution, maximised and solved for roots."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from sgtr_eval.few_seeds import FewSeeds, few_seeds, quantile, wilson

SEEDS = [((2, 9, 4), 40), ((0, 1, 30, 2, 0), 50), ((70, 75), 100), ((0, 0, 0), 20), ((20, 20, 19), 20), ((3, 3, 3), 9)]


def likeliest(counts: tuple[int, ...], n: int, share: float) -> float:
    """The log-likelihood at a share of all, with the likeliest spread."""

    def negative(log_sum: float) -> float:
        total = math.exp(log_sum)
        return -float(stats.betabinom.logpmf(counts, n, share * total, (1 - share) * total).sum())

    bounds = (math.log(0.05), math.log(100 * n))
    starts = np.linspace(*bounds, 12)
    best = min(starts, key=negative)
    step = starts[1] - starts[0]
    around = (max(bounds[0], best - step), min(bounds[1], best + step))
    return -float(optimize.minimize_scalar(negative, bounds=around, method="bounded").fun)


@pytest.mark.parametrize(("counts", "n"), SEEDS)
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_bounds_are_where_the_likelihood_ratio_is_students(counts: tuple[int, ...], n: int, level: float) -> None:
    k = len(counts)
    top = optimize.minimize_scalar(lambda p: -likeliest(counts, n, p), bounds=(1e-9, 1 - 1e-9), method="bounded")
    best, most = float(top.x), -float(top.fun)
    far = stats.t.ppf(0.5 + level / 2, k - 1)

    def beyond(share: float) -> float:
        ratio = 2 * (most - likeliest(counts, n, share))
        return float((k - 1) * (math.exp(ratio / k) - 1) - far**2)

    low, high = FewSeeds(tuple(count / n for count in counts), n, 0.0).bounds(level)
    if not any(counts):
        assert low == 0.0
    elif all(count == n for count in counts):
        assert high == 1.0
    if any(counts):
        assert low == pytest.approx(optimize.brentq(beyond, 1e-12, best) if beyond(1e-12) > 0 else 0.0, abs=0.006)
    if not all(count == n for count in counts):
        wanted = optimize.brentq(beyond, max(best, 1e-9), 1 - 1e-12) if beyond(1 - 1e-12) > 0 else 1.0
        assert high == pytest.approx(wanted, abs=0.006)


def test_seeds_far_from_the_ends_have_students_interval() -> None:
    """With many answers, in the middle, a little spread is a normal one."""
    shares = (0.49, 0.5, 0.505, 0.52, 0.51)
    half = stats.t.ppf(0.975, 4) * np.std(shares, ddof=1) / math.sqrt(5)
    assert FewSeeds(shares, 10**6, 0.0).bounds(0.95) == pytest.approx((0.505 - half, 0.505 + half), abs=5e-4)


@pytest.mark.parametrize("answers", [1, 10, 4000])
def test_all_or_none_reach_the_end_itself(answers: float) -> None:
    assert FewSeeds((1.0, 1.0, 1.0), answers, 0.0).bounds(0.95)[1] == 1.0
    assert FewSeeds((0.0, 0.0), answers, 0.0).bounds(0.95)[0] == 0.0


def test_the_tail_is_the_level_whose_bound_lies_there() -> None:
    seeds = FewSeeds((0.4, 0.45, 0.6), 100, 0.001)
    for p in (0.2, 0.05, 0.001):
        for side in (0, 1):
            assert seeds.tail(seeds.reach(1 - 2 * p)[side], side) == pytest.approx(p, rel=1e-6)
    assert seeds.tail(0.0, 0) == 0.5 and seeds.tail(5.0, 1) == 1e-12


def test_what_is_not_counted_is_the_mirror_image() -> None:
    few = FewSeeds((0.1, 0.0, 0.4), 50, 0.001, 7)
    other = few.negated()
    assert other.shares == pytest.approx((0.9, 1.0, 0.6)) and (other.rest, other.rest_freedom) == (0.001, 7)
    assert other.reach(0.9) == pytest.approx(few.reach(0.9)[::-1], abs=1e-6)


def test_the_rest_is_put_together_as_an_interval() -> None:
    alone, whole = FewSeeds((0.2, 0.3), 50, 0.0), FewSeeds((0.2, 0.3), 50, 0.01, 4)
    others = stats.t.ppf(0.95, 4) * 0.1
    assert whole.reach(0.9) == pytest.approx([math.hypot(far, others) for far in alone.reach(0.9)])
    for side in (0, 1):
        assert whole.tail(whole.reach(0.9)[side], side) == pytest.approx(0.05)
        assert whole.tail(0.0, side) == whole.tail(-1.0, side) == 0.5 and alone.tail(99.0, side) == 1e-12


def test_seeds_that_agree_by_chance_at_the_crowded_side_are_not_taken_for_all() -> None:
    """Five seeds near 0 of a distribution that has a tenth far above: Wilson's interval ends before it."""
    shares = (0.0, 0.001, 0.05, 0.0, 0.002)
    mean, error = float(np.mean(shares)), float(np.var(shares, ddof=1)) / 5
    assert wilson(mean, mean * (1 - mean) / error, quantile(4, 0.95))[1] < 0.09
    assert FewSeeds(shares, 790, 0.0).bounds(0.95)[1] > 0.2


def test_one_seed_says_nothing_of_others_and_shares_stay_shares() -> None:
    assert few_seeds([0.3], 10, 0.1) is None and few_seeds([], 10, 0.1) is None
    assert few_seeds([-1e-17, 1 + 1e-15], 10, 0.1, 3) == FewSeeds((0.0, 1.0), 10, 0.1, 3)
