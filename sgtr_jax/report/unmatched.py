"""Published rows that nothing measured here stands beside, each with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from sgtr_jax.report.beside import Published
from sgtr_jax.report.published import published_numbers, published_tables
from sgtr_jax.report.tables import RunData

NO_EVALUATION = "its evaluation is not in this run"
NO_CONDITION = "its condition is not in this run"
NO_RESULT = "its condition is in this run, and has no result yet"


def why_never(condition: str) -> str | None:
    """Why no config of this project has a published condition; None for those that a config has."""
    reasons = published_numbers()["not_measured"]
    return next((why for pattern, why in reasons.items() if fnmatchcase(condition, pattern)), None)


def unmet_published(run: RunData, met: Sequence[Published]) -> dict[str, dict[str, list[str]]]:
    """By reason and table the published conditions of the run's model without a number of ours beside them."""
    models = {config["published"] for config in run.configs if config.get("published")}
    if len(models) != 1:
        return {}
    tables = published_tables(models.pop())
    tasks = {cell.evaluation: cell.task for cell in run.cells}
    unmet: dict[str, dict[str, list[str]]] = {}
    for table, content in tables.items():
        # An evaluation has the table of its own name, and otherwise that of its task.
        users = {name for name, task in tasks.items() if table == name or (name not in tables and table == task)}
        beside = {one.condition for one in met if one.evaluation in users}
        for condition in content["rows"]:
            if condition in beside:
                continue
            here = NO_RESULT if condition in run.conditions else why_never(condition) or NO_CONDITION
            unmet.setdefault(here if users else NO_EVALUATION, {}).setdefault(table, []).append(condition)
    return unmet
