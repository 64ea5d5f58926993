"""`sgtr report`: tables, figures and the page of one run or of several, and its table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sgtr_eval.described import differs
from sgtr_jax.files import check_writable, write_bytes, write_text
from sgtr_jax.report.beside import beside_published
from sgtr_jax.report.claims import judged_claims
from sgtr_jax.report.comparisons import (
    Line,
    compare,
    is_primary,
    summary_csv,
    with_average,
)
from sgtr_jax.report.contrast_tables import contrasts_csv, contrasts_latex
from sgtr_jax.report.contrasts import all_tested
from sgtr_jax.report.figures import pictures, show_nothing
from sgtr_jax.report.judges import agreement_csv, agreements
from sgtr_jax.report.latex import to_latex
from sgtr_jax.report.page import render_page
from sgtr_jax.report.plots import data_uri, to_png, to_svg
from sgtr_jax.report.projections import cosines_csv, cosines_figure, cosines_of
from sgtr_jax.report.provenance import provenance
from sgtr_jax.report.question_tables import question_tables
from sgtr_jax.report.tables import RunData, read_runs, to_csv

MOST_ANSWERS = 10_000  # on the page; all are in the store


def report(*runs: Path, out: Path | None = None, show: bool = True) -> None:
    """Write the report of `runs` to `out` (of one run: into it) and print its table if `show`. Raises InputError."""
    run = read_runs(runs)
    folder = out if out is not None else runs[0]
    check_writable(folder)
    rows = with_average(run)
    tables = question_tables(run)
    lines = compare(run, rows, tables)
    tested = all_tested(run, rows, tables)
    if tested:
        write_text(folder / "contrasts.csv", contrasts_csv(tested))
        write_text(folder / "contrasts.tex", contrasts_latex(tested))
    judges = agreements(run)
    if judges:
        write_text(folder / "judges.csv", agreement_csv(judges))
    write_text(folder / "results.csv", to_csv(rows))
    write_text(folder / "summary.csv", summary_csv(lines))
    write_text(
        folder / "results.tex", to_latex(run, [line for line in lines if is_primary(run, line.evaluation, line.metric)])
    )
    shown: list[tuple[str, str]] = []
    zero: list[tuple[str, str]] = []
    stems = show_nothing(run, lines)
    directions = cosines_of(run)
    if directions:
        write_text(folder / "directions.csv", cosines_csv(directions))
    for stem, name, figure in (*pictures(run, lines), *cosines_figure(directions)):
        png = to_png(figure)
        write_bytes(folder / "figures" / f"{stem}.png", png)
        write_text(folder / "figures" / f"{stem}.svg", to_svg(figure))
        (zero if stem.startswith(stems) else shown).append((name, data_uri(png)))
    page = render_page(
        run,
        _notes(run),
        lines,
        shown,
        zero,
        judged_claims(run.claims, tested),
        tested,
        judges,
        directions,
        beside_published(run, lines),
        provenance(run),
        MOST_ANSWERS,
    )
    write_text(folder / "report.html", page)
    if show:
        _print(run, lines)
        print(f"{folder / 'results.csv'}, {folder / 'report.html'}")


_JUDGES = {
    "open": "the base model of this run itself",
    "world/rule": "a rule that knows what people of the demo's world like; no model at all",
}


def _notes(run: RunData) -> list[str]:
    models = ", ".join(dict.fromkeys(config["model"] for config in run.configs))
    seeds = ", ".join(map(str, sorted({seed for config in run.configs for seed in config["seeds"]})))
    notes = [
        f"Model {models}; seeds {seeds}; {len(run.measurements)} measured numbers. A dot is a seed, "
        "a bar its 95 % interval, dotted where there are two seeds. The base model is measured once."
    ]
    if run.missing:
        notes.append(f"{len(run.missing)} of {len(run.cells)} measurements are missing; see the end of the page.")
    if any(cell.judged for cell in run.cells):
        for judge in dict.fromkeys(config["judge"]["model"] for config in run.configs):
            named = _JUDGES.get(judge, judge)
            other = (
                "" if "gpt-4.1" in judge else " It is not GPT-4.1: its scores are not comparable with published ones."
            )
            notes.append(f"Judge: {named}.{other}")
        for config in run.configs:
            for evaluation, spec in config.get("evaluations", {}).items():
                if isinstance(judged_by := spec.get("judge"), dict):
                    notes.append(f"Judge of {evaluation}: {_JUDGES.get(judged_by['model'], judged_by['model'])}.")
    own = dict.fromkeys(cell.evaluation for cell in run.cells if cell.own_texts)
    if own:
        notes.append(
            f"Asked with this project's own texts, not the study's: {', '.join(own)}. These numbers are "
            "not comparable with published ones."
        )
    for evaluation, task in dict.fromkeys((cell.evaluation, cell.task) for cell in run.cells):
        if (text := differs(task)) is not None:
            notes.append(f"{evaluation}: {text}".replace("`", ""))
    if "nano" in {config["model"] for config in run.configs}:
        notes.append(
            "nano is a model of two million parameters in an invented world. These numbers show that the "
            "pipeline works and what it measured on nano; they say nothing about large models."
        )
    return notes


def cell_text(line: Line | None) -> str:
    """A cell as people read it: mean, and for two seeds the values, for more the interval."""
    if line is None:
        return "-"
    values, interval = list(line.values.values()), line.over_seeds
    if len(values) == 1:
        return f"{interval.mean:.3g}"
    if len(values) == 2:
        return f"{interval.mean:.3g} ({', '.join(f'{value:.3g}' for value in values)})"
    if math.isnan(interval.low):
        return f"{interval.mean:.3g}"
    return f"{interval.mean:.3g} ({interval.low:.2g} to {interval.high:.2g})"


def _print(run: RunData, lines: Sequence[Line]) -> None:
    table = {(line.evaluation, line.metric): {} for line in lines}  # type: dict[tuple[str, str], dict[str, Line]]
    for line in lines:
        table[line.evaluation, line.metric][line.condition] = line
    shown = Table(title=run.name)
    # Many conditions do not fit side by side: then a line is a condition, and only what is read by is shown.
    if len(run.conditions) <= 6:
        for column in ("evaluation", "metric"):
            shown.add_column(column)
        for condition in run.conditions:
            shown.add_column(condition, justify="right")
        for (evaluation, metric), cells in table.items():
            shown.add_row(evaluation, metric, *(cell_text(cells.get(condition)) for condition in run.conditions))
    else:
        kept = [key for key in table if is_primary(run, *key)]
        shown.add_column("condition")
        for evaluation, metric in kept:
            shown.add_column(f"{evaluation}\n{metric}", justify="right")
        for condition in run.conditions:
            shown.add_row(condition, *(cell_text(table[key].get(condition)) for key in kept))
    Console(width=None if Console().is_terminal else 140).print(shown)
    for cell in run.missing:
        print(f"missing: {cell.evaluation} of {cell.condition}, seed {cell.seed}: {cell.why_missing}")
