"""Figures: one dot per seed, the mean with its interval, the base model as a line."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("svg")
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from sgtr_jax.report.comparisons import Line

_DOT, _MEAN, _LINE, _SOFT = "#4477aa", "#222222", "#bb5566", "#888888"
_SEED = re.compile(r"(?:, seed |-s)\d+$")
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


def condition_figure(
    title: str,
    ylabel: str,
    lines: Sequence[Line],
    base_condition: Line | None,
    reference: tuple[str, float] | None = None,
    extent: tuple[float, float] | None = (0.0, 1.0),
) -> Figure:
    """A row per condition. `reference` is a labelled level to compare with (chance, a baseline)."""
    figure = Figure(figsize=(7.2, 1.2 + 0.34 * max(3, len(lines))), layout="constrained")
    axes = figure.subplots()
    for y, line in enumerate(lines):
        _dots(axes, y, line)
    if base_condition is not None:
        label = f"{base_condition.condition} model"
        axes.axvline(base_condition.over_seeds.mean, color=_LINE, lw=1.2, label=label)
    if reference is not None:
        axes.axvline(reference[1], color=_SOFT, lw=1.0, ls="--", label=reference[0])
    axes.set_yticks(range(len(lines)), [line.condition for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    _value_axis(axes, extent)
    axes.set_xlabel(ylabel)
    _finish(figure, axes, title)
    return figure


def _dots(axes: Axes, y: float, line: Line) -> None:
    values = list(line.values.values())
    offsets = [0.12 * (i - (len(values) - 1) / 2) / max(1, len(values) / 3) for i in range(len(values))]
    axes.plot(values, [y + o for o in offsets], "o", color=_DOT, ms=5, alpha=0.8, zorder=3)
    mean, low, high = line.over_seeds.mean, line.over_seeds.low, line.over_seeds.high
    halves = [[mean - low], [high - mean]] if len(values) > 1 and not math.isnan(low) else [[0.0], [0.0]]
    bar = axes.errorbar([mean], [y], xerr=halves, fmt="|", color=_MEAN, ms=12, mew=2, capsize=3, zorder=4)
    _dotted(bar.lines[2], values)


def _value_axis(axes: Axes, extent: tuple[float, float] | None) -> None:
    if extent is None:
        return
    margin = 0.03 * (extent[1] - extent[0])
    axes.set_xlim(extent[0] - margin, extent[1] + margin)


def _finish(figure: Figure, axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e4e4e4", lw=0.6, zorder=0)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def settings_figure(
    title: str,
    ylabel: str,
    panels: Mapping[str, Sequence[Line]],
    base_condition: Line | None,
    extent: tuple[float, float] | None = (0.0, 1.0),
) -> Figure:
    """Reversal and prevention side by side, on one scale."""
    rows = max(map(len, panels.values()))
    figure = Figure(figsize=(10, 1.2 + 0.34 * max(3, rows)), layout="constrained")
    for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for y, line in enumerate(lines):
            _dots(axes, y, line)
        if base_condition is not None:
            axes.axvline(base_condition.over_seeds.mean, color=_LINE, lw=1.2)
        axes.set_yticks(range(len(lines)), [line.condition for line in lines])
        axes.set_ylim(rows - 0.4, -0.6)
        _value_axis(axes, extent)
        axes.set_xlabel(ylabel)
        axes.set_title(name, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#e4e4e4", lw=0.6, zorder=0)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def scatter_figure(title: str, xlabel: str, ylabel: str, points: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """A cloud per condition, a point per seed."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    markers = "osD^vP*X"
    for i, (condition, found) in enumerate(points.items()):
        xs, ys = zip(*found, strict=True)
        colour, marker = _COLOURS[i % len(_COLOURS)], markers[i // len(_COLOURS) % len(markers)]
        axes.plot(xs, ys, marker, color=colour, ms=7, alpha=0.8, label=condition)
    axes.set_xlim(-0.03, 1.03)
    _name_axes(figure, axes, title, xlabel, ylabel)
    return figure


def plane_figure(
    title: str,
    labels: tuple[str, str],
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    base: tuple[float, float] | None,
) -> Figure:
    """Conditions in the plane of two quantities, a dot a seed; panels side by side have one scale. A cross: `base`."""
    figure = Figure(figsize=(4.6 * len(panels) + 2.2, 4.4), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    names = list(dict.fromkeys(name for points in panels.values() for name in points))
    markers = "osD^vP*X"
    shown: set[str] = set()
    for axes, (panel, by_condition) in zip(grid, panels.items(), strict=True):
        for name, points in by_condition.items():
            i, label = names.index(name), None if name in shown else name
            shown.add(name)
            xs, ys = ([point[side] for point in points] for side in (0, 1))
            marker = markers[i // len(_COLOURS) % len(markers)]
            axes.plot(xs, ys, marker, color=_COLOURS[i % len(_COLOURS)], ms=7, alpha=0.8, label=label)
        if base is not None:
            label = None if axes is not grid[0] else "base model"
            axes.plot([base[0]], [base[1]], "+", color=_LINE, ms=14, mew=2, label=label)
        axes.set_xlabel(labels[0])
        axes.set_title(panel, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e4e4e4", lw=0.6, zorder=0)
    grid[0].set_ylabel(labels[1])
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def curves_figure(
    title: str,
    xlabel: str,
    ylabel: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    marked: bool = False,
    base_condition: Line | None = None,
    extent: tuple[float, float] | None = None,
) -> Figure:
    """A line per name through its points; seeds of one thing (`unpop-s0`, `unpop, seed 1`) look alike."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    things: dict[str, int] = {}
    for name, points in curves.items():
        xs, ys = zip(*sorted(points), strict=True)
        thing = _SEED.sub("", name)
        is_first, i = thing not in things, things.setdefault(thing, len(things))
        colour, style = _look(i)
        label = thing if is_first else None
        axes.plot(xs, ys, style, color=colour, lw=1.3, marker="o" if marked else None, ms=4, label=label)
    _base_level(axes, base_condition)
    _name_axes(figure, axes, title, xlabel, ylabel, extent)
    return figure


def doses_figure(
    title: str,
    xlabel: str,
    ylabel: str,
    curves: Mapping[str, Mapping[float, Line]],
    base_condition: Line | None,
    extent: tuple[float, float] | None,
) -> Figure:
    """A line per name through the means at its doses, with their intervals, and a dot for each seed."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    for i, (name, by_dose) in enumerate(curves.items()):
        colour, style = _look(i)
        doses = sorted(by_dose)
        axes.plot(doses, [by_dose[x].over_seeds.mean for x in doses], style, color=colour, lw=1.3, label=name)
        for x in doses:
            values, over = list(by_dose[x].values.values()), by_dose[x].over_seeds
            axes.plot([x] * len(values), values, "o", color=colour, ms=5, alpha=0.8, zorder=3)
            if len(values) > 1 and not math.isnan(over.low):
                halves = [[over.mean - over.low], [over.high - over.mean]]
                bar = axes.errorbar([x], [over.mean], yerr=halves, fmt="_", color=colour, ms=10, capsize=3, zorder=4)
                _dotted(bar.lines[2], values)
    _base_level(axes, base_condition)
    _name_axes(figure, axes, title, xlabel, ylabel, extent)
    return figure


def _look(i: int) -> tuple[str, str]:
    """Colour and style of the i-th line: seven colours, then the same ones dashed."""
    styles = ("-", "--", ":", "-.")
    return _COLOURS[i % len(_COLOURS)], styles[i // len(_COLOURS) % len(styles)]


def _base_level(axes: Axes, base_condition: Line | None) -> None:
    if base_condition is not None:
        label = f"{base_condition.condition} model"
        axes.axhline(base_condition.over_seeds.mean, color=_LINE, lw=1.2, label=label, zorder=1)


def _dotted(lines: Sequence[LineCollection], values: Sequence[float]) -> None:
    """Intervals of two seeds, which say little and shall not look like those of three."""
    for line in lines if len(values) == 2 else ():
        line.set_linestyle(":")


def _name_axes(
    figure: Figure,
    axes: Axes,
    title: str,
    xlabel: str,
    ylabel: str,
    extent: tuple[float, float] | None = None,
) -> None:
    if extent is None:
        if axes.dataLim.y0 >= 0:
            axes.set_ylim(bottom=0)
    else:
        margin = 0.03 * (extent[1] - extent[0])
        axes.set_ylim(extent[0] - margin, extent[1] + margin)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)


def to_svg(figure: Figure) -> str:
    """The figure as an SVG element to put into a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def to_png(figure: Figure) -> bytes:
    """The figure as PNG on white."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130, facecolor="white")
    return out.getvalue()


def data_uri(png: bytes) -> str:
    """A PNG as a data URI, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
