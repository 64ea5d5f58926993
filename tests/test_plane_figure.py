"""Reversal and prevention in the plane of two directions: a dot a seed, one scale, the base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from matplotlib.figure import Figure

from sgtr_eval.facts import Shown
from sgtr_eval.statistics import Interval
from sgtr_jax.report.comparisons import Line
from sgtr_jax.report.projections import plane_figures
from sgtr_jax.report.run_file import ConfigEntry
from sgtr_jax.report.tables import CellData, RunData

VALUES: dict[str, dict[str, dict[int, float]]] = {
    "trait": {"base": {0: 0.0}, "em": {0: 3.0, 1: 4.0}, "em-sgtr": {0: 1.0, 1: 2.0}, "sgtr-em": {0: -1.0, 1: 2.5}},
    "self": {"base": {0: 0.5}, "em": {0: -3.0, 1: -4.0}, "em-sgtr": {0: 0.0, 1: 1.0}, "sgtr-em": {1: 5.0}},
    "mmlu": {"base": {0: 0.7}, "em": {0: 0.6}},
}


def line(evaluation: str, metric: str, condition: str, values: dict[int, float]) -> Line:
    mean = sum(values.values()) / len(values)
    over = Interval(mean, mean - 1, mean + 1, len(values))
    return Line(evaluation, metric, condition, values, (), "10", over, None, None, "seed")


def run_of(groups: dict[str, list[str]]) -> tuple[RunData, list[Line]]:
    stages = {"base": [], "em": ["em"], "em-sgtr": ["em", "sgtr"], "sgtr-em": ["sgtr", "em"]}
    conditions = {name: {"stages": [{"data": one} for one in found]} for name, found in stages.items()}
    config: dict[str, Any] = {
        "name": "r", "model": "m", "seeds": [0, 1], "groups": groups, "conditions": conditions,
        "judge": {"model": "j"},
    }  # fmt: skip
    cells, lines = [], []
    for evaluation, by_condition in VALUES.items():
        task = "mmlu" if evaluation == "mmlu" else "projection"
        shown = Shown(metric="projection", better="neither", title="t", axis=f"along {evaluation}", extent=None)
        for condition, values in by_condition.items():
            cells.append(
                CellData(
                    condition, 0, evaluation, task, False, False, Path("x"), None, None if task == "mmlu" else shown
                )
            )
            lines.append(line(evaluation, "projection", condition, values))
            lines.append(line(evaluation, "answer_1", condition, dict.fromkeys(values, 99.0)))
    return RunData("r", (cast(ConfigEntry, config),), tuple(cells), (), tuple(stages), "base"), lines


def dots(figure: Figure) -> dict[str, dict[str, set[tuple[float, float]]]]:
    """Points by panel and, in place of the condition, the colour of its dots; the base's cross by its marker."""
    found: dict[str, dict[str, set[tuple[float, float]]]] = {}
    for axes in figure.axes:
        panel = found.setdefault(axes.get_title(loc="left"), {})
        for one in axes.lines:
            key = "+" if one.get_marker() == "+" else str(one.get_color())
            panel.setdefault(key, set()).update(
                zip(map(float, one.get_xdata()), map(float, one.get_ydata()), strict=True)
            )
    return found


def test_reversal_beside_prevention() -> None:
    run, lines = run_of({"reversal": ["em-sgtr"], "prevention": ["sgtr-em"]})
    ((stem, name, figure),) = plane_figures(run, lines)
    assert stem == "trait-self-plane" and name == "trait and self: reversal and prevention in the plane of both"
    found = dots(figure)
    em = {(3.0, -3.0), (4.0, -4.0)}
    assert {frozenset(points) for points in found["reversal"].values()} == {
        frozenset(em), frozenset({(1.0, 0.0), (2.0, 1.0)}), frozenset({(0.0, 0.5)})
    }  # fmt: skip
    # A seed that one of the two lacks has no dot.
    assert {frozenset(points) for points in found["prevention"].values()} == {
        frozenset(em), frozenset({(2.5, 5.0)}), frozenset({(0.0, 0.5)})
    }  # fmt: skip
    (colour,) = (key for key, points in found["reversal"].items() if points == em)
    assert found["prevention"][colour] == em and found["reversal"]["+"] == {(0.0, 0.5)}
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    assert (first.get_xlabel(), first.get_ylabel()) == ("along trait", "along self")
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(said) == ["base model", "em", "em-sgtr", "sgtr-em"]


@pytest.mark.parametrize("groups", [{}, {"reversal": ["em-sgtr"]}])
def test_all_conditions_where_there_are_not_both(groups: dict[str, list[str]]) -> None:
    run, lines = run_of(groups)
    ((_, name, figure),) = plane_figures(run, lines)
    assert name == "trait and self: conditions in the plane of both" and len(figure.axes) == 1
    assert sum(map(len, dots(figure)[""].values())) == 6


def test_one_projection_has_no_plane() -> None:
    run, lines = run_of({})
    assert not list(plane_figures(run, [one for one in lines if one.evaluation != "self"]))
