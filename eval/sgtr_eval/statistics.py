"""Numbers over seeds and questions: intervals, differences from the base model, corrected p-values.

One model for all of it: training runs (seeds) and questions are both random, so a result is claimed for other runs of
the same recipe and for other questions of the same kind. The variance of a mean is the sum of what seeds, questions and
single answers vary by (a two-way random-effects analysis of variance), at Satterthwaite's degrees of freedom. Nothing
has no variance: a share that happens to agree everywhere still has the sampling error of its answers. Intervals of
shares are Wilson's with an effective number of answers, and stay inside [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy

from sgtr_eval.facts import all_facts
from sgtr_eval.few_seeds import FewOfTwo, FewSeeds, few_of_two, few_seeds, quantile, wilson


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; NaN bounds where the data do not give one."""

    mean: float
    low: float
    high: float
    n: int  # seeds


@dataclass(frozen=True)
class Variance:
    """The variance of a mean, and the degrees of freedom that it is known with (infinite: by a model)."""

    value: float
    freedom: float

    def half_width(self, level: float) -> float:
        """Half the width of the interval."""
        return math.sqrt(self.value) * quantile(self.freedom, level)


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's interval of the mean over seeds; none where they are fewer than two, or happen to agree."""
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < 2 or np.ptp(values) == 0:
        return Interval(mean, math.nan, math.nan, n)
    half = float(scipy.stats.sem(values) * scipy.stats.t.ppf(0.5 + level / 2, n - 1))
    return Interval(mean, mean - half, mean + half, n)


def share_interval(shares: Sequence[float], answers: float, level: float = 0.95) -> Interval:
    """Interval of a share over seeds, `answers` to each.

    The wider one holds of what drawing the answers gives (Wilson 1927) and of what few seeds say of others
    (`few_seeds.py`), so that seeds which happen to agree are not taken for certainty. For one seed the interval holds
    for that run alone. Where the number of answers is not known (NaN) the variance between seeds is all that there is:
    Wilson's interval with as many answers as would vary so.
    """
    k, mean = len(shares), float(np.mean(shares)) if len(shares) else math.nan
    if k == 0 or answers < 1 or math.isnan(mean):
        return Interval(mean, math.nan, math.nan, k)
    if math.isnan(answers):
        between = float(np.var(shares, ddof=1)) / k if k > 1 else 0.0
        if between == 0:
            return Interval(mean, math.nan, math.nan, k)
        return Interval(mean, *wilson(mean, mean * (1 - mean) / between, quantile(k - 1, level)), k)
    low, high = wilson(mean, k * answers, quantile(math.inf, level))
    few = few_seeds(shares, answers, 0.0)
    if few is not None and np.ptp(shares) > 0:
        below, above = few.bounds(level)
        low, high = min(low, below), max(high, above)
    return Interval(mean, low, high, k)


def _questions_alone(tables: Sequence[np.ndarray], by_questions: np.ndarray) -> float:
    """What questions vary by, without the part of the answers of several seeds, which is in what seeds vary by."""
    m = len(by_questions)
    if m < 2:
        return 0.0
    by_answers = [_by_answers(table) for table in tables if len(table) > 1]
    return max(0.0, float(by_questions.var(ddof=1)) / m - sum(by_answers))


def _by_answers(table: np.ndarray) -> float:
    """What the answers of `table[seeds, questions]`, two or more of both, have of the variance of its mean."""
    k, m = table.shape
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    cells: int = (k - 1) * (m - 1) * k * m
    return float((rest**2).sum()) / cells


def two_way_variance(table: np.ndarray) -> Variance:
    """Variance of the mean of `table[seeds, questions]`, both drawn from more of their kind.

    With one seed it is what questions vary by. Mean squares of a two-way table without replication estimate what seeds,
    questions and answers vary by; the answers' part is in both of the others, and is taken out once.
    """
    k, m = table.shape
    by_question = float(table.mean(axis=0).var(ddof=1)) / m if m > 1 else 0.0
    if k == 1:
        return Variance(by_question, m - 1)
    by_seed = float(table.mean(axis=1).var(ddof=1)) / k
    if m == 1:
        return Variance(by_seed, k - 1)
    by_answer = _by_answers(table)
    value = by_seed + by_question - by_answer
    if value <= 0:  # then answers vary by themselves alone, and seeds and questions add nothing to that
        value = max(by_seed, by_question)
    parts: list[tuple[float, float]] = [(by_seed, k - 1), (by_question, m - 1), (by_answer, (k - 1) * (m - 1))]
    return _satterthwaite(value, parts)


