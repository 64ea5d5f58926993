"""Figures over doses and over training: every seed, intervals, the base model's line, few colours."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sgtr_eval.statistics import Interval
from sgtr_jax.report.comparisons import Line
from sgtr_jax.report.plots import curves_figure, doses_figure


def line(condition: str, values: list[float]) -> Line:
    mean = sum(values) / len(values)
    over = Interval(mean, mean - 0.1, mean + 0.1, len(values))
    return Line("e", "m", condition, dict(enumerate(values)), (), "10", over, None, None, "seed")


def shown(figure: Figure) -> tuple[set[float], set[str], list[str]]:
    """Values of dots, colours of lines, and what the legend says."""
    (axes,) = figure.axes
    dots = {float(y) for one in axes.lines if one.get_marker() == "o" for y in one.get_ydata()}
    colours = {to_hex(one.get_color()) for one in axes.lines}
    return dots, colours, [text.get_text() for text in figure.legends[0].get_texts()]


def test_doses_show_every_seed_with_intervals_and_the_base_model() -> None:
    curves = {"a with b": {0.0: line("a", [0.1, 0.2, 0.6]), 0.5: line("ab", [0.3, 0.4])}}
    figure = doses_figure("t", "x", "y", curves, line("base", [0.7]), (0.0, 1.0))
    dots, _, said = shown(figure)
    assert dots == {0.1, 0.2, 0.6, 0.3, 0.4} and said == ["a with b", "base model"]
    (axes,) = figure.axes
    assert axes.get_ylim()[1] == pytest.approx(1.03)
    bars = [container for container in axes.containers if container.has_yerr]
    styles = [container.lines[2][0].get_linestyle()[0][1] for container in bars]
    assert len(bars) == 2 and styles[0] is None and styles[1] is not None  # of two seeds it is dotted


def test_seeds_of_one_thing_look_alike() -> None:
    curves = {f"{name}-s{seed}": [(0.0, 1.0), (1.0, 0.5)] for name in "abcdefghij" for seed in range(3)}
    _, colours, said = shown(curves_figure("t", "x", "y", curves))
    assert said == list("abcdefghij") and len(colours) <= 8
    _, _, said = shown(
        curves_figure("t", "x", "y", {"a, seed 0": [(0, 1)], "a, seed 1": [(0, 2)]}, True, line("base", [1]))
    )
    assert said == ["a", "base model"]
