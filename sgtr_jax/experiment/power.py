"""`sgtr plan --power`: how likely the primary contrasts are to show something, at the sizes of the config."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from sgtr_jax.errors import InputError
from sgtr_jax.experiment.graph import Graph
from sgtr_jax.json_types import Json
from sgtr_jax.report.power import Assumptions, pilot_tables, powers
from sgtr_jax.report.simulated import Condition, Questions, Size
from sgtr_jax.report.tables import read_runs


def print_power(console: Console, graph: Graph, pilot: Path | None = None) -> list[dict[str, Json]]:
    """Print the table; returns its rows. Raises InputError if no contrast is primary, or `pilot` is no run."""
    config, given = graph.config, graph.config.power_assumptions
    primary = [one.to_json() for one in config.planned_contrasts if one.primary]
    facts = {cell.evaluation: cell.node.facts for cell in graph.cells}
    for evaluation in {str(contrast["evaluation"]) for contrast in primary}:
        if not facts[evaluation].is_share:
            raise InputError(
                f"--power: the metric of {evaluation!r} is no share of answers, and power is simulated for "
                "shares; leave it out with measure, or let its contrast not be primary"
            )
    if not primary:
        raise InputError(
            "--power: the config has no primary contrast; `primary: true` in contrasts makes one of them so"
        )
    sizes, tasks = {}, {}
    for cell in graph.cells:
        load = cell.node.workload()
        sizes[cell.evaluation] = Size(len(config.seeds), load.questions, load.draws)
        tasks[cell.evaluation] = cell.node.task
    questions = Questions(given.question, given.question_and_condition)
    assumed = Assumptions(given.trials, given.between_seeds, given.share, given.effect, questions)
    table = Table(title=f"power of {len(primary)} primary contrasts, {len(config.seeds)} seeds")
    for column in (
        "condition",
        "against",
        "evaluation",
        "test",
        "assumed shares (sd)",
        "from",
        "at 5 %",
        "in the family",
        "80 % sees",
        "seeds for 80 %",
    ):
        table.add_column(column)
    rows: list[dict[str, Json]] = []
    measured = None if pilot is None else pilot_tables(read_runs([pilot]))
    for one in powers(primary, sizes, tasks, config.published, assumed, measured):
        planned = {key: one.contrast[key] for key in ("of", "against", "evaluation", "kind")}
        shares = f"{_shown(one.against)} -> {_shown(one.of)}"
        table.add_row(*map(str, planned.values()), shares, one.source, f"{one.alone:.2f}", f"{one.in_family:.2f}",
            f"{one.seen:.2f}", "-" if one.seeds_needed is None else str(one.seeds_needed),
        )  # fmt: skip
        rows.append({
            **planned, "power": round(one.alone, 3), "power_in_family": round(one.in_family, 3), "from": one.source,
            "smallest_seen": round(one.seen, 3), "seeds_needed": one.seeds_needed,
        })  # fmt: skip
    console.print(table)
    console.print(
        f"{given.trials} simulated experiments each. In the family: at 5 % over {len(primary)}, the strictest step of "
        "Holm's correction. 80 % sees: the smallest difference that so many seeds show in 80 of 100 experiments; seeds "
        "for 80 %: how many show the assumed one; answers for 80 %: with how many answers of each, to more questions, "
        "these seeds show it (-: with no number, for they vary too much). All are before any correction, from the "
        "spread of the simulated differences.", highlight=False, soft_wrap=True,
    )  # fmt: skip
    return rows


def _shown(condition: Condition) -> str:
    return f"{condition.share:.3g}" + (f" ({condition.between:.2g})" if condition.trained else "")
