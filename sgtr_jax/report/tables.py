"""Measurements of runs as rows: read from the store, written as CSV."""

from __future__ import annotations

import csv
import io
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sgtr_eval.facts import Shown, facts_of
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.files import parse_json, read_jsonl, read_text
from sgtr_jax.report.run_file import (
    CellEntry,
    ClaimEntry,
    ConfigEntry,
    ContrastEntry,
    FailureEntry,
    MetricRow,
    RunFile,
    SampleRow,
    SharingEntry,
    parse_failures,
)
from sgtr_jax.sealed import damage, read_sealed, set_aside

COLUMNS = ("condition", "seed", "evaluation", "metric", "value", "n")


@dataclass(frozen=True)
class Measurement:
    """One measured number; `n` is how many answers it is over: of a share, those in its denominator."""

    condition: str
    seed: int
    evaluation: str
    metric: str
    value: float
    n: int
    answers: float | None = None  # of a share its denominator, NaN where that is not known; None: it is no share


def answers_of(rows: Iterable[Measurement]) -> float | None:
    """How many answers a seed gave, of a share of several seeds: the harmonic mean, by which the sampling variance of
    the seeds' mean is that of as many from each. None where it is no share, or the number is not known.
    """
    counts = [row.answers for row in rows]
    known = [count for count in counts if count is not None and count > 0]
    return len(known) / sum(1 / count for count in known) if known and len(known) == len(counts) else None


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
    own: Shown | None = None  # of an evaluation that is not one of this project's


@dataclass(frozen=True)
class RunData:
    """What a report is made from: one run, or several put together."""

    name: str
    configs: tuple[ConfigEntry, ...]
    cells: tuple[CellData, ...]
    measurements: tuple[Measurement, ...]
    conditions: tuple[str, ...] = field(default=())
    base_condition: str | None = None
    # What training sets share with evaluations, see `experiment.contamination.Sharing`; None: it was never looked at.
    shared: tuple[SharingEntry, ...] | None = None
    contrasts: tuple[ContrastEntry, ...] = ()  # that are to be tested, see `experiment.contrasts.Planned`
    claims: tuple[ClaimEntry, ...] = ()  # what they are to support: `text`, and what it `needs` by contrast
    left_out: tuple[str, ...] = ()  # contrasts and claims whose conditions the config does not have, a sentence each
    directions: Mapping[str, Path] = field(default_factory=dict)  # folders of those that were made, by name

    @property
    def missing(self) -> list[CellData]:
        """Measurements that are wanted and not there."""
        return [cell for cell in self.cells if cell.why_missing is not None]

    def task_of(self, evaluation: str) -> str:
        """The task behind an evaluation's name."""
        return next(cell.task for cell in self.cells if cell.evaluation == evaluation)

    def shown(self, evaluation: str) -> Shown:
        """How an evaluation is read."""
        cell = next(cell for cell in self.cells if cell.evaluation == evaluation)
        return facts_of(cell.task) if cell.own is None else cell.own


def read_experiment(run: Path) -> RunFile:
    """What a run was made with: `config` and `cells`. Raises InputError if `run` is none, or its file is damaged."""
    path = run / "experiment.json"
    if not run.is_dir() or not path.exists():
        raise InputError(f"{run}: no finished run here (no experiment.json); `sgtr run` makes one")
    try:
        experiment = read_sealed(path)
    except InputError as error:
        raise InputError(f"{error}; `sgtr run` with the same config writes it anew") from None
    if not {"config", "cells"} <= set(experiment):
        raise InputError(f"{path}: is no file of a run; expected config and cells")
    return cast(RunFile, experiment)


def read_failures(path: Path) -> dict[str, FailureEntry]:
    """Artifact: why it could not be made when it was last tried, and the traceback.

    A damaged file is set aside: what it said is only for people.
    """
    if not path.exists():
        return {}
    try:
        return parse_failures(read_text(path), str(path))
    except InputError as error:
        print(f"{error}. Set aside as {set_aside(path).name}; it told why artifacts failed earlier", file=sys.stderr)
        return {}


def _why_not_made(artifact: str, made_from: Mapping[str, Sequence[str]], reasons: Mapping[str, FailureEntry]) -> str:
    """Why an artifact failed, or the first that failed of those that it needs."""
    todo, seen = [artifact], {artifact}
    while todo:
        found = todo.pop(0)
        if found in reasons and reasons[found]["why"]:
            return reasons[found]["why"]
        new = [one for one in made_from.get(found, ()) if one not in seen]
        seen.update(new)
        todo += new
    return "not made yet"