def _satterthwaite(value: float, parts: Sequence[tuple[float, float]], known: float | None = None) -> Variance:
    """A sum or difference of mean squares, each with its degrees of freedom, as one variance.

    `known`: what the parts are together, where that is not `value`.
    """
    if value == 0:
        return Variance(0.0, math.inf)
    spread = sum(part**2 / freedom for part, freedom in parts)
    return Variance(value, max(1.0, (value if known is None else known) ** 2 / spread))


def difference_variances(tables: Sequence[np.ndarray], by_questions: np.ndarray) -> list[Variance]:
    """Variances of a difference, each of which is the right one somewhere; a test is as strict as the strictest.

    `tables[seeds, questions]` are the differences of seeds that go together, or the scores of two conditions whose
    seeds do not; `by_questions` is the difference of each question. The first variance is what seeds vary by, the
    second what questions vary by: alone they hold where the other is nothing. The third is the sum of both without the
    answers' part, which is in both, at Satterthwaite's degrees of freedom of what seeds and questions add to answers.
    """
    m = len(by_questions)
    by_question = float(by_questions.var(ddof=1)) / m if m > 1 else 0.0
    seeds: list[tuple[float, int]] = []
    answers: list[tuple[float, int]] = []
    for table in tables:
        k = len(table)
        if k > 1:
            seeds.append((float(table.mean(axis=1).var(ddof=1)) / k, k - 1))
        if k > 1 and m > 1:
            answers.append((_by_answers(table), (k - 1) * (m - 1)))
    by_seed, by_answer = (_satterthwaite(sum(value for value, _ in parts), parts) for parts in (seeds, answers))
    found = [by_seed, Variance(by_question, m - 1)]
    if seeds and m > 1:
        own = [(max(0.0, one.value - by_answer.value), one.freedom) for one in found]
        total = by_seed.value + by_question - by_answer.value
        parts = [*own, (by_answer.value, by_answer.freedom)]
        if total > 0:
            found.append(_satterthwaite(total, parts, sum(value for value, _ in parts)))
    return [one for one in found if one.value > 0 and one.freedom > 0]


def seeds_and_questions(
    table: Sequence[Sequence[float]], answers: float | None = None, level: float = 0.95
) -> Interval:
    """Interval of the mean of `table[seed][question]`, the same questions for every seed, over both.

    `answers`: how many one seed gave, for a mean of shares; None for another number, whose interval is not bounded.
    """
    scores = np.asarray(table, float)
    if scores.ndim != 2:
        raise ValueError(f"scores have {scores.ndim} axes; expected seeds and questions, as many for every seed")
    k, mean = len(scores), float(scores.mean())
    if k < 2 or scores.shape[1] < 2:
        return Interval(mean, math.nan, math.nan, k)
    variance = two_way_variance(scores)
    if answers is None:
        if variance.value == 0:
            return Interval(mean, math.nan, math.nan, k)
        half = variance.half_width(level)
        return Interval(mean, mean - half, mean + half, k)
    if variance.value == 0 or not 0 < mean < 1:
        return Interval(mean, *wilson(mean, k * answers, quantile(math.inf, level)), k)
    effective = mean * (1 - mean) / variance.value
    low, high = wilson(mean, effective, quantile(variance.freedom, level))
    few = few_seeds(
        scores.mean(axis=1).tolist(), answers, _questions_alone([scores], scores.mean(axis=0)), scores.shape[1] - 1
    )
    assert few is not None  # of two seeds or more
    below, above = few.reach(level)
    return Interval(mean, max(0.0, min(low, mean - below)), min(1.0, max(high, mean + above)), k)


