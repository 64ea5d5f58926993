"""Each interval and p-value is its published formula, written out in loops; the bounds of each rule are met exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from by_hand import (
    agrees,
    bonett_price,
    mean,
    one_sided,
    one_sided_of,
    reach_of,
    reach_of_two,
    same,
    smoothed,
    squares,
    student,
    variance_by_hand,
    variances_by_hand,
    wider,
    wilson_by_roots,
)

from sgtr_eval.facts import all_facts
from sgtr_eval.few_seeds import FewSeeds, quantile, wilson
from sgtr_eval.statistics import (
    Variance,
    average_misalignment,
    cohens_h,
    difference_of_conditions,
    difference_of_seed_means,
    difference_of_seeds,
    holm,
    paired_difference,
    seeds_and_questions,
    share_interval,
    t_interval,
    two_way_variance,
)

pytestmark = pytest.mark.filterwarnings("error")  # no mean of nothing, no variance of one

SIZES = [(2, 2), (3, 4), (5, 3), (2, 9), (4, 2)]


@pytest.mark.parametrize(("seeds", "questions"), SIZES)
def test_the_variance_of_a_table_is_that_of_the_mean_squares(seeds: int, questions: int) -> None:
    effects = [(1.0, 1.0, 1.0), (0.1, 2.0, 0.3), (2.0, 0.1, 0.3), (0.0, 0.0, 1.0), (0.0, 0.0, 3.0)]
    rng = np.random.default_rng(5)
    for by_seed, by_question, by_answer in effects * 4:
        table = (rng.normal(0, by_seed, (seeds, 1)) + rng.normal(0, by_question, questions)
                 + rng.normal(0, by_answer, (seeds, questions)))  # fmt: skip
        found = two_way_variance(table)
        assert (found.value, found.freedom) == pytest.approx(variance_by_hand(table.tolist()))
        half = student(found.freedom) * math.sqrt(found.value)
        flat = [mean(row) for row in table.tolist()]
        same(seeds_and_questions(table.tolist()), mean(flat) - half, mean(flat) + half, flat)
        half = student(found.freedom, 0.8) * math.sqrt(found.value)
        same(seeds_and_questions(table.tolist(), level=0.8), mean(flat) - half, mean(flat) + half, flat)


def test_the_rest_alone_gives_what_seeds_or_questions_have_of_it() -> None:
    table = [[1.0, 0.0], [0.0, 1.0]]  # neither seeds nor questions differ: the estimate is below 0, and 0 is left
    assert two_way_variance(np.asarray(table)) == Variance(0.0, math.inf)
    table = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]  # by hand: questions 1/36, seeds 0, rest 1/12; nothing but questions
    found = two_way_variance(np.asarray(table))
    assert (found.value, found.freedom) == pytest.approx((1 / 36, 1.0))
    table = [[3.0, -1.5], [-1.0, -0.5]]  # seeds 9/16, questions 16/16, rest 25/16: exactly nothing is left
    assert two_way_variance(np.asarray(table)) == Variance(1.0, 1.0)


def test_one_seed_or_one_question_leaves_what_the_other_varies_by() -> None:
    values = [0.2, 0.9, 0.4, 0.4]
    spread = sum((v - mean(values)) ** 2 for v in values) / 3 / 4
    for table in (np.asarray([values]), np.asarray(values)[:, None]):
        found = two_way_variance(table)
        assert (found.value, found.freedom) == (pytest.approx(spread), 3)
    alone = two_way_variance(np.asarray([[0.7]]))
    assert (alone.value, alone.freedom) == (0.0, 0)
    for table in ([[0.2, 0.9]], [[0.2], [0.9]]):
        found_interval = seeds_and_questions(table, 10)
        assert found_interval.mean == pytest.approx(0.55) and found_interval.n == len(table)
        assert math.isnan(found_interval.low) and math.isnan(found_interval.high)
    flat = seeds_and_questions([[2.0, 2.0], [2.0, 2.0]])
    assert flat.mean == 2 and flat.n == 2 and math.isnan(flat.low) and math.isnan(flat.high)
    with pytest.raises(ValueError, match="1 axes; expected seeds and questions"):
        seeds_and_questions([0.1, 0.2])  # type: ignore[list-item]


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_widest_of_several_intervals_holds(level: float) -> None:
    given: dict[str, Any] = {} if level == 0.95 else {"level": level}
    for answers, rates in ((50, [0.2, 0.24, 0.3]), (50, [0.1, 0.5]), (4000, [0.1, 0.5, 0.9]), (1, [0.0, 1.0, 1.0])):
        k, m = len(rates), mean(rates)
        first = wilson_by_roots(m, k * answers, student(math.inf, level))
        spread = sum((r - m) ** 2 for r in rates) / (k - 1) / k
        other = FewSeeds(tuple(rates), answers, 0.0).bounds(level)
        same(share_interval(rates, answers, **given), min(first[0], other[0]), max(first[1], other[1]), rates)
        unknown = wilson_by_roots(m, m * (1 - m) / spread, student(k - 1, level))
        same(share_interval(rates, math.nan, **given), *unknown, rates)
    for rates in ([0.3], [0.3, 0.3]):
        same(
            share_interval(rates, 20, **given), *wilson_by_roots(0.3, 20 * len(rates), student(math.inf, level)), rates
        )
    for rates in ([0.3], [0.3, 0.3]):  # of how many answers is not known, and nothing varies
        unknown_interval = share_interval(rates, math.nan, **given)
        assert (unknown_interval.mean, unknown_interval.n) == (0.3, len(rates))
        assert math.isnan(unknown_interval.low) and math.isnan(unknown_interval.high)
    same(seeds_and_questions([[0.4, 0.4]] * 2, 9), *wilson_by_roots(0.4, 18, student(math.inf)), [0.4, 0.4])
    for table, answers in (([[0.1, 0.6, 0.2], [0.3, 0.4, 0.2]], 30), ([[0.0, 0.9], [0.4, 1.0], [0.1, 0.8]], 9000)):
        rows = [mean(row) for row in table]
        value, freedom = variance_by_hand(table)
        first = wilson_by_roots(mean(rows), len(rows) * answers, student(math.inf, level))
        other = wilson_by_roots(mean(rows), mean(rows) * (1 - mean(rows)) / value, student(freedom, level))
        _, of_questions, of_answers = squares(table)
        below, above = reach_of(rows, answers, max(0.0, of_questions - of_answers), len(table[0]) - 1)(level)
        found = seeds_and_questions(table, answers, **given)
        low, high = min(first[0], other[0], mean(rows) - below), max(first[1], other[1], mean(rows) + above)
        same(found, max(0.0, low), min(1.0, high), rows)


def test_the_interval_of_a_table_is_that_of_its_variance_or_of_its_seeds_and_questions() -> None:
    """Each bound is the farther one of two: these tables have every combination."""
    wanted = {
        (0, 0): (1000, [[0.6] * 3, [0.4] * 3, [0.6] * 3]), (1, 0): (50, [[0.0, 0.1]] * 5),
        (1, 1): (50, [[0.0] * 4, [0.0, 0.0, 0.1, 0.0], [0.1, 0.0, 0.1, 0.0], [0.0] * 4, [0.0] * 4]),
        (0, 1): (10, [[0.7, 1, 0.5, 0.7], [0.9, 1, 0.8, 0.8], [0.8, 1, 0.6, 1], [0.7, 0.7, 0.8, 0.9],
                      [0.7, 1, 0.7, 0.9]]),
    }  # fmt: skip
    for (lower, upper), (answers, table) in wanted.items():
        rows = [mean(row) for row in table]
        value, freedom = variance_by_hand(table)
        whole = wilson_by_roots(mean(rows), mean(rows) * (1 - mean(rows)) / value, student(freedom))
        _, of_questions, of_answers = squares(table)
        below, above = reach_of(rows, answers, max(0.0, of_questions - of_answers), len(table[0]) - 1)(0.95)
        lows, highs = (whole[0], mean(rows) - below), (whole[1], mean(rows) + above)
        assert (int(lows[1] < lows[0]), int(highs[1] > highs[0])) == (lower, upper)
        same(seeds_and_questions(table, answers), max(0.0, lows[lower]), min(1.0, highs[upper]), rows)


def test_answers_that_are_right_or_wrong_are_averaged_as_numbers() -> None:
    one, other = np.asarray([[True, False, True], [True, True, True]]), np.asarray([[False, False, True]] * 2)
    numbers = one.astype(float).tolist(), other.astype(float).tolist()
    for answers in (None, 3):
        assert difference_of_conditions(one, other, answers) == difference_of_conditions(*numbers, answers)  # type: ignore[arg-type]
        assert paired_difference(one, other[0], answers) == paired_difference(numbers[0], numbers[1][0], answers)  # type: ignore[arg-type]
    found = difference_of_seed_means(one[:, 1], other[:, 1], 3)
    assert found == difference_of_seed_means([0.0, 1.0], [0.0, 0.0], 3)


def test_conditions_are_not_paired_unless_that_is_said() -> None:
    one, other = [[0.9, 0.4], [0.5, 0.6]], [[0.2, 0.1], [0.3, 0.4]]
    for answers in (None, 20):
        assert difference_of_conditions(one, other, answers) == difference_of_conditions(one, other, answers, False)
        means = [0.65, 0.55], [0.15, 0.35]
        unpaired, paired = (difference_of_seed_means(*means, answers, one) for one in (False, True))
        assert difference_of_seed_means(*means, answers) == unpaired
        assert paired.variances != unpaired.variances
    assert difference_of_conditions(one, other[:1] * 3, 20).n_questions == 2  # of three seeds, which cannot be paired


def test_seeds_that_agree_leave_the_sampling_of_their_answers() -> None:
    for one, other, seeds in (([0.5, 0.5], [0.3, 0.3, 0.3], 2), ([1.0, 1.0], [0.0, 0.0], 2)):
        least = smoothed(one[0], 10 * len(one)) + smoothed(other[0], 10 * len(other))
        gap = one[0] - other[0]
        found = difference_of_seed_means(one, other, 10)
        reach = reach_of_two(one, other, 10, 0.0, math.inf, False)
        agrees(found, gap, wider(gap, [(least, math.inf)], seeds, True, reach), seeds, 0)
    assert found.difference.high == 1.0
    assert math.isnan(difference_of_seed_means([0.5, 0.5], [0.3, 0.3]).p_value)


def test_the_difference_the_other_way_round_has_the_other_tails() -> None:
    found = difference_of_seeds([0.9, 0.8, 0.4], [0.1], 5000)
    other = found.negated()
    assert found.few is not None and other.difference.n == found.difference.n == 3
    for bound in (-0.1, 0.0, 0.2, 0.5):
        assert other.p_below(-bound) == pytest.approx(found.p_above(bound), rel=1e-6)
        assert other.p_above(-bound) == pytest.approx(found.p_below(bound), rel=1e-6)
    # Its seeds say less than the sampling of answers, on either side of a bound.
    assert found.p_above(0.2) > 2 * replace(found, few=None).p_above(0.2)
    plain = difference_of_conditions([[0.9, 0.4], [0.5, 0.6]], [[0.2, 0.1], [0.3, 0.4]])
    assert plain.few is None and plain.negated().few is None
    assert plain.negated().p_below(0.1) == plain.p_above(-0.1)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_at_the_ends_reach_them(share: float) -> None:
    low, high = wilson_by_roots(share, 40, 1.5)
    found = wilson(share, 40, 1.5)
    assert found == (pytest.approx(low, abs=1e-9), pytest.approx(high)) and found[int(share)] == share
    both = seeds_and_questions([[share] * 3] * 2, 10)
    bounds = wilson_by_roots(share, 20, student(math.inf))
    assert (both.low, both.high) == (pytest.approx(bounds[0], abs=1e-9), pytest.approx(bounds[1]))
    assert share_interval([share, share], 10) == both


def test_rounding_takes_no_bound_past_the_ends() -> None:
    for answers in range(1, 400):
        for z in (1.0, 1.5, 1.96):
            assert wilson(1.0, answers, z)[1] == 1.0 and wilson(0.0, answers, z)[0] == 0.0
            assert wilson(math.nextafter(1.0, 0.0), answers, z)[1] <= 1.0 and wilson(5e-324, answers, z)[0] >= 0.0


def test_without_shares_or_answers_there_is_no_interval() -> None:
    for shares, answers in (([], 10), ([0.5, 0.6], 0), ([math.nan, 0.5], 10)):
        found = share_interval(shares, answers)
        assert found.n == len(shares) and math.isnan(found.low) and math.isnan(found.high)
    assert math.isnan(share_interval([], 10).mean) and share_interval([0.5, 0.6], 0).mean == pytest.approx(0.55)
    assert share_interval([0.5], 1).low > 0


def test_students_interval_at_a_level() -> None:
    values = [0.2, 0.9, 0.4]
    half = student(2, 0.8) * math.sqrt(sum((v - 0.5) ** 2 for v in values) / 2 / 3)
    same(t_interval(values, 0.8), 0.5 - half, 0.5 + half, values)
    same(t_interval(values[:2]), 0.55 - student(1) * 0.35, 0.55 + student(1) * 0.35, values[:2])
    for few in ([], [3.0], [3.0, 3.0]):
        found = t_interval(few)
        assert found.n == len(few) and math.isnan(found.low) and math.isnan(found.high)
        assert math.isnan(found.mean) if not few else found.mean == 3
    assert quantile(7.5, 0.9) == pytest.approx(student(7.5, 0.9)) and quantile(math.inf, 0.5) == pytest.approx(0.67449)


@pytest.mark.parametrize("answers", [None, 12, 3000])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("seeds", "others", "questions"), [(3, 3, 4), (5, 2, 3), (2, 2, 9), (5, 5, 2)])
def test_differences_of_two_conditions_by_hand(
    seeds: int, others: int, questions: int, paired: bool, answers: int | None
) -> None:
    rng = np.random.default_rng(8)
    one, other = rng.random((seeds, questions)).tolist(), (0.7 * rng.random((others, questions))).tolist()
    if paired and seeds != others:
        with pytest.raises(ValueError, match="cannot be compared"):
            difference_of_conditions(one, other, answers, paired)
        return
    columns = [mean([row[j] for row in one]) - mean([row[j] for row in other]) for j in range(questions)]
    deltas = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(one, other, strict=False)]
    known = variances_by_hand([deltas] if paired else [one, other], columns)
    if answers is not None:
        every = [a - b for x in one for y in other for a, b in zip(x, y, strict=True)]
        of_all = 2 * answers * seeds * others / (seeds + others)
        known.append((bonett_price([d for row in deltas for d in row] if paired else every, round(of_all)), math.inf))
    gap, fewer, reach = mean(columns), min(seeds, others), None
    means = [mean(row) for row in one], [mean(row) for row in other]
    if answers is not None:
        of_questions = sum((c - gap) ** 2 for c in columns) / (questions - 1) / questions
        rest = max(0.0, of_questions - sum(squares(table)[2] for table in ([deltas] if paired else [one, other])))
        reach = reach_of_two(*means, answers, rest, questions - 1, paired)
    found = difference_of_conditions(one, other, answers, paired)
    agrees(found, gap, wider(gap, known, fewer, answers is not None, reach), fewer, questions)
    upper = max(one_sided((gap - 0.1) / math.sqrt(value), freedom) for value, freedom in known)
    lower = max(one_sided((-0.2 - gap) / math.sqrt(value), freedom) for value, freedom in known)
    if reach is not None:
        upper, lower = (max(p, one_sided_of(reach, side, far))
                        for p, side, far in ((upper, 0, gap - 0.1), (lower, 1, -0.2 - gap)))  # fmt: skip
    assert found.p_above(0.1) == pytest.approx(upper) and found.p_below(-0.2) == pytest.approx(lower)
    assert found.p_within(0.3) == max(found.p_above(-0.3), found.p_below(0.3))
    by_seeds = [(known[0][0], known[0][1])]
    if answers is not None:
        sampling = smoothed(mean(means[0]), answers * seeds) + smoothed(mean(means[1]), answers * others)
        by_seeds.append((sampling, math.inf))
        reach = reach_of_two(*means, answers, 0.0, math.inf, paired)
    agrees(difference_of_seed_means(*means, answers, paired), gap,
           wider(gap, by_seeds, fewer, answers is not None, reach), fewer, 0)  # fmt: skip


def test_an_effect_is_zero_where_the_difference_is() -> None:
    assert cohens_h(0.3, 0.3, 0.0) == 0.0
    assert cohens_h(0.2, 0.1, 0.1) == pytest.approx(2 * (math.asin(0.2**0.5) - math.asin(0.1**0.5)))
    assert cohens_h(0.9, 0.1, 0.8) == -cohens_h(0.1, 0.9, -0.8) and cohens_h(0.0, 0.0, 5.0) == math.pi
    assert math.isnan(paired_difference([[0.0, 1.0, 1.0]], [0.0, 0.0, 1.0], 3).p_within(0.1))


@pytest.mark.parametrize("answers", [None, 12, 3000])
@pytest.mark.parametrize(("seeds", "questions"), [*SIZES, (1, 6)])
def test_paired_differences_by_hand(seeds: int, questions: int, answers: int | None) -> None:
    rng = np.random.default_rng(6)
    tuned, base = rng.random((seeds, questions)).tolist(), (0.6 * rng.random(questions)).tolist()
    deltas = [[t - b for t, b in zip(row, base, strict=True)] for row in tuned]
    columns = [mean([row[j] for row in deltas]) for j in range(questions)]
    known = variances_by_hand([deltas], columns)
    if answers is not None:
        known.append((bonett_price(columns, answers), math.inf))
    gap, reach = mean(columns), None
    if answers is not None and seeds > 1:
        _, of_questions, of_answers = squares(deltas)
        reach = reach_of([mean(row) for row in tuned], answers, max(0.0, of_questions - of_answers), questions - 1)
    wanted = wider(gap, known, seeds, answers is not None, reach)
    agrees(paired_difference(tuned, base, answers), gap, wanted, seeds, questions)


def test_paired_shares_that_do_not_differ_have_the_least_variance() -> None:
    found = paired_difference([[1.0, 0.0, 1.0]] * 2, [1.0, 0.0, 1.0], 3)
    agrees(found, 0.0, wider(0.0, [(2 / 5 / 5, math.inf)], 2, True, reach_of([2 / 3, 2 / 3], 3, 0.0)), 2, 3)
    one = paired_difference([[0.9], [0.1]], [0.2])  # one question: what seeds vary by
    agrees(one, 0.3, wider(0.3, [(0.8**2 / 2 / 2, 1)], 2, False), 2, 1)
    shares = paired_difference([[0.9], [0.1]], [0.2], 5)  # of which questions vary by nothing that is known
    known = [(0.8**2 / 2 / 2, 1), (bonett_price([0.3], 5), math.inf)]
    agrees(shares, 0.3, wider(0.3, known, 2, True, reach_of([0.9, 0.1], 5, 0.0, 1)), 2, 1)
    alone = paired_difference([[1.0]], [0.0])
    assert alone.difference.mean == 1 and (alone.difference.n, alone.n_questions) == (1, 1)
    assert math.isnan(alone.difference.low) and math.isnan(alone.difference.high) and math.isnan(alone.p_value)
    far = paired_difference([[1.0, 1.0], [1.0, 0.9]], [0.0, 0.1], 2)
    assert far.difference.high == 1.0 and paired_difference([[0.0, 0.1]] * 2, [1.0, 1.0], 2).difference.low == -1.0
    with pytest.raises(ValueError, match=r"\(3,\) scores cannot be paired with 3 of"):
        paired_difference([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])  # type: ignore[list-item]


@pytest.mark.parametrize("answers", [8, 5000])
@pytest.mark.parametrize("base", [[0.1], [0.3], [0.2, 0.3, 0.4]])
@pytest.mark.parametrize("tuned", [[0.9], [0.9, 0.8, 0.4], [0.4, 0.45], [0.6, 0.6]])
def test_differences_of_shares_by_hand(tuned: list[float], base: list[float], answers: int) -> None:
    """Agresti and Caffo's (2000) for the base; the seeds' own spread, or at least the sampling of their answers."""
    k, gap = len(tuned), mean(tuned) - mean(base)
    below = smoothed(mean(base), answers) / len(base)
    known = [(smoothed(mean(tuned), answers) / k + below, math.inf)]
    reach = reach_of(tuned, answers, below) if k > 1 else None
    found = difference_of_seeds(tuned, base, answers)
    agrees(found, gap, wider(gap, known, k, True, reach), k, 0)
    if reach is not None:
        other = found.negated()
        assert (other.difference.low, other.difference.high) == (-found.difference.high, -found.difference.low)
        assert other.p_above(-0.1) == pytest.approx(found.p_below(0.1))
        assert found.p_above(found.difference.low) >= 0.025 - 1e-6 and found.p_above(1.0) >= 0.5
    fewer = difference_of_seeds(tuned, base, answers, answers // 4)  # of the base
    assert fewer.difference.high > found.difference.high or fewer.difference.high == 1


def test_differences_of_other_numbers_are_welchs() -> None:
    tuned, base = [3.0, 5.0, 4.5, 7.0], [2.0, 2.5, 1.0]
    parts = [(sum((v - mean(x)) ** 2 for v in x) / (len(x) - 1) / len(x), len(x) - 1) for x in (tuned, base)]
    value = sum(part for part, _ in parts)
    freedom = value**2 / sum(part**2 / of for part, of in parts)
    gap = mean(tuned) - mean(base)
    agrees(difference_of_seeds(tuned, base), gap, wider(gap, [(value, freedom)], 4, False), 4, 0)
    parts = [(0.5**2 * 2 / 1 / 2, 1), (0.25**2 * 2 / 1 / 2, 1)]
    value = sum(part for part, _ in parts)
    freedom = value**2 / sum(part**2 for part, _ in parts)
    found = difference_of_seeds([3.0, 4.0], [2.0, 2.5])
    agrees(found, 1.25, wider(1.25, [(value, freedom)], 2, False), 2, 0)
    for few, others in (([3.0], [1.0, 2.0]), ([3.0, 4.0], [1.0])):
        none = difference_of_seeds(few, others)
        assert none.difference.mean == pytest.approx(mean(few) - mean(others)) and none.n_questions == 0
        assert math.isnan(none.difference.low) and math.isnan(none.difference.high)
        assert math.isnan(none.p_value) and none.difference.n == len(few)


def test_corrected_p_values_stop_at_one_and_keep_their_order() -> None:
    found = holm({"a": 0.6, "b": 0.01, "c": 0.4, "d": math.nan, "e": 0.005})
    wanted = {"a": 0.8, "b": 0.03, "c": 0.8, "d": math.nan, "e": 0.02}
    assert found == pytest.approx(wanted, nan_ok=True) and list(found) == list(wanted)
    assert holm({"x": 0.9, "y": 0.95}) == {"x": 1.0, "y": 1.0} and holm({}) == {}


def test_a_mean_over_fewer_parts_is_none() -> None:
    wanted = [name for name, facts in all_facts().items() if facts.in_average]
    parts: dict[str, float | None] = dict.fromkeys(wanted, 0.5)
    assert average_misalignment({**parts, wanted[1]: math.nan})[1] == [wanted[1]]
    exact = {"em_questions": 0.2, "truthfulqa": 0.8, "frame_colleague": 0.1, "monitor_disruption": 0.3, "other": 9.0}
    assert average_misalignment(exact) == (pytest.approx((0.2 + (1 - 0.8) + 0.1 + 0.3) / 4), [])
    value, missing = average_misalignment({})
    assert math.isnan(value) and missing == wanted
