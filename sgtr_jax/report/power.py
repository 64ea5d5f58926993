"""How likely a run's primary contrasts are to show what they are there to show, before it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from sgtr_jax.report.comparisons import is_primary
from sgtr_jax.report.contrasts import LEVEL, p_values
from sgtr_jax.report.published import PublishedRow, PublishedTable, published_tables
from sgtr_jax.report.run_file import ContrastEntry
from sgtr_jax.report.simulated import Condition, Questions, Size, simulated
from sgtr_jax.report.tables import RunData


@dataclass(frozen=True)
class Assumptions:
    """What stands in for published numbers."""

    trials: int
    between: float  # standard deviation between seeds
    share: float  # of the condition that is compared with
    effect: float  # how far the other one is from it
    questions: Questions


@dataclass(frozen=True)
class Power:
    """The power of one contrast, and what it was computed from."""

    contrast: ContrastEntry  # `experiment.contrasts.Planned`
    of: Condition
    against: Condition
    source: str  # pilot, published, or assumed
    alone: float  # at the level of 5 %
    in_family: float  # at 5 % over the number of primary contrasts, which is the least that Holm's correction leaves
    error: float  # standard error of the difference, over the simulated experiments
    seeds: int
    answers: int  # of one seed

    @property
    def seen(self) -> float:
        """The smallest difference that as many seeds show in 80 of 100 experiments, at 5 % before any correction."""
        return _times_error(self.seeds) * self.error

    @property
    def seeds_needed(self) -> int | None:
        """Seeds that show this difference in 80 of 100 experiments; None where 1,000 do not, or it is no difference.

        The error shrinks with the root of the seeds; that of a base model, which is measured once, does not, so that
        against it more may be needed.
        """
        gap = abs(self.of.share - self.against.share)
        one_seed = self.error * math.sqrt(self.seeds)
        for seeds in range(2, _MOST_SEEDS + 1) if gap > 0 else ():
            if _times_error(seeds) * one_seed / math.sqrt(seeds) <= gap:
                return seeds
        return None

    @property
    def answers_needed(self) -> int | None:
        """Answers of one seed that show this difference in 80 of 100 experiments, with the seeds there are.

        They are of more questions, so that all but the seeds' own part of the error shrinks with them. None where the
        seeds vary too much for any number, and where it is no difference.
        """
        gap, one, other = abs(self.of.share - self.against.share), self.of, self.against
        between = sum(condition.between**2 for condition in (one, other) if condition.trained)
        if self.contrast["paired"]:  # half of what seeds vary by is common
            between -= one.between * other.between
        by_seeds = between / self.seeds
        left = (gap / _times_error(self.seeds)) ** 2 - by_seeds
        if gap == 0 or left <= 0:
            return None
        return math.ceil(self.answers * max(0.0, self.error**2 - by_seeds) / left) or 1


_MOST_SEEDS = 1000
_SHOWN_IN = 0.8  # of experiments


def _times_error(seeds: int) -> float:
    """How many standard errors a difference of two means over so many seeds has to be (Cohen 1988, chapter 2)."""
    freedom = max(2 * (seeds - 1), 1)
    return float(t.ppf(1 - LEVEL / 2, freedom) + t.ppf(_SHOWN_IN, freedom))


def powers(
    contrasts: Sequence[ContrastEntry],
    sizes: Mapping[str, Size],
    tasks: Mapping[str, str],
    model: str | None,
    assumed: Assumptions,
    pilot: Mapping[str, PublishedTable] | None = None,
) -> list[Power]:
    """Of each contrast, at `sizes` by evaluation; `model` is one of `published.yaml`. What a `pilot` has goes first."""
    found = []
    tables = published_tables(model)
    for contrast in contrasts:
        evaluation = contrast["evaluation"]
        size = sizes[evaluation]
        table = tables.get(evaluation) or tables.get(tasks[evaluation])
        rows: dict[str, tuple[PublishedRow, str]] = {}
        for origin, one in (("published", table), ("pilot", (pilot or {}).get(evaluation))):
            if one is not None and one.get("metric") == contrast["metric"]:
                rows |= {name: (row, origin) for name, row in one["rows"].items()}
        of, against, source = _conditions(contrast, rows, size, assumed)
        below, gaps = [0, 0], list[float]()
        # Difference against difference, equivalence and non-inferiority: as the report tests them.
        simulation = simulated(of, against, size, assumed.questions, contrast["paired"], assumed.trials, seed=0)
        for difference in simulation:
            p = p_values(difference, contrast["kind"], contrast["margin"], contrast["better"])[0]
            gaps.append(difference.difference.mean)
            below[0] += p < LEVEL
            below[1] += p < LEVEL / len(contrasts)
        alone, in_family = (count / assumed.trials for count in below)
        found.append(
            Power(contrast, of, against, source, alone, in_family, float(np.std(gaps)), size.seeds, size.answers)
        )
    return found


def _conditions(
    contrast: ContrastEntry, rows: Mapping[str, tuple[PublishedRow, str]], size: Size, assumed: Assumptions
) -> tuple[Condition, Condition, str]:
    against_row, against_from = rows.get(contrast["against"], (None, ""))
    of_row, of_from = rows.get(contrast["of"], (None, ""))
    against = _published(against_row, size, assumed, contrast["against_trained"])
    of = _published(of_row, size, assumed, contrast["of_trained"])
    origins = [origin for origin in dict.fromkeys((against_from, of_from)) if origin]
    source = " and ".join(origins) or "assumed"
    if bool(of_from) != bool(against_from):
        source = f"one {source}"
    if against is None:
        start = assumed.share if of is None else _moved(of.share, contrast, assumed)
        against = Condition(start, assumed.between, contrast["against_trained"])
    if of is None:
        of = Condition(_moved(against.share, contrast, assumed), assumed.between, contrast["of_trained"])
    return of, against, source


def _published(row: PublishedRow | None, size: Size, assumed: Assumptions, trained: bool) -> Condition | None:
    """A published share, and what seeds vary by besides the sampling of their answers."""
    if row is None:
        return None
    share, between = float(row["mean"]), assumed.between
    if (se := row.get("se")) is not None:
        between = math.sqrt(max(0.0, se**2 * row["seeds"] - share * (1 - share) / size.answers))
    return Condition(share, between, trained)


def _moved(share: float, contrast: ContrastEntry, assumed: Assumptions) -> float:
    """A share that is as far away as is assumed; as high where equivalence or non-inferiority is to be shown."""
    if contrast["kind"] != "difference":
        return share
    return share + assumed.effect if share + assumed.effect <= 1 else share - assumed.effect


def pilot_tables(run: RunData) -> dict[str, PublishedTable]:
    """The shares of a run by evaluation, as if they were published: mean, and standard error over seeds."""
    found: dict[str, PublishedTable] = {}
    by_cell: dict[tuple[str, str, str], list[float]] = {}
    for one in run.measurements:
        if one.answers is not None and is_primary(run, one.evaluation, one.metric):
            by_cell.setdefault((one.evaluation, one.metric, one.condition), []).append(one.value)
    for (evaluation, metric, condition), values in by_cell.items():
        row: PublishedRow = {"mean": float(np.mean(values)), "seeds": len(values)}
        if len(values) > 1:
            row["se"] = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        table = found.setdefault(evaluation, {"metric": metric, "rows": {}})
        table["rows"][condition] = row
    return found