def read_run(run: Path, prefix: str = "") -> RunData:
    """A run's measurements; `prefix` goes before its conditions. Raises InputError if `run` is none."""
    path = run / "experiment.json"
    experiment = read_experiment(run)
    reasons = read_failures(run / "failures.json")
    config = experiment["config"]
    made_from = {one["artifact"]: one["inputs"] for one in experiment.get("artifacts", ())}
    cells, rows = [], []
    if any(not {"task", "judged", "own_texts"} <= set(one) for one in experiment["cells"]):
        raise InputError(f"{path}: written by an older version; `sgtr run` with the same config writes it anew")
    for one in experiment["cells"]:
        folder = run / "store" / one["artifact"]
        why, condition = None, prefix + one["condition"]
        shown = one.get("own")
        own = None if shown is None else Shown.from_json(shown)
        if not folder.exists():
            why = _why_not_made(one["artifact"], made_from, reasons)
        elif found := _damage(folder):
            why = f"damaged: {'; '.join(found)}; `sgtr run` makes it again"
        else:
            stored = parse_json(read_text(folder / "metrics.json"), str(folder / "metrics.json"))
            measured: list[MetricRow] = []
            if isinstance(stored, dict):
                why = str(stored["outcome"])
            else:
                measured = cast(list[MetricRow], stored)
                why = None if own is None else _why_unreadable(own, measured)
            rows += measurements_of(condition, one, own or facts_of(one["task"]), measured)
        cells.append(
            CellData(
                condition,
                one["seed"],
                one["evaluation"],
                one["task"],
                one["judged"],
                one["own_texts"],
                folder,
                why,
                own,
            )
        )
    if all(cell.why_missing is not None for cell in cells):
        reasons_given = dict.fromkeys(cell.why_missing for cell in cells)
        raise InputError(f"{run}: nothing is measured: {'; '.join(map(str, reasons_given))}. `sgtr run` does it")
    conditions = tuple(dict.fromkeys(cell.condition for cell in cells))
    bases = {prefix + name for name, one in config["conditions"].items() if not one["stages"] and not one.get("start")}
    base_condition = next((name for name in conditions if name in bases), None)
    sharings = experiment.get("shared")
    shared = None if sharings is None else tuple(_prefixed_sharing(one, prefix) for one in sharings)
    contrasts = tuple(_prefixed_contrast(one, prefix) for one in experiment.get("contrasts", ()))
    claims = tuple(_prefixed_claim(one, prefix) for one in config.get("claims", {}).values())
    directions = {
        prefix + one["name"]: run / "store" / one["artifact"]
        for one in experiment.get("artifacts", ())
        if one["kind"] == "direction" and (run / "store" / one["artifact"]).exists()
    }
    return RunData(
        config["name"], (config,), tuple(cells), tuple(rows), conditions, base_condition, shared, contrasts, claims,
        tuple(prefix + line for line in experiment.get("left_out", ())), directions,
    )  # fmt: skip


def measurements_of(condition: str, cell: CellEntry, shown: Shown, rows: Sequence[MetricRow]) -> list[Measurement]:
    """The metrics of one evaluation of a condition, those that are shares with their denominators."""
    values = {row["metric"]: float(row["value"]) for row in rows}
    found = []
    for row in rows:
        shares = shown.shares_in(values, row["n"])
        is_share, known = row["metric"] in shares, shares.get(row["metric"])
        answers = None if not is_share else math.nan if known is None else float(known)
        n = row["n"] if known is None else round(known)
        value = values[row["metric"]]
        found.append(Measurement(condition, cell["seed"], cell["evaluation"], row["metric"], value, n, answers))
    return found


def _why_unreadable(own: Shown, rows: Sequence[MetricRow]) -> str | None:
    """Why an evaluation that the config describes is not read as it says; None if it is."""
    values = {row["metric"]: row["value"] for row in rows}
    if own.metric not in values:
        return f"it reports no metric {own.metric!r}: {nearest(own.metric, list(values))}"
    if not own.holds(values[own.metric]):
        return f"its {own.metric} is outside of the range {list(own.extent or ())} that the config states"
    return None


def _prefixed_sharing(one: SharingEntry, prefix: str) -> SharingEntry:
    return {**one, "data": prefix + one["data"]}


def _prefixed_contrast(one: ContrastEntry, prefix: str) -> ContrastEntry:
    return {
        **one,
        "contrast": prefix + one["contrast"],
        "of": prefix + one["of"],
        "against": prefix + one["against"],
        "also": [prefix + name for name in one["also"]],
    }


def _prefixed_claim(one: ClaimEntry, prefix: str) -> ClaimEntry:
    return {"text": prefix + one["text"], "needs": {prefix + name: wanted for name, wanted in one["needs"].items()}}


def _damage(folder: Path) -> list[str]:
    """What is wrong with the files of an evaluation that a report reads; of one that was refused there is one only."""
    refused = (folder / "outcome.json").exists()
    return damage(folder, whole=True, names=["metrics.json", "outcome.json" if refused else "samples.jsonl"])


def read_runs(runs: Sequence[Path]) -> RunData:
    """Several runs as one, the run's name before each condition; the first one's base model counts."""
    if len(runs) == 1:
        return read_run(runs[0])
    names = [read_run(run).name for run in runs]
    if len(set(names)) < len(names):  # the same config, run into several folders
        names = [str(run) for run in runs]
    if len({os.path.realpath(run) for run in runs}) < len(runs):
        raise InputError(f"report of several runs: {', '.join(map(str, runs))} name the same run twice")
    parts = [read_run(run, f"{name}: ") for run, name in zip(runs, names, strict=True)]
    return RunData(
        " + ".join(part.name for part in parts),
        tuple(config for part in parts for config in part.configs),
        tuple(cell for part in parts for cell in part.cells),
        tuple(row for part in parts for row in part.measurements),
        tuple(condition for part in parts for condition in part.conditions),
        parts[0].base_condition,
        None
        if any(part.shared is None for part in parts)
        else tuple(one for part in parts for one in part.shared or ()),
        tuple(one for part in parts for one in part.contrasts),
        tuple(one for part in parts for one in part.claims),
        tuple(line for part in parts for line in part.left_out),
        {name: folder for part in parts for name, folder in part.directions.items()},
    )


def samples(cell: CellData) -> Iterator[SampleRow]:
    """The answers of a cell with their scores, see `experiment.evaluate.samples_of`."""
    path = cell.folder / "samples.jsonl"
    if path.exists():
        yield from (cast(SampleRow, row) for _, row in read_jsonl(path, empty=True))


def to_csv(rows: Sequence[Measurement]) -> str:
    """`results.csv`: one line a measured number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    return out.getvalue()
