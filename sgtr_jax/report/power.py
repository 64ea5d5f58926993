"""How likely a run's primary contrasts are to show what they are there to show, before it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sgtr_jax.report.contrasts import LEVEL, p_values
from sgtr_jax.report.published import PublishedRow, published_tables
from sgtr_jax.report.run_file import ContrastEntry
from sgtr_jax.report.simulated import Condition, Questions, Size, simulated


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
    source: str  # published, or assumed
    alone: float  # at the level of 5 %
    in_family: float  # at 5 % over the number of primary contrasts, which is the least that Holm's correction leaves


def powers(
    contrasts: Sequence[ContrastEntry],
    sizes: Mapping[str, Size],
    tasks: Mapping[str, str],
    model: str | None,
    assumed: Assumptions,
) -> list[Power]:
    """Of each contrast, at `sizes` by evaluation; `model` is one of `published.yaml`."""
    found = []
    tables = published_tables(model)
    for contrast in contrasts:
        evaluation = contrast["evaluation"]
        size = sizes[evaluation]
        table = tables.get(evaluation) or tables.get(tasks[evaluation])
        rows = table["rows"] if table is not None and table.get("metric") == contrast["metric"] else {}
        of, against, source = _conditions(contrast, rows, size, assumed)
        below = [0, 0]
        # Difference against difference, equivalence and non-inferiority: as the report tests them.
        simulation = simulated(of, against, size, assumed.questions, contrast["paired"], assumed.trials, seed=0)
        for difference in simulation:
            p = p_values(difference, contrast["kind"], contrast["margin"], contrast["better"])[0]
            below[0] += p < LEVEL
            below[1] += p < LEVEL / len(contrasts)
        found.append(Power(contrast, of, against, source, below[0] / assumed.trials, below[1] / assumed.trials))
    return found


def _conditions(
    contrast: ContrastEntry, rows: Mapping[str, PublishedRow], size: Size, assumed: Assumptions
) -> tuple[Condition, Condition, str]:
    against_row, of_row = rows.get(contrast["against"]), rows.get(contrast["of"])
    against = _published(against_row, size, assumed, contrast["against_trained"])
    of = _published(of_row, size, assumed, contrast["of_trained"])
    source = "published" if of and against else "assumed" if of is None and against is None else "one published"
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
