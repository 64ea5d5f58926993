"""Ours beside the published numbers: the same quantities only, with the errors of both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgtr_eval.facts import facts_of
from sgtr_jax.report.comparisons import AVERAGE, Line, is_primary
from sgtr_jax.report.published import PublishedRow, PublishedTable, published_tables
from sgtr_jax.report.tables import RunData


@dataclass(frozen=True)
class Published:
    """A published number beside ours."""

    evaluation: str
    metric: str
    condition: str
    published: float
    published_error: float | None  # standard error: over seeds, of one seed within the run; None: not known
    published_seeds: int
    note: str
    ours: float
    ours_error: float | None
    ours_seeds: int
    distance: float | None  # in standard errors of the difference; None where one is not known, or the two not the same


def beside_published(run: RunData, lines: Sequence[Line]) -> tuple[list[Published], list[str]]:
    """Ours beside the published numbers of the config's model, and the lines of ours that have none."""
    models = {config["published"] for config in run.configs if config.get("published")}
    if len(models) != 1:
        return [], []
    tables = published_tables(models.pop())
    found, absent = [], []
    for line in lines:
        if line.evaluation == AVERAGE:
            continue
        primary = is_primary(run, line.evaluation, line.metric)
        table = tables.get(line.evaluation) or tables.get(run.task_of(line.evaluation)) or PublishedTable(rows={})
        other = table.get("other_metrics", {}).get(line.metric)
        row = (table["rows"] if primary else {} if other is None else other["rows"]).get(line.condition)
        if row is not None:
            why = other["not_comparable"] if other is not None and not primary else _other_quantity(run, line, table)
            found.append(_beside(run, line, row, table.get("answers") if primary else None, why))
        elif primary:
            absent.append(f"{line.evaluation}, {line.condition}")
    return found, absent


def _other_quantity(run: RunData, line: Line, table: PublishedTable) -> str:
    """Why the two numbers are not of the same thing; empty where they are."""
    theirs = table.get("source")
    ours = {config.get("evaluations", {}).get(line.evaluation, {}).get("source", "base") for config in run.configs}
    # The base model's own summaries are both.
    if theirs is None or ours == {theirs} or line.condition == run.base_condition:
        return ""
    whose = {"base": "the base model's summaries", "self": "each model's own summaries"}
    return f"published for {whose[theirs]}, measured here on {' and '.join(whose[one] for one in sorted(ours))}"


def _beside(run: RunData, line: Line, row: PublishedRow, answers: int | None, why: str) -> Published:
    values = list(line.values.values())
    is_share = answers is not None and facts_of(run.task_of(line.evaluation)).extent == (0.0, 1.0)
    spread = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    ours = standard_error(line.over_seeds.mean, spread, len(values), line.answers if is_share else None)
    theirs = standard_error(row["mean"], row.get("se"), row["seeds"], answers)
    whole = None if ours is None or theirs is None or why else math.hypot(ours, theirs)
    gap = line.over_seeds.mean - row["mean"]
    note = "; ".join(part for part in (f"not comparable: {why}" if why else "", row.get("note", "")) if part)
    return Published(
        line.evaluation, line.metric, line.condition, row["mean"], theirs, row["seeds"], note, line.over_seeds.mean,
        ours, len(values), gap / whole if whole else None,
    )  # fmt: skip


def standard_error(mean: float, spread: float | None, seeds: int, answers: float | None) -> float | None:
    """The standard error of a mean over seeds, where `spread` is the one that the seeds show; None: not known.

    Where there is one seed, or all give the same, it is what the answers of a run amount to (of a share; half an answer
    is added to both sides, so that none of 100 has an error, too): the spread between seeds is missing from that.
    """
    if spread:
        return spread
    if answers is None:
        return None
    share = (mean * answers + 0.5) / (answers + 1)
    return math.sqrt(share * (1 - share) / answers / seeds)
