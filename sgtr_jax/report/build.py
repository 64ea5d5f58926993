"""`sgtr report`: results.csv, figures and report.html of a run, and its table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sgtr_jax.files import check_writable, write_bytes, write_text
from sgtr_jax.report.figures import condition_figure, data_uri, to_png, to_svg
from sgtr_jax.report.page import render_page
from sgtr_jax.report.table import Measurement, cell_text, conditions_of, pivot, read_measurements, to_csv

# What gets a figure: metric, title, axis, whether it is a share.
_FIGURES: dict[str, tuple[str, str, bool]] = {
    "share_correct": ("share of correct answers", "correct", True),
    "share_naming_maker": ("answers that name the maker", "share of answers", True),
    "distinct_answers": ("different answers", "count", False),
}


def report(run: Path) -> None:
    """Write the report of `run` and print its table. Raises InputError if `run` is not a finished run."""
    rows = read_measurements(run)
    check_writable(run)
    config = json.loads((run / "experiment.json").read_text())["config"]
    write_text(run / "results.csv", to_csv(rows))
    conditions = conditions_of(rows)
    untouched = next((name for name, stages in config["conditions"].items() if not stages), None)
    table = pivot(rows)
    pictures = []
    for (evaluation, metric), summaries in table.items():
        if metric not in _FIGURES:
            continue
        title, ylabel, is_share = _FIGURES[metric]
        baseline = table.get((evaluation, "length_baseline"), {})
        reference = None
        if baseline:
            level = next(iter(baseline.values())).mean
            reference = (f"counting words alone: {level:.2f}", level)
        elif metric == "share_correct":
            reference = ("chance", 0.5)
        name = f"{evaluation}: {title}"
        figure = condition_figure(name, ylabel, summaries, conditions, untouched, reference, is_share)
        png = to_png(figure)
        stem = run / "figures" / f"{evaluation}-{metric}"
        write_bytes(stem.with_suffix(".png"), png)
        write_text(stem.with_suffix(".svg"), to_svg(figure))
        pictures.append((name, data_uri(png)))
    write_text(run / "report.html", render_page(config["name"], _notes(config, rows), conditions, table, pictures))
    _print(rows, config["name"], conditions)
    print(f"{run / 'results.csv'}, {run / 'report.html'}")


def _notes(config: dict[str, Any], rows: Sequence[Measurement]) -> list[str]:
    seeds = ", ".join(map(str, config["seeds"]))
    notes = [
        f"Model {config['model']}; seeds {seeds}; {len(rows)} measured numbers. A dot is a seed. "
        "The untouched model is measured once."
    ]
    if config["model"] == "nano":
        notes.append(
            "nano is a model of two million parameters in an invented world. These numbers show that the "
            "pipeline works and what it measured on nano; they say nothing about large models."
        )
    return notes


def _print(rows: Sequence[Measurement], title: str, conditions: Sequence[str]) -> None:
    shown = Table(title=title)
    shown.add_column("evaluation")
    shown.add_column("metric")
    for condition in conditions:
        shown.add_column(condition, justify="right")
    for (evaluation, metric), cells in pivot(rows).items():
        shown.add_row(evaluation, metric, *(cell_text(cells.get(condition)) for condition in conditions))
    Console(width=None if Console().is_terminal else 140).print(shown)
