"""Reversal beside prevention: which conditions of a run belong to which."""

from __future__ import annotations

from collections.abc import Mapping

from sgtr_jax.report.comparisons import Line
from sgtr_jax.report.run_file import ConfigEntry, StageEntry
from sgtr_jax.report.tables import RunData


def panels_of(run: RunData, by_condition: Mapping[str, Line]) -> dict[str, list[Line]]:
    """The EM stage, then what came after it (reversal) and what came before it (prevention).

    Nothing where one of the two was not measured.
    """
    panels: dict[str, list[Line]] = {"reversal": [], "prevention": []}
    grouped = {group: [name for config in run.configs for name in config["groups"].get(group, ())] for group in panels}
    for group, members in grouped.items():
        found = [by_condition[name] for name in members if name in by_condition]
        em = {stage["data"] for config in run.configs for name in members for stage in _em_stages(config, name, group)}
        panels[group] = [line for name, line in by_condition.items() if name in em] + found
    shown = all(any(line.condition in grouped[group] for line in lines) for group, lines in panels.items())
    return panels if shown else {}


def _em_stages(config: ConfigEntry, condition: str, group: str) -> list[StageEntry]:
    found = config["conditions"].get(condition)
    stages = [] if found is None else found["stages"]
    return stages[:1] if group == "reversal" else stages[-1:]
