"""The contrasts of a run's config, tested: differences, equivalence, non-inferiority, and one corrected family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgtr_eval.statistics import (
    Difference,
    Interval,
    cohens_h,
    difference_of_conditions,
    difference_of_seed_means,
    difference_of_seeds,
    holm,
    paired_difference,
)
from sgtr_jax.report.question_tables import same_questions
from sgtr_jax.report.run_file import ContrastEntry
from sgtr_jax.report.tables import Measurement, RunData

LEVEL = 0.05
Questions = Mapping[int, Mapping[str, float]]  # of a condition: mean value by question, by seed
# What is found. The first word of each kind is what the contrast was there to show.
HIGHER, LOWER, NONE_SHOWN, NONE_OF_SIZE = "higher", "lower", "no difference shown", "no difference of this size"
EQUIVALENT, NOT_EQUIVALENT, NOT_INFERIOR, INFERIOR = "equivalent", "not equivalent", "not inferior", "inferior"
NOT_SHOWN = "not shown"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Scores:
    """What a condition gave for one metric of one evaluation."""

    values: Mapping[int, float]  # by seed
    questions: Questions  # empty where there are none
    trained: bool  # False: the base model, which is measured once


@dataclass(frozen=True)
class Tested:
    """A contrast of two conditions on one evaluation, and what was found."""

    contrast: str
    of: str
    against: str
    evaluation: str
    metric: str
    kind: str
    margin: float | None
    primary: bool
    better: str
    of_seeds: int
    against_seeds: int
    n_questions: int  # that both were asked and are paired; 0: the seeds' values are compared
    paired_seeds: bool
    difference: Interval  # 95 %
    effect: Interval  # Cohen's h of shares; of other numbers the difference in standard deviations between seeds
    p_value: float
    p_family: float  # Holm's, over the primary family of all evaluations; NaN for what is exploratory
    p_ruled_out: float  # that it is outside the margin: small where the claim of the contrast is wrong
    also: tuple[str, ...] = ()  # other contrasts that are the same here
    found: str = NOT_MEASURED

    @property
    def p_decisive(self) -> float:
        """What decides: corrected in the primary family, and as it is elsewhere."""
        return self.p_family if self.primary else self.p_value


def difference_of(one: Scores, other: Scores, answers: float | None, paired: bool) -> tuple[Difference, bool]:
    """`one` against `other`, by seeds and questions as far as both have them; whether seeds were paired.

    The base model is asked once and has no seeds. A trained model with one seed gives a difference without p-value.
    """
    shared = sorted(set(one.values) & set(other.values))
    paired = paired and len(shared) > 1
    own, below = (shared, shared) if paired else (sorted(one.values), sorted(other.values))
    tables = [
        [scores.questions[seed] for seed in seeds if seed in scores.questions]
        for scores, seeds in ((one, own), (other, below))
    ]
    questions = same_questions([table for both in tables for table in both])
    by_question = len(questions) > 1 and len(tables[0]) == len(own) and len(tables[1]) == len(below)
    if len(own) > 1 and len(below) > 1:
        if by_question:
            first, second = ([[table[q] for q in questions] for table in both] for both in tables)
            return difference_of_conditions(first, second, answers, paired), paired
        first_values, second_values = [one.values[s] for s in own], [other.values[s] for s in below]
        return difference_of_seed_means(first_values, second_values, answers, paired), paired
    if len(below) == 1 and (len(own) == 1 or not other.trained):
        if by_question:
            table = [[by_q[q] for q in questions] for by_q in tables[0]]
            return paired_difference(table, [tables[1][0][q] for q in questions], answers), False
        return difference_of_seeds([one.values[s] for s in own], [other.values[s] for s in below], answers), False
    if not one.trained:
        turned, _ = difference_of(other, one, answers, paired=False)
        return turned.negated(), False
    gap = float(np.mean([one.values[s] for s in own]) - np.mean([other.values[s] for s in below]))
    return Difference(Interval(gap, math.nan, math.nan, 1), math.nan, 0), False


def p_values(found: Difference, kind: str, margin: float | None, better: str) -> tuple[float, float]:
    """P-value of what the contrast is to show, and of its contrary: that the difference is beyond the margin.

    A difference is contradicted where it is shown to be smaller than the margin; without a margin it can not be.
    """
    if kind == "difference":
        return found.p_value, math.nan if margin is None else found.p_within(margin)
    assert margin is not None
    if kind == "equivalence":
        # Either side may be wrong, and only one of them can be.
        return found.p_within(margin), min(1.0, 2 * min(found.p_above(margin), found.p_below(-margin)))
    if better == "higher":
        return found.p_above(-margin), found.p_below(-margin)
    return found.p_below(margin), found.p_above(margin)


def verdict(kind: str, gap: float, p_value: float, p_ruled_out: float) -> str:
    """What is found at the level of 5 %."""
    shown, ruled_out = p_value < LEVEL, p_ruled_out < LEVEL
    if math.isnan(p_value):
        return NOT_SHOWN
    if kind == "difference":
        if shown:
            return HIGHER if gap > 0 else LOWER
        return NONE_OF_SIZE if ruled_out else NONE_SHOWN
    good, bad = (EQUIVALENT, NOT_EQUIVALENT) if kind == "equivalence" else (NOT_INFERIOR, INFERIOR)
    return good if shown else bad if ruled_out else NOT_SHOWN


def effect_of(one: Scores, other: Scores, difference: Interval, is_share: bool) -> Interval:
    """The standardised effect with an interval that agrees with that of the difference about zero."""
    means = [float(np.mean(list(scores.values.values()))) for scores in (one, other)]
    parts = (difference.mean, difference.low, difference.high)
    if is_share:
        mean, low, high = (math.nan if math.isnan(part) else cohens_h(means[0], means[1], part) for part in parts)
        return Interval(mean, low, high, difference.n)
    spreads = [float(np.var(list(s.values.values()), ddof=1)) for s in (one, other) if len(s.values) > 1]
    spread = math.sqrt(float(np.mean(spreads))) if spreads else 0.0
    mean, low, high = (part / spread if spread > 0 else math.nan for part in parts)
    return Interval(mean, low, high, difference.n)


def all_tested(run: RunData, rows: Sequence[Measurement], tables: Mapping[tuple[str, str], Questions]) -> list[Tested]:
    """Every contrast that the run's config plans; `tables` are the questions by condition and evaluation.

    The primary family is corrected together, over all evaluations (Holm 1979).
    """
    values: dict[tuple[str, str, str], dict[int, Measurement]] = {}
    for row in rows:
        if not math.isnan(row.value):
            values.setdefault((row.condition, row.evaluation, row.metric), {})[row.seed] = row
    tested = [_tested(run, one, values, tables) for one in run.contrasts]
    family = holm({str(i): one.p_value for i, one in enumerate(tested) if one.primary})
    done = []
    for i, one in enumerate(tested):
        corrected = replace(one, p_family=family.get(str(i), math.nan))
        if one.of_seeds and one.against_seeds:
            found = verdict(one.kind, one.difference.mean, corrected.p_decisive, one.p_ruled_out)
            corrected = replace(corrected, found=found)
        done.append(corrected)
    return done


def _tested(
    run: RunData,
    planned: ContrastEntry,
    values: Mapping[tuple[str, str, str], Mapping[int, Measurement]],
    tables: Mapping[tuple[str, str], Questions],
) -> Tested:
    evaluation, metric = planned["evaluation"], planned["metric"]
    is_main = run.shown(evaluation).metric == metric
    both: list[Scores] = []
    measured: list[Measurement] = []
    sides = ((planned["of"], planned["of_trained"]), (planned["against"], planned["against_trained"]))
    for condition, trained in sides:
        rows = values.get((condition, evaluation, metric), {})
        questions = tables.get((condition, evaluation), {}) if is_main else {}
        both.append(Scores({s: r.value for s, r in sorted(rows.items())}, questions, trained))
        measured += rows.values()
    one, other = both
    is_share = any(row.answers is not None for row in measured)
    counts = [row.answers for row in measured]
    fewest = min((count for count in counts if count is not None and count > 0), default=None)
    answers = None if any(count is None or math.isnan(count) for count in counts) else fewest
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    difference, effect, questions_paired, paired, p, ruled_out = nothing, nothing, 0, False, math.nan, math.nan
    if one.values and other.values:
        found, paired = difference_of(one, other, answers, planned["paired"])
        difference, questions_paired = found.difference, found.n_questions
        effect = effect_of(one, other, difference, is_share)
        p, ruled_out = p_values(found, planned["kind"], planned["margin"], planned["better"])
    return Tested(
        planned["contrast"], planned["of"], planned["against"], evaluation, metric, planned["kind"], planned["margin"],
        planned["primary"], planned["better"], len(one.values), len(other.values), questions_paired, paired,
        difference, effect, p, math.nan, ruled_out, tuple(planned["also"]),
    )  # fmt: skip
