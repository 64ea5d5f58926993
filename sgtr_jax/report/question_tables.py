"""What each question adds to a measured mean, which is how conditions are compared question by question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sgtr_jax.report.run_file import SampleRow
from sgtr_jax.report.tables import RunData, samples

Tables = Mapping[tuple[str, str], Mapping[int, Mapping[str, float]]]


def question_tables(run: RunData) -> dict[tuple[str, str], dict[int, dict[str, float]]]:
    """Scores by question, by seed, of every condition and evaluation; see `scores_by_question`.

    Questions are told apart by their ids: their text may differ between seeds, in the order of options for instance.
    A measurement whose metric is not the mean of its answers' values has no table, so that no difference of something
    else stands beside it: what somebody else's task reports need not be a mean, and an older version of this project
    wrote other values.
    """
    tables: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    measured = {(row.condition, row.evaluation, row.seed, row.metric): row.value for row in run.measurements}
    for cell in run.cells:
        if cell.why_missing is not None:
            continue
        shown = run.shown(cell.evaluation)
        table = scores_by_question((shown.question_of(row["id"]), row) for row in samples(cell))
        whole = measured.get((cell.condition, cell.evaluation, cell.seed, shown.metric), math.nan)
        if table and math.isclose(whole, float(np.mean(list(table.values()))), rel_tol=1e-6, abs_tol=1e-6):
            tables.setdefault((cell.condition, cell.evaluation), {})[cell.seed] = table
    return tables


def same_questions(tables: Sequence[Mapping[str, float]]) -> list[str]:
    """The questions of all tables, in order; none where the tables have not the same ones.

    The difference of means over a part of the questions is not that of the means which are shown.
    """
    asked = {frozenset(table) for table in tables}
    return sorted(asked.pop()) if len(asked) == 1 else []


def scores_by_question(answers: Iterable[tuple[str, SampleRow]]) -> dict[str, float]:
    """A score for each question; their mean is the mean of all answers' values. Empty where no answer has a value.

    Where every question has as many answers it is the mean of the question's own. Where some answers have no value the
    mean of all answers is a ratio of two sums, and a question's score is its part in it, linearised (Cochran 1977,
    chapter 6): questions with more answers weigh more, and one without any neither raises nor lowers the mean.
    """
    values: dict[str, list[float]] = {}
    for question, row in answers:
        found = values.setdefault(question, [])
        if row["value"] is not None:
            found.append(row["value"])
    everything = [value for found in values.values() for value in found]
    if not everything:
        return {}
    mean, each = math.fsum(everything) / len(everything), len(everything) / len(values)
    return {question: mean + math.fsum(value - mean for value in found) / each for question, found in values.items()}
