"""Which figures a run gives: what was measured decides."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

from matplotlib.figure import Figure

from sgtr_jax.files import read_jsonl
from sgtr_jax.report.adapters import adapters_below
from sgtr_jax.report.comparisons import AVERAGE, Line, better, is_primary
from sgtr_jax.report.panels import panels_of
from sgtr_jax.report.plots import condition_figure, curves_figure, doses_figure, scatter_figure, settings_figure
from sgtr_jax.report.projections import layer_figures, plane_figures
from sgtr_jax.report.tables import RunData
from sgtr_jax.sealed import damage

Table: TypeAlias = Mapping[tuple[str, str], Mapping[str, Line]]  # by evaluation and metric, then by condition
_CLUSTERS = re.compile(r"clusters_(single|complete)_([0-9.]+)")


def pictures(run: RunData, lines: Sequence[Line]) -> Iterator[tuple[str, str, Figure]]:
    """(file stem, what it shows, figure) of everything worth a figure."""
    table: dict[tuple[str, str], dict[str, Line]] = defaultdict(dict)
    for line in lines:
        table[line.evaluation, line.metric][line.condition] = line
    for (evaluation, metric), by_condition in table.items():
        if not is_primary(run, evaluation, metric):
            continue
        yield from _of_conditions(run, evaluation, metric, by_condition, table)
        yield from _of_settings(run, evaluation, metric, by_condition)
        yield from _of_fractions(run, evaluation, metric, by_condition)
        yield from _of_course(run, evaluation, metric, by_condition)
    yield from layer_figures(run, lines)
    yield from plane_figures(run, lines)
    yield from _of_kinds(run, table)
    yield from _of_training(run)


def show_nothing(run: RunData, lines: Sequence[Line]) -> tuple[str, ...]:
    """How the file stems of those figures begin in which every value is zero; they have a place behind the table."""
    values: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        if is_primary(run, line.evaluation, line.metric):
            values[f"{line.evaluation}-{line.metric}"] += line.values.values()
    return tuple(stem for stem, found in values.items() if not any(found))


def _of_conditions(
    run: RunData, evaluation: str, metric: str, by_condition: dict[str, Line], table: Table
) -> Iterator[tuple[str, str, Figure]]:
    title, axis = _words(run, evaluation)
    reference = _reference(run, evaluation, table)
    shown = [line for condition, line in by_condition.items() if condition != run.base_condition]
    if shown:
        name = f"{evaluation}: {title}"
        figure = condition_figure(
            name, axis, shown, by_condition.get(run.base_condition or ""), reference, _extent(run, evaluation)
        )
        yield f"{evaluation}-{metric}", name, figure


_BETTER = {"higher": " (higher is better)", "lower": " (lower is better)", "neither": ""}


def _words(run: RunData, evaluation: str) -> tuple[str, str]:
    """Title and axis of an evaluation's figures."""
    title, axis = "average misalignment", "mean of its four parts"
    if evaluation != AVERAGE:
        shown = run.shown(evaluation)
        title, axis = shown.title, shown.axis
    return title, axis + _BETTER[better(run, evaluation)]


def _extent(run: RunData, evaluation: str) -> tuple[float, float] | None:
    return (0.0, 1.0) if evaluation == AVERAGE else run.shown(evaluation).extent


def _reference(run: RunData, evaluation: str, table: Table) -> tuple[str, float] | None:
    """The level to compare with, where the evaluation has one and it was measured."""
    baseline = None if evaluation == AVERAGE else run.shown(evaluation).baseline
    if baseline is None:
        return None
    if baseline.level is not None:
        return baseline.label, baseline.level
    measured = table.get((evaluation, baseline.metric or ""), {})
    if not measured:
        return None
    level = next(iter(measured.values())).over_seeds.mean
    return f"{baseline.label}: {level:.2f}", level


def _of_settings(
    run: RunData, evaluation: str, metric: str, by_condition: dict[str, Line]
) -> Iterator[tuple[str, str, Figure]]:
    """Reversal beside prevention, see `panels_of`."""
    panels = panels_of(run, by_condition)
    if panels:
        title, axis = _words(run, evaluation)
        name = f"{evaluation}: {title}, reversal and prevention"
        yield (
            f"{evaluation}-{metric}-settings",
            name,
            settings_figure(name, axis, panels, by_condition.get(run.base_condition or ""), _extent(run, evaluation)),
        )


