"""Figures: one dot per seed, the mean with its interval, the untouched model as a line."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("svg")
from matplotlib.figure import Figure

from sgtr_jax.report.table import Summary

_DOT, _MEAN, _LINE = "#4477aa", "#222222", "#bb5566"


def condition_figure(
    title: str,
    ylabel: str,
    summaries: Mapping[str, Summary],
    conditions: Sequence[str],
    untouched: str | None,
    reference: tuple[str, float] | None = None,
    is_share: bool = True,
) -> Figure:
    """A column per condition. `reference` is a labelled level to compare with (chance, a baseline)."""
    shown = [condition for condition in conditions if condition != untouched]
    figure = Figure(figsize=(1.6 + 1.15 * max(3, len(shown)), 3.4), layout="constrained")
    axes = figure.subplots()
    for x, condition in enumerate(shown):
        summary = summaries.get(condition)
        if summary is None:
            continue
        offsets = [0.08 * (i - (len(summary.values) - 1) / 2) for i in range(len(summary.values))]
        axes.plot([x + o for o in offsets], summary.values, "o", color=_DOT, ms=6, alpha=0.8, zorder=3)
        # An interval over two seeds is wider than the axis and says nothing.
        half = summary.half_width if len(summary.values) > 2 else 0.0
        axes.errorbar([x + 0.22], [summary.mean], yerr=[half], fmt="_", color=_MEAN, ms=14, mew=2, capsize=3)
    if untouched is not None and untouched in summaries:
        axes.axhline(summaries[untouched].mean, color=_LINE, lw=1.2, label=f"{untouched} model")
    if reference is not None:
        axes.axhline(reference[1], color="#888888", lw=1.0, ls="--", label=reference[0])
    axes.set_xticks(range(len(shown)), shown)
    axes.set_xlim(-0.6, len(shown) - 0.4)
    if is_share:
        axes.set_ylim(-0.03, 1.03)
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def to_svg(figure: Figure) -> str:
    """The figure as an SVG element to put into a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def to_png(figure: Figure) -> bytes:
    """The figure as PNG on white."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, facecolor="white")
    return out.getvalue()


def data_uri(png: bytes) -> str:
    """A PNG as a data URI, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