@dataclass(frozen=True)
class Difference:
    """A condition's difference from the base model, or from another condition."""

    difference: Interval
    p_value: float  # two-sided; NaN where it cannot be had: of one seed, for instance
    n_questions: int  # that both were asked; 0 where the difference is of the seeds' values alone
    # What the interval and the p-value are from: the widest and the largest hold.
    variances: tuple[Variance, ...] = field(default=(), compare=False)
    few: FewSeeds | FewOfTwo | None = field(default=None, compare=False)

    def p_above(self, bound: float) -> float:
        """One-sided p-value of a true difference of at most `bound`: small where the difference is above it."""
        return self._one_sided(self.difference.mean - bound, 0)

    def p_below(self, bound: float) -> float:
        """One-sided p-value of a true difference of at least `bound`: small where the difference is below it."""
        return self._one_sided(bound - self.difference.mean, 1)

    def p_within(self, margin: float) -> float:
        """P-value of a true difference outside `margin` on either side: two one-sided tests (Schuirmann 1987)."""
        return max(self.p_above(-margin), self.p_below(margin))

    def negated(self) -> Difference:
        """The difference the other way round."""
        found, few = self.difference, self.few
        turned = Interval(-found.mean, -found.high, -found.low, found.n)
        return replace(self, difference=turned, few=None if few is None else few.negated())

    def _one_sided(self, gap: float, side: int) -> float:
        if math.isnan(self.p_value):
            return math.nan
        tails = [_tail(gap / math.sqrt(one.value), one.freedom) for one in self.variances]
        return max(tails if self.few is None else [*tails, self.few.tail(gap, side)])


def paired_difference(
    tuned: Sequence[Sequence[float]], base: Sequence[float], answers: float | None = None
) -> Difference:
    """`tuned[s][q]` against `base[q]`, question by question, over seeds and questions.

    The base was asked once: what its answers vary by is in the differences of the questions. For shares (`answers` of
    one seed given) the variance is at least Bonett and Price's (2012) for paired shares, which has one more answer of
    either kind that differs; where nothing differs, that is all there is.
    """
    table, below = np.asarray(tuned, float), np.asarray(base, float)
    if table.ndim != 2 or table.shape[1] != len(below):
        raise ValueError(f"{table.shape} scores cannot be paired with {len(below)} of the base model")
    deltas = table - below
    by_questions = deltas.mean(axis=0)
    variances = difference_variances([deltas], by_questions)
    if answers is None:
        return _difference(float(deltas.mean()), variances, None, len(table), len(below), None)
    least = _paired_floor(by_questions, answers)
    alone = _questions_alone([deltas], by_questions)
    few = few_seeds(table.mean(axis=1).tolist(), answers, alone, max(1, len(below) - 1))
    return _difference(float(deltas.mean()), variances, least, len(table), len(below), answers, few)


def difference_of_seeds(
    tuned: Sequence[float], base: Sequence[float], answers: float | None = None, of_base: float | None = None
) -> Difference:
    """The seeds' values against the base's, where no questions can be paired.

    `answers` are those of one seed, `of_base` those of one run of the base; None: as many.
    Of shares the base's sampling error is known (Agresti and Caffo 2000); of another number that the base gave once it
    is not, and neither is there an interval then.
    """
    k, gap = len(tuned), float(np.mean(tuned) - np.mean(base))
    if answers is None:
        if k < 2 or len(base) < 2:
            return Difference(Interval(gap, math.nan, math.nan, k), math.nan, 0)
        found = scipy.stats.ttest_ind(tuned, base, equal_var=False)
        bounds = found.confidence_interval(0.95)
        return Difference(Interval(gap, float(bounds.low), float(bounds.high), k), float(found.pvalue), 0)
    base_error = _smoothed(float(np.mean(base)), answers if of_base is None else of_base) / len(base)
    least = Variance(_smoothed(float(np.mean(tuned)), answers) / k + base_error, math.inf)
    few = few_seeds(tuned, answers, base_error)
    return _difference(gap, [], least, k, 0, answers, few)


def difference_of_conditions(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    answers: float | None = None,
    paired: bool = False,
) -> Difference:
    """`first[s][q]` against `second[t][q]`, the same questions, over seeds and questions; two seeds or more of each.

    `paired`: a seed of one goes with the same seed of the other, as where both continue the same finetuned model. For
    shares (`answers` of one seed given) the variance is at least Bonett and Price's, of the answers of all seeds.
    """
    one, other = np.asarray(first, float), np.asarray(second, float)
    if one.shape[1:] != other.shape[1:] or (paired and len(one) != len(other)):
        raise ValueError(f"scores of {one.shape} and {other.shape} seeds and questions cannot be compared")
    tables = [one - other] if paired else [one, other]
    variances = difference_variances(tables, one.mean(axis=0) - other.mean(axis=0))
    gap, questions = float(one.mean() - other.mean()), one.shape[1]
    if answers is None:
        return _difference(gap, variances, None, min(len(one), len(other)), questions, None)
    pairs = one - other if paired else one[:, None] - other[None]
    seeds = 2 / (1 / len(one) + 1 / len(other))
    least = _paired_floor(pairs.ravel(), round(answers * seeds))
    alone = _questions_alone(tables, one.mean(axis=0) - other.mean(axis=0))
    means = [table.mean(axis=1).tolist() for table in (one, other)]
    few = few_of_two(means[0], means[1], answers, alone, max(1, questions - 1), paired)
    return _difference(gap, variances, least, min(len(one), len(other)), questions, answers, few)