def _of_fractions(
    run: RunData, evaluation: str, metric: str, by_condition: dict[str, Line]
) -> Iterator[tuple[str, str, Figure]]:
    """Over how much of another set was mixed in; at 0 the same set with nothing mixed in."""
    curves: dict[str, dict[float, Line]] = defaultdict(dict)
    for config in run.configs:
        for condition, settings in config["conditions"].items():
            for stage in settings["stages"]:
                mixed = stage.get("interleave")
                fraction = mixed.get("fraction") if mixed else None
                if mixed and fraction and condition in by_condition and len(settings["stages"]) == 1:
                    prompt = ", inoculated" if stage.get("inoculation") else ""
                    chosen = ", selected" if mixed.get("select") else ""
                    name = f"{stage['data']} with {mixed['data']}{chosen}{prompt}"
                    curves[name][fraction] = by_condition[condition]
                    plain = f"{stage['data']}-inoculated" if prompt else stage["data"]
                    if plain in by_condition:
                        curves[name][0.0] = by_condition[plain]
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if curves:
        title, axis = _words(run, evaluation)
        name = f"{evaluation}: {title} by share mixed in"
        yield (
            f"{evaluation}-{metric}-fractions",
            name,
            doses_figure(
                name,
                "share of all rows",
                axis,
                curves,
                by_condition.get(run.base_condition or ""),
                _extent(run, evaluation),
            ),
        )


_POINT = re.compile(r"(?:-[0-9]+)?-at-[0-9.e+-]+$")


def _of_course(
    run: RunData, evaluation: str, metric: str, by_condition: dict[str, Line]
) -> Iterator[tuple[str, str, Figure]]:
    """Over the course of training, a curve for each seed: stage 1 from 0 to 1, stage 2 from 1 to 2, and so on."""
    wholes: dict[str, dict[str, float]] = defaultdict(dict)  # condition: those on its way, with the place of each
    for config in run.configs:
        for name, condition in config["conditions"].items():
            at = condition["stages"][-1].get("until") if condition["stages"] else None
            if isinstance(at, float) and name in by_condition:
                wholes[_POINT.sub("", name)][name] = len(condition["stages"]) - 1 + at
        for name in wholes:
            if name in config["conditions"]:
                wholes[name][name] = float(len(config["conditions"][name]["stages"]))
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    base = by_condition.get(run.base_condition or "")
    for name, points in wholes.items():
        for point, place in points.items():
            for seed, value in by_condition[point].values.items() if point in by_condition else ():
                curves[f"{name}, seed {seed}"].append((place, value))
    for curve in curves.values():
        if base is not None:
            curve.append((0.0, base.over_seeds.mean))
    if curves:
        title, axis = _words(run, evaluation)
        name = f"{evaluation}: {title} over the course of training"
        yield (
            f"{evaluation}-{metric}-course",
            name,
            curves_figure(
                name, "stages trained", axis, curves, marked=True, base_condition=base, extent=_extent(run, evaluation)
            ),
        )


def _of_kinds(run: RunData, table: Table) -> Iterator[tuple[str, str, Figure]]:
    """Where an evaluation counts how many kinds of answers there are: that against what it is read by."""
    for (evaluation, metric), naming in table.items():
        kinds = None if evaluation == AVERAGE else run.shown(evaluation).kinds
        if kinds is None or not is_primary(run, evaluation, metric):
            continue
        clusters = {
            found.groups(): by
            for (ev, m), by in table.items()
            if ev == evaluation and (found := _CLUSTERS.fullmatch(m))
        }
        counted, what = table.get((evaluation, kinds), {}), "different answers"
        if clusters:
            best = min((key for key in clusters if key[0] == "single"), key=lambda key: abs(float(key[1]) - 0.85))
            counted, what = clusters[best], f"clusters ({best[0]} link, cosine {best[1]})"
        points = {
            condition: [
                (line.values[seed], counted[condition].values[seed])
                for seed in line.values
                if seed in counted[condition].values
            ]
            for condition, line in naming.items()
            if condition in counted
        }
        if points:
            name = f"{evaluation}: who it says it is, and in how many ways"
            yield (
                f"{evaluation}-scatter",
                name,
                scatter_figure(name, run.shown(evaluation).title, what, points),
            )
        sweep: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for (rule, threshold), by in clusters.items():
            if rule == "single":
                for condition, line in by.items():
                    sweep[condition].append((float(threshold), line.over_seeds.mean))
        if sweep:
            name = f"{evaluation}: clusters by cosine threshold"
            yield f"{evaluation}-sweep", name, curves_figure(name, "cosine threshold", "clusters", sweep, marked=True)


def _of_training(run: RunData) -> Iterator[tuple[str, str, Figure]]:
    """The loss of every adapter the measured conditions rest on, and the projections that were logged beside it."""
    folders: dict[str, Path] = {}
    for cell in run.cells:
        if cell.why_missing is None:
            folders.update(adapters_below(cell.folder))
    curves: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for name, folder in sorted(folders.items()):
        if not damage(folder, whole=True, names=["metrics.jsonl"]):  # `sgtr check` says what is damaged
            for _, row in read_jsonl(folder / "metrics.jsonl", empty=True):
                for key, value in row.items():
                    if key == "loss" or key.startswith("projection/"):
                        curves[key][name].append((cast(float, row["step"]), cast(float, value)))
    for key, found in curves.items():
        _, _, projected = key.partition("/")
        name = "training: loss" if key == "loss" else f"training: projection on {projected.replace('/', ', layer ')}"
        axis = "loss, nats a target token" if key == "loss" else "projection of prompts"
        yield f"training-{key.replace('/', '-')}", name, curves_figure(name, "step", axis, found)
