"""Measurements of runs as rows: read from the store, written as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgtr_jax.errors import InputError
from sgtr_jax.files import read_jsonl

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
class CellData:
    """One evaluation of one condition at a seed, and where it is stored."""

    condition: str
    seed: int
    evaluation: str
    task: str
    judged: bool
    own_texts: bool  # whether it asks this project's texts and not the study's
    folder: Path
    why_missing: str | None  # None if it is there


@dataclass(frozen=True)
class RunData:
    """What a report is made from: one run, or several put together."""

    name: str
    configs: tuple[dict[str, Any], ...]
    cells: tuple[CellData, ...]
    measurements: tuple[Measurement, ...]
    conditions: tuple[str, ...] = field(default=())
    untouched: str | None = None

    @property
    def missing(self) -> list[CellData]:
        """Measurements that are wanted and not there."""
        return [cell for cell in self.cells if cell.why_missing is not None]

    def task_of(self, evaluation: str) -> str:
        """The task behind an evaluation's name."""
        return next(cell.task for cell in self.cells if cell.evaluation == evaluation)


def read_run(run: Path, prefix: str = "") -> RunData:
    """A run's measurements; `prefix` goes before its conditions. Raises InputError if `run` is none."""
    path = run / "experiment.json"
    try:
        experiment = json.loads(path.read_text())
    except (OSError, ValueError):
        raise InputError(f"{run}: no finished run here (no readable experiment.json); `sgtr run` makes one") from None
    failures = run / "failures.json"
    reasons = json.loads(failures.read_text()) if failures.exists() else {}
    config = experiment["config"]
    cells, rows = [], []
    if any(not {"task", "judged", "own_texts"} <= set(one) for one in experiment["cells"]):
        raise InputError(f"{path}: written by an older version; `sgtr run` with the same config writes it anew")
    for one in experiment["cells"]:
        folder = run / "store" / one["artifact"]
        why, condition = None, prefix + one["condition"]
        if not (folder / "metrics.json").exists():
            why = reasons.get(one["artifact"], {}).get("why") or "not made yet"
        else:
            stored = json.loads((folder / "metrics.json").read_text())
            if isinstance(stored, dict):
                why, stored = stored["outcome"], []
            for row in stored:
                value = float(row["value"])
                rows.append(Measurement(condition, one["seed"], one["evaluation"], row["metric"], value, row["n"]))
        cells.append(
            CellData(
                condition, one["seed"], one["evaluation"], one["task"], one["judged"], one["own_texts"], folder, why
            )
        )
    if all(cell.why_missing is not None for cell in cells):
        raise InputError(f"{run}: nothing is measured yet; `sgtr run` does it")
    conditions = tuple(dict.fromkeys(cell.condition for cell in cells))
    stages = {prefix + name: condition["stages"] for name, condition in config["conditions"].items()}
    untouched = next((name for name in conditions if not stages[name]), None)
    return RunData(config["name"], (config,), tuple(cells), tuple(rows), conditions, untouched)


def read_runs(runs: Sequence[Path]) -> RunData:
    """Several runs as one, the run's name before each condition; the first one's untouched model counts."""
    if len(runs) == 1:
        return read_run(runs[0])
    names = [read_run(run).name for run in runs]
    if len(set(names)) < len(names):  # the same config, run into several folders
        names = [str(run) for run in runs]
    if len({run.resolve() for run in runs}) < len(runs):
        raise InputError(f"report of several runs: {', '.join(map(str, runs))} name the same run twice")
    parts = [read_run(run, f"{name}: ") for run, name in zip(runs, names, strict=True)]
    return RunData(
        " + ".join(part.name for part in parts),
        tuple(config for part in parts for config in part.configs),
        tuple(cell for part in parts for cell in part.cells),
        tuple(row for part in parts for row in part.measurements),
        tuple(condition for part in parts for condition in part.conditions),
        parts[0].untouched,
    )


def samples(cell: CellData) -> Iterator[dict[str, Any]]:
    """The answers of a cell with their scores, see `experiment.evaluate.samples_of`."""
    path = cell.folder / "samples.jsonl"
    if path.exists():
        yield from (row for _, row in read_jsonl(path, empty=True))


def to_csv(rows: Sequence[Measurement]) -> str:
    """`results.csv`: one line a measured number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    return out.getvalue()