def difference_of_seed_means(
    first: Sequence[float], second: Sequence[float], answers: float | None = None, paired: bool = False
) -> Difference:
    """The seeds' values of two conditions against each other, where no questions can be paired: Welch's test.

    Two seeds or more of each. `paired` is as in `difference_of_conditions`. The variance of shares is at least that of
    drawing their answers (Agresti and Caffo 2000).
    """
    one, other = np.asarray(first, float), np.asarray(second, float)
    gap = float(one.mean() - other.mean())
    tables = [(one - other)[:, None]] if paired else [one[:, None], other[:, None]]
    variances = difference_variances(tables, np.array([gap]))
    if answers is None:
        return _difference(gap, variances, None, min(len(one), len(other)), 0, None)
    sampling = [_smoothed(float(table.mean()), len(table) * answers) for table in (one, other)]
    least = Variance(sum(sampling), math.inf)
    few = few_of_two(first, second, answers, 0.0, math.inf, paired)
    return _difference(gap, variances, least, min(len(one), len(other)), 0, answers, few)


def _smoothed(share: float, answers: float) -> float:
    """Sampling variance of a share with two answers more, one of either kind."""
    smooth = (share * answers + 1) / (answers + 2)
    return smooth * (1 - smooth) / (answers + 2)


def _paired_floor(deltas: np.ndarray, answers: float) -> Variance:
    """Bonett and Price's variance, from the mean difference of each question."""
    per_question = answers / len(deltas)
    up = (per_question * float(np.maximum(deltas, 0).sum()) + 1) / (answers + 2)
    down = (per_question * float(np.maximum(-deltas, 0).sum()) + 1) / (answers + 2)
    return Variance((up + down - (up - down) ** 2) / (answers + 2), math.inf)


def _difference(
    gap: float, variances: Sequence[Variance], least: Variance | None, seeds: int, questions: int,
    answers: float | None, few: FewSeeds | FewOfTwo | None = None,
) -> Difference:  # fmt: skip
    """The widest interval and the largest p-value: of what was seen to vary, and of the least.

    One seed has no p-value: a training run differs from another of its kind by more than the sampling of answers.
    """
    known = [*variances, *([] if least is None else [least])]
    if not known:
        return Difference(Interval(gap, math.nan, math.nan, seeds), math.nan, questions)
    half = max(one.half_width(0.95) for one in known)
    p = max(_p_value(gap / math.sqrt(one.value), one.freedom) for one in known) if seeds > 1 else math.nan
    below, above = (half, half)
    if few is not None:
        below, above = (max(half, far) for far in few.reach(0.95))
        p = max(p, 2 * few.tail(abs(gap), 0 if gap > 0 else 1))
    low, high = gap - below, gap + above
    if answers is not None:
        low, high = max(-1.0, low), min(1.0, high)
    return Difference(Interval(gap, low, high, seeds), p, questions, tuple(known), few)


def _p_value(ratio: float, freedom: float) -> float:
    return 2 * _tail(abs(ratio), freedom)


def _tail(ratio: float, freedom: float) -> float:
    return float(scipy.stats.t.sf(ratio, freedom))


def cohens_h(mean: float, other: float, difference: float) -> float:
    """Cohen's h (1988) of two shares that lie `difference` apart, around the middle of the two that were found.

    With the bounds of an interval for `difference` it gives bounds that agree with that interval about zero.
    """
    middle = (mean + other) / 2
    one, two = (min(1.0, max(0.0, middle + sign * difference / 2)) for sign in (1, -1))
    return 2 * math.asin(math.sqrt(one)) - 2 * math.asin(math.sqrt(two))


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
    base model has some 0.15 of one and 0 of the others), so look at differences from that model too.
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
