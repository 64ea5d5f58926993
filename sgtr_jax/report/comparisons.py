"""Conditions over seeds: intervals, differences from the base model, corrected p-values, published numbers."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgtr_eval.facts import Better, is_part_of_average
from sgtr_eval.statistics import (
    Difference,
    Interval,
    average_misalignment,
    difference_of_seeds,
    holm,
    paired_difference,
    seeds_and_questions,
    share_interval,
    t_interval,
)
from sgtr_jax.report.question_tables import Tables, question_tables, same_questions
from sgtr_jax.report.tables import Measurement, RunData, answers_of

AVERAGE, AVERAGE_METRIC = "average_misalignment", "mean_of_four"


@dataclass(frozen=True)
class Line:
    """A metric of a condition over seeds."""

    evaluation: str
    metric: str
    condition: str
    values: Mapping[int, float]  # by seed
    missing: tuple[int, ...]  # seeds without a value, also those whose value is a share of no answers
    n: str  # answers of a seed; of each one where they differ
    over_seeds: Interval
    over_both: Interval | None  # over seeds and questions, where there are several of each
    difference: Interval | None  # from the base model; question by question where both were asked the same
    paired_by: str  # question, or seed
    n_questions: int = 0  # that were paired
    p_value: float = math.nan
    p_corrected: float = math.nan  # Holm, over the conditions of this evaluation and metric
    answers: float | None = None  # of a seed, of a share; None where it is none, or that is not known


def is_primary(run: RunData, evaluation: str, metric: str) -> bool:
    """Whether `metric` is the one that the evaluation is read by: drawn, compared, corrected and tabulated."""
    return evaluation == AVERAGE or run.shown(evaluation).metric == metric


def better(run: RunData, evaluation: str) -> Better:
    """Whether a higher or a lower value of what the evaluation is read by is better."""
    return "lower" if evaluation == AVERAGE else run.shown(evaluation).better


def with_average(run: RunData) -> list[Measurement]:
    """The measurements, and the average misalignment of every condition and seed that has all four parts."""
    rows = list(run.measurements)
    by_task: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for row in run.measurements:
        task = run.task_of(row.evaluation)
        if is_primary(run, row.evaluation, row.metric):
            by_task[row.condition, row.seed].setdefault(task, row.value)
    for (condition, seed), parts in by_task.items():
        mean, absent = average_misalignment(parts)
        if not absent:
            rows.append(Measurement(condition, seed, AVERAGE, AVERAGE_METRIC, mean, 4, math.nan))
    return rows


def compare(run: RunData, rows: Sequence[Measurement], tables: Tables | None = None) -> list[Line]:
    """A line for every evaluation, metric and condition, in order of appearance.

    `tables`: what `question_tables` found, where that was already read.
    """
    values: dict[tuple[str, str], dict[str, dict[int, Measurement]]] = {}
    for row in rows:
        values.setdefault((row.evaluation, row.metric), {}).setdefault(row.condition, {})[row.seed] = row
    wanted = defaultdict(set)
    for cell in run.cells:
        wanted[cell.condition, cell.evaluation].add(cell.seed)
        if is_part_of_average(cell.task):
            wanted[cell.condition, AVERAGE].add(cell.seed)
    tables = question_tables(run) if tables is None else tables
    lines: list[Line] = []
    for (evaluation, metric), by_condition in values.items():
        has_questions = evaluation != AVERAGE and is_primary(run, evaluation, metric)
        base = _known(by_condition.get(run.base_condition or "", {}))
        made = []
        for condition, found in by_condition.items():
            measured = _known(found)
            own = tables.get((condition, evaluation), {}) if has_questions else {}
            difference: Difference | None = None
            if base and measured and condition != run.base_condition:
                below = tables.get((run.base_condition or "", evaluation), {}) if has_questions else {}
                difference = _difference(measured, base, own, below)
            answers, seeds = answers_of(measured.values()), {seed: row.value for seed, row in measured.items()}
            interval = t_interval(list(seeds.values()))
            if any(row.answers is not None for row in measured.values()):
                interval = share_interval(list(seeds.values()), math.nan if answers is None else answers)
            counts = dict.fromkeys(row.n for row in (measured or found).values())
            made.append(
                Line(
                    evaluation, metric, condition, seeds,
                    tuple(sorted((wanted[condition, evaluation] | found.keys()) - measured.keys())),
                    " ".join(map(str, counts if len(counts) == 1 else [row.n for row in measured.values()])),
                    interval, _over_both(own, answers), None if difference is None else difference.difference,
                    "question" if difference is not None and difference.n_questions else "seed",
                    0 if difference is None else difference.n_questions,
                    math.nan if difference is None else difference.p_value, answers=answers,
                )
            )  # fmt: skip
        corrected = holm({line.condition: line.p_value for line in made})
        lines += [replace(line, p_corrected=corrected[line.condition]) for line in made]
    return lines


def _known(found: Mapping[int, Measurement]) -> dict[int, Measurement]:
    """Those that have a value, by seed: a share of no answers has none."""
    return {seed: row for seed, row in sorted(found.items()) if not math.isnan(row.value)}


def _over_both(own: Mapping[int, Mapping[str, float]], answers: float | None) -> Interval | None:
    questions = same_questions(list(own.values()))
    if len(own) < 2 or len(questions) < 2:
        return None
    return seeds_and_questions([[table[question] for question in questions] for table in own.values()], answers)


def _difference(
    measured: Mapping[int, Measurement],
    base: Mapping[int, Measurement],
    own: Mapping[int, Mapping[str, float]],
    base_condition: Mapping[int, Mapping[str, float]],
) -> Difference:
    questions = same_questions([*base_condition.values(), *own.values()])
    answers, of_base = answers_of(measured.values()), answers_of(base.values())
    if len(questions) > 1 and own.keys() == measured.keys() and base_condition.keys() == base.keys():
        table = [[own[seed][question] for question in questions] for seed in measured]
        below = [float(np.mean([one[question] for one in base_condition.values()])) for question in questions]
        fewest = None if answers is None or of_base is None else min(answers, of_base)
        return paired_difference(table, below, fewest)
    seeds, of_seeds = [row.value for row in measured.values()], [row.value for row in base.values()]
    return difference_of_seeds(seeds, of_seeds, answers, of_base)


SUMMARY_COLUMNS = (
    "evaluation", "metric", "condition", "seeds", "missing_seeds", "n", "mean", "low", "high",
    "both_low", "both_high", "difference", "difference_low", "difference_high",
    "paired_by", "n_questions", "p", "p_holm",
)  # fmt: skip


def summary_csv(lines: Sequence[Line]) -> str:
    """`summary.csv`: a line a condition and metric, with intervals and differences."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(SUMMARY_COLUMNS)
    for line in lines:
        none = Interval(math.nan, math.nan, math.nan, 0)
        both, gap = line.over_both or none, line.difference or none
        numbers = (line.over_seeds.mean, line.over_seeds.low, line.over_seeds.high, both.low, both.high)
        gaps = (gap.mean, gap.low, gap.high)
        writer.writerow(
            [
                line.evaluation, line.metric, line.condition, len(line.values), " ".join(map(str, line.missing)),
                line.n, *map(_plain, (*numbers, *gaps)), line.paired_by if line.difference else "",
                line.n_questions or "",
                _plain(line.p_value), _plain(line.p_corrected),
            ]
        )  # fmt: skip
    return out.getvalue()


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
