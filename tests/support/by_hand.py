"""Published formulas of intervals and tests, written out in loops: what `sgtr_eval.statistics` is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from sgtr_eval.few_seeds import FewSeeds
from sgtr_eval.statistics import Difference, Interval


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def student(freedom: float, level: float = 0.95) -> float:
    """The two-sided quantile, from the lower tail."""
    below = (1 - level) / 2
    return float(-stats.norm.ppf(below) if freedom == math.inf else -stats.t.ppf(below, freedom))


def two_sided(ratio: float, freedom: float) -> float:
    below = stats.norm.cdf(-abs(ratio)) if freedom == math.inf else stats.t.cdf(-abs(ratio), freedom)
    return float(2 * below)


def wilson_by_roots(share: float, answers: float, z: float) -> tuple[float, float]:
    """The shares p that are z standard errors of p away from the one that was seen."""
    low, high = sorted(np.roots([1 + z * z / answers, -2 * share - z * z / answers, share * share]).real)
    return float(low), float(high)


def squares(table: list[list[float]]) -> tuple[float, float, float]:
    """What seeds, questions and the rest have of the variance of the mean: mean squares over the number of cells."""
    k, m = len(table), len(table[0])
    rows, columns = [mean(row) for row in table], [mean([row[j] for row in table]) for j in range(m)]
    grand = mean(rows)
    of_rows = m * sum((r - grand) ** 2 for r in rows) / (k - 1) if k > 1 else math.nan
    of_columns = k * sum((c - grand) ** 2 for c in columns) / (m - 1) if m > 1 else math.nan
    rest = sum((table[i][j] - rows[i] - columns[j] + grand) ** 2 for i in range(k) for j in range(m))
    of_rest = rest / ((k - 1) * (m - 1)) if k > 1 < m else math.nan
    return of_rows / (k * m), of_columns / (k * m), of_rest / (k * m)


def variance_by_hand(table: list[list[float]]) -> tuple[float, float]:
    """Variance of the mean and Satterthwaite's degrees of freedom."""
    k, m = len(table), len(table[0])
    rows, columns, rest = squares(table)
    value = rows + columns - rest
    if value <= 0:
        value = max(rows, columns)
    return value, max(1.0, value**2 / (rows**2 / (k - 1) + columns**2 / (m - 1) + rest**2 / ((k - 1) * (m - 1))))


def same(found: Interval, low: float, high: float, of: Sequence[float]) -> None:
    wanted = (pytest.approx(mean(of)), pytest.approx(low), pytest.approx(high), len(of))
    assert (found.mean, found.low, found.high, found.n) == wanted


Reach = Callable[[float], tuple[float, float]]


def reach_of(rates: list[float], answers: float, rest: float, freedom: float = math.inf) -> Reach:
    """How far bounds are below and above at a level: those of the seeds' share, put together with the rest's."""
    few, m = FewSeeds(tuple(rates), answers, 0.0), mean(rates)  # `test_few_seeds.py` has its bounds by other means

    def reach(level: float) -> tuple[float, float]:
        low, high = few.bounds(level)
        others = student(freedom, level) * math.sqrt(rest)
        return math.hypot(max(0.0, m - low), others), math.hypot(max(0.0, high - m), others)

    return reach


def reach_of_two(
    one: list[float], other: list[float], answers: float, rest: float, freedom: float, paired: bool
) -> Reach:
    """The bounds of two conditions' seeds put together at Welch's degrees of freedom, with the rest's."""
    k, m = len(one), (mean(one), mean(other))
    spreads = [(sum((v - mean(x)) ** 2 for v in x) / (len(x) - 1) / len(x), len(x) - 1) for x in (one, other)]
    of_seeds = float(min(n for _, n in spreads))
    if any(value for value, _ in spreads):
        of_seeds = max(of_seeds, sum(v for v, _ in spreads) ** 2 / sum(v**2 / n for v, n in spreads))
    shared = 0.0
    if paired and all(value for value, _ in spreads):
        product = sum((a - m[0]) * (b - m[1]) for a, b in zip(one, other, strict=True)) / (k - 1) / k
        shared = max(0.0, product / math.sqrt(spreads[0][0] * spreads[1][0])) * (k - 2) / (k - 1)

    def reach(level: float) -> tuple[float, float]:
        (low, high), (low_2, high_2) = (
            FewSeeds(tuple(x), answers, 0.0).bounds(level, of_seeds) for x in (one, other)
        )  # fmt: skip
        others = student(freedom, level) ** 2 * rest
        found = []
        for a, b in ((m[0] - low, high_2 - m[1]), (high - m[0], m[1] - low_2)):
            a, b = max(0.0, a), max(0.0, b)
            found.append(math.sqrt(a * a + b * b - 2 * shared * a * b + others))
        return found[0], found[1]

    return reach


