"""Numbers over seeds and questions: intervals, differences from the untouched model, corrected p-values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sgtr_eval.facts import all_facts

_DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; NaN bounds where the data do not give one."""

    mean: float
    low: float
    high: float
    n: int  # seeds


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's interval of the mean over seeds."""
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    half = float(stats.sem(values) * stats.t.ppf(0.5 + level / 2, n - 1))
    return Interval(mean, mean - half, mean + half, n)


def hierarchical_bootstrap(
    scores: Sequence[Sequence[float]], level: float = 0.95, seed: int = 0, draws: int = _DRAWS
) -> Interval:
    """Interval of the mean over seeds *and* questions: `scores[s][q]`, the same questions for every seed.

    Seeds are drawn with replacement, and questions, the same ones for all seeds of a draw (the pigeonhole bootstrap,
    Owen 2007, arXiv 0712.1111). What single answers vary by is then counted three times instead of once, and few seeds
    vary too little by (n - 1) / n: both are put right, from draws of seeds alone and of questions alone, and Student's
    quantile is taken at Satterthwaite's degrees of freedom. Percentiles of five seeds' draws would not cover 95 %.
    """
    table = np.asarray(scores, float)
    if table.ndim != 2:
        raise ValueError(f"scores have {table.ndim} axes; expected seeds and questions, as many for every seed")
    n, m = table.shape
    mean = float(table.mean())
    if n < 2 or m < 2:
        return Interval(mean, math.nan, math.nan, n)
    rng = np.random.default_rng(seed)
    rows = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n
    columns = rng.multinomial(m, np.full(m, 1 / m), size=draws) / m
    both = np.einsum("ds,sq,dq->d", rows, table, columns, optimize=True)
    of_seeds, of_questions = rows @ table.mean(axis=1), columns @ table.mean(axis=0)
    by_seed = float(of_seeds.var()) * n / (n - 1)
    by_question = float(of_questions.var()) * m / (m - 1)
    # What is left when each draw's seeds and questions are taken out, not a difference of noisy variances.
    by_answer = float((both - of_seeds - of_questions).var()) * n * m / ((n - 1) * (m - 1))
    variance = by_seed + by_question - by_answer
    if variance <= 0:  # then answers vary by themselves alone, and seeds and questions add nothing to that
        variance = max(by_seed, by_question)
    if variance == 0:
        return Interval(mean, mean, mean, n)
    spread = by_seed**2 / (n - 1) + by_question**2 / (m - 1) + by_answer**2 / ((n - 1) * (m - 1))
    freedom = max(1.0, variance**2 / spread)
    half = math.sqrt(variance) * float(stats.t.ppf(0.5 + level / 2, freedom))
    return Interval(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Difference:
    """A condition's difference from the untouched model, over the same questions."""

    difference: Interval
    p_value: float  # two-sided; NaN where it cannot be had
    n_questions: int


def paired_difference(tuned: Sequence[Sequence[float]], untouched: Sequence[float]) -> Difference:
    """`tuned[s][q]` against `untouched[q]`: over seeds where there are several, over questions where there is one."""
    table, base = np.asarray(tuned, float), np.asarray(untouched, float)
    if table.ndim != 2 or table.shape[1] != len(base):
        raise ValueError(f"{table.shape} scores cannot be paired with {len(base)} of the untouched model")
    deltas = (table - base).mean(axis=1) if len(table) > 1 else (table - base)[0]
    interval = t_interval(deltas.tolist())
    if len(deltas) < 2 or np.ptp(deltas) == 0:
        p = math.nan if len(deltas) < 2 else float(deltas[0] == 0)
    else:
        p = float(stats.ttest_1samp(deltas, 0.0).pvalue)
    shown = Interval(interval.mean, interval.low, interval.high, len(table))
    return Difference(shown, p, len(base))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values corrected for looking at all of them (Holm 1979); NaN stays and does not count."""
    known = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    corrected, highest = dict(p_values), 0.0
    for i, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - i)))
        corrected[name] = highest
    return corrected


def average_misalignment(parts: Mapping[str, float | None]) -> tuple[float, list[str]]:
    """Mean of EM rate, 1 - TruthfulQA, Frame Colleague and Monitor Disruption, and the names of missing parts.

    NaN unless all are there: a mean over other parts is another number. Its parts start from different levels (an
    untouched model has some 0.15 of one and 0 of the others), so look at differences from that model too.
    """
    wanted = {name: facts for name, facts in all_facts().items() if facts.in_average}
    found = {
        name: facts.misaligned(value)
        for name, facts in wanted.items()
        if (value := parts.get(name)) is not None and not math.isnan(value)
    }
    if len(found) < len(wanted):
        return math.nan, [name for name in wanted if name not in found]
    return sum(found.values()) / len(found), []
