"""`sgtr check`: every file of a run against what was written down when it was made."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sgtr_jax.errors import InputError
from sgtr_jax.experiment.spending import LEDGER, read_ledger
from sgtr_jax.experiment.store import is_artifact
from sgtr_jax.files import read_text
from sgtr_jax.report.comparisons import with_average
from sgtr_jax.report.run_file import parse_failures, read_artifact
from sgtr_jax.report.tables import read_experiment, read_run, to_csv
from sgtr_jax.sealed import RECORD, damage, extra_files, is_older


@dataclass
class _Kind:
    """What was found of the artifacts of a kind."""

    whole: int = 0
    damaged: int = 0
    older: int = 0
    files: int = 0
    size: int = 0  # bytes


@dataclass
class _Found:
    kinds: dict[str, _Kind] = field(default_factory=lambda: defaultdict(_Kind))
    damaged: list[str] = field(default_factory=list)  # what ends the command with 1, and is made again
    by_hand: list[str] = field(default_factory=list)  # what does so and has to be mended
    notes: list[str] = field(default_factory=list)


def check(folder: Path) -> int:
    """Read every file of a run, or of a folder of `sgtr eval`, and print what is damaged. Returns 1 if anything is.

    Nothing is changed: `sgtr run` sets what is damaged aside and makes it again. Raises InputError if `folder` is
    neither.
    """
    is_run = (folder / "store").is_dir() or (folder / "experiment.json").exists()
    root = folder / "store" if is_run else folder
    artifacts = [path for path in _children(root) if is_artifact(path.name)] if is_run else _evaluations(root)
    if not is_run and not artifacts:
        raise InputError(f"{folder}: no run and no folder of `sgtr eval` (neither experiment.json nor TASK/{RECORD})")
    found = _Found()
    for path in artifacts:
        _look_at(path, found)
    try:
        read_ledger(folder / LEDGER)
    except InputError as error:
        found.by_hand.append(str(error))
    if is_run:
        _look_at_run(folder, found)
        aside = [path.name for path in _children(root) if ".damaged-" in path.name]
        found.notes += [f"set aside earlier: {name}" for name in aside]
    _print(found, folder, is_run)
    return 1 if found.damaged or found.by_hand else 0


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _evaluations(folder: Path) -> list[Path]:
    made = [path for path in _children(folder) if any((path / name).exists() for name in (RECORD, "metrics.json"))]
    return [path for path in made if ".damaged-" not in path.name]


def _look_at(path: Path, found: _Found) -> None:
    kind = found.kinds[path.name.split("-")[0]]
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        kind.files += len(files)
        kind.size += sum(file.stat().st_size for file in files)
    if is_older(path):
        kind.older += 1
        return
    problems = damage(path, whole=True)
    if not problems:
        try:
            digits = read_artifact(path)["fingerprint"][:12]
            if is_artifact(path.name) and not path.name.endswith(f"-{digits}"):
                problems = [f"{RECORD} is of another artifact, {digits}"]
        except InputError as error:
            problems = [str(error).removeprefix(f"{path}/")]
    if problems:
        kind.damaged += 1
        found.damaged.append(f"{path.name}: {'; '.join(problems)}")
        return
    kind.whole += 1
    found.notes += [f"{path.name}: {name} is not of this artifact, and is not read" for name in extra_files(path)]


def _look_at_run(run: Path, found: _Found) -> None:
    """What lies beside the store: the run's description, why artifacts failed, the table of what was measured."""
    failures = run / "failures.json"
    try:
        if failures.exists():
            parse_failures(read_text(failures), str(failures))
    except InputError as error:
        found.damaged.append(str(error))
    try:
        cells = read_experiment(run)["cells"]
    except InputError as error:
        found.damaged.append(str(error))
        return
    absent = [cell["artifact"] for cell in cells if not (run / "store" / cell["artifact"]).exists()]
    if absent:
        found.notes.append(f"{len(absent)} of {len(cells)} measurements are not there yet; `sgtr run` makes them")
    table = run / "results.csv"
    if table.exists() and not found.damaged:
        try:
            wanted = to_csv(with_average(read_run(run)))
        except InputError as error:
            found.notes.append(str(error))
            return
        if table.read_bytes() != wanted.encode():
            found.damaged.append(f"results.csv: is not what the artifacts give; `sgtr report {run}` writes it anew")


def _print(found: _Found, folder: Path, is_run: bool) -> None:
    table = Table(title=str(folder))
    for column in ("artifacts", "whole", "damaged", "older", "files", "MB"):
        table.add_column(column, justify="left" if column == "artifacts" else "right")
    for name, kind in sorted(found.kinds.items()):
        counts = (kind.whole, kind.damaged, kind.older, kind.files)
        table.add_row(name, *map(str, counts), f"{kind.size / 1e6:.1f}")
    Console(width=None if Console().is_terminal else 120).print(table)
    for line in (*found.damaged, *found.by_hand):
        print(f"damaged: {line}")
    for line in found.notes:
        print(f"note: {line}")
    if any(kind.older for kind in found.kinds.values()):
        print("note: older artifacts have no record of their files; `sgtr run` reads them and writes one")
    again = "`sgtr run` sets it aside and makes it again" if is_run else "the same `sgtr eval` makes it again"
    if found.damaged:
        print(f"{len(found.damaged)} damaged: {again}")
    elif not found.by_hand:
        print("nothing is damaged")
