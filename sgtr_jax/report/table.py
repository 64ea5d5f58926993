"""Measurements of a run as rows, and their summary over seeds."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from sgtr_jax.errors import InputError

COLUMNS = ("condition", "seed", "evaluation", "metric", "value", "n")


@dataclass(frozen=True)
class Measurement:
    """One measured number; `n` is how many samples it is over."""

    condition: str
    seed: int
    evaluation: str
    metric: str
    value: float
    n: int


@dataclass(frozen=True)
class Summary:
    """A metric of a condition over seeds; `half_width` is that of the 95 % t interval, NaN for one seed."""

    values: tuple[float, ...]
    mean: float
    half_width: float


def read_measurements(run: Path) -> list[Measurement]:
    """All measurements of a finished run. Raises InputError if `run` is not one."""
    path = run / "experiment.json"
    try:
        experiment = json.loads(path.read_text())
    except (OSError, ValueError):
        raise InputError(f"{run}: no finished run here (no readable experiment.json); `sgtr run` makes one") from None
    rows = []
    for cell in experiment["cells"]:
        metrics = run / "store" / cell["artifact"] / "metrics.json"
        if not metrics.exists():
            raise InputError(f"{metrics}: the measurement is missing; `sgtr run` makes it again")
        rows += [
            Measurement(
                cell["condition"],
                cell["seed"],
                cell["evaluation"],
                row["metric"],
                float(row["value"]),
                row["n"],
            )
            for row in json.loads(metrics.read_text())
        ]
    return rows


def to_csv(rows: Sequence[Measurement]) -> str:
    """`results.csv`: one line a measured number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    return out.getvalue()


def summarise(values: Sequence[float]) -> Summary:
    """Mean over seeds with its 95 % t interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Summary(tuple(values), mean, math.nan)
    half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return Summary(tuple(values), mean, half)


def pivot(rows: Sequence[Measurement]) -> dict[tuple[str, str], dict[str, Summary]]:
    """Summaries by (evaluation, metric), then by condition; both in order of appearance."""
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        values.setdefault((row.evaluation, row.metric), {}).setdefault(row.condition, []).append(row.value)
    return {
        key: {condition: summarise(seeds) for condition, seeds in by_condition.items()}
        for key, by_condition in values.items()
    }


def conditions_of(rows: Sequence[Measurement]) -> list[str]:
    """Conditions in order of appearance."""
    return list(dict.fromkeys(row.condition for row in rows))


def cell_text(summary: Summary | None) -> str:
    """A cell as people read it: mean, and for two seeds the values, for more the interval."""
    if summary is None:
        return "-"
    if len(summary.values) == 1:
        return f"{summary.mean:.3g}"
    if len(summary.values) == 2:
        return f"{summary.mean:.3g} ({', '.join(f'{value:.3g}' for value in summary.values)})"
    return f"{summary.mean:.3g} ± {summary.half_width:.2g}"