def level_reached(gap: float, reach: Reach) -> float:
    """The p-value at which the interval ends at 0, by halving."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reach(1 - middle)[gap < 0] > abs(gap) else (low, middle)
    return low


def wider(
    gap: float, known: list[tuple[float, float]], seeds: int, bounded: bool, reach: Reach | None = None
) -> tuple[float, float, float]:
    """Bounds and p-value of the widest of some variances, and of seeds and the rest put together."""
    half = max(student(freedom) * math.sqrt(value) for value, freedom in known)
    p = max(two_sided(gap / math.sqrt(value), freedom) for value, freedom in known) if seeds > 1 else math.nan
    low, high = gap - half, gap + half
    if reach is not None:
        low, high = min(low, gap - reach(0.95)[0]), max(high, gap + reach(0.95)[1])
        p = max(p, level_reached(gap, reach))
    return (max(-1.0, low), min(1.0, high), p) if bounded else (low, high, p)


def agrees(found: Difference, gap: float, wanted: tuple[float, float, float], seeds: int, questions: int) -> None:
    inside = found.difference
    assert (inside.mean, inside.low, inside.high) == pytest.approx((gap, *wanted[:2]))
    assert found.p_value == pytest.approx(wanted[2], rel=1e-9, nan_ok=True)
    assert (inside.n, found.n_questions) == (seeds, questions)


def bonett_price(deltas: list[float], answers: int) -> float:
    """Variance of a difference of paired shares, with one more answer of either kind that differs (2012)."""
    each = answers / len(deltas)
    up = (sum(d for d in deltas if d > 0) * each + 1) / (answers + 2)
    down = (sum(-d for d in deltas if d < 0) * each + 1) / (answers + 2)
    return (up + down - (up - down) ** 2) / (answers + 2)


def variances_by_hand(tables: list[list[list[float]]], columns: list[float]) -> list[tuple[float, float]]:
    """Of seeds alone, of questions alone, and of both without the part of answers, with degrees of freedom."""
    m, grand = len(columns), mean(columns)
    of_questions = (sum((c - grand) ** 2 for c in columns) / (m - 1) / m, m - 1)
    if len(tables[0]) == 1:
        return [of_questions]
    seeds = [(squares(table)[0], len(table) - 1) for table in tables]
    rests = [(squares(table)[2], (len(table) - 1) * (m - 1)) for table in tables]

    def together(parts: list[tuple[float, int]]) -> tuple[float, float]:
        value = sum(part for part, _ in parts)
        return value, max(1.0, value**2 / sum(part**2 / freedom for part, freedom in parts))

    of_seeds, rest = together(seeds), together(rests)
    whole = of_seeds[0] + of_questions[0] - rest[0]
    if whole <= 0:
        return [of_seeds, of_questions]
    parts = [(max(0.0, value - rest[0]), freedom) for value, freedom in (of_seeds, of_questions)] + [rest]
    spread = sum(value**2 / freedom for value, freedom in parts)
    return [of_seeds, of_questions, (whole, max(1.0, sum(value for value, _ in parts) ** 2 / spread))]


def one_sided_of(reach: Reach, side: int, far: float) -> float:
    """The one-sided p-value at which a bound is `far` away: at most one half."""
    if far <= reach(2e-9)[side]:
        return 0.5
    return level_reached(far, lambda level: reach(level)[::-1] if side else reach(level)) / 2


def one_sided(ratio: float, freedom: float) -> float:
    return float(stats.norm.cdf(-ratio) if freedom == math.inf else stats.t.cdf(-ratio, freedom))


def smoothed(share: float, answers: int) -> float:
    p = (share * answers + 1) / (answers + 2)
    return p * (1 - p) / (answers + 2)
