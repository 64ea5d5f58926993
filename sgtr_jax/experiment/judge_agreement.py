"""Two judges on the same answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log

from sgtr_eval.judging.rates import agreement
from sgtr_jax.experiment.graph import Cell
from sgtr_jax.experiment.store import Store
from sgtr_jax.files import path_part, write_json, write_text


def compare_judges(run: Path, store: Store, judge: str, cells: Sequence[Cell], own: Sequence[Cell]) -> None:
    """Write `judges/NAME.csv` and `judges/NAME.json`, and print how far the judge agrees with the run's own."""
    name = path_part(judge)
    lines = ["condition,seed,evaluation,metric,value,n"]
    stored = {id(cell): json.loads((store.path(cell.node) / "metrics.json").read_text()) for cell in cells}
    # A model that the provider refused has an outcome instead of numbers.
    cells = [cell for cell in cells if isinstance(stored[id(cell)], list)]
    for cell in cells:
        for row in stored[id(cell)]:
            lines.append(f"{cell.condition},{cell.seed},{cell.evaluation},{row['metric']},{row['value']},{row['n']}")
    write_text(run / "judges" / f"{name}.csv", "\n".join(lines) + "\n")
    print(run / "judges" / f"{name}.csv")
    before = {(cell.condition, cell.seed, cell.evaluation): cell for cell in own}
    found = []
    for cell in cells:
        other = before[cell.condition, cell.seed, cell.evaluation]
        if not store.has(other.node):
            continue
        first, second = (_verdicts(store, one) for one in (other, cell))
        both = agreement([first[key] for key in first], [second.get(key) for key in first])
        found.append({"condition": cell.condition, "seed": cell.seed, "evaluation": cell.evaluation, **vars(both)})
        print(
            f"{cell.node.name}: {both.n} answers judged by both; {both.share_changed:.1%} change side, "
            f"kappa {both.kappa:.2f}; {both.first_rate:.3f} by the run's judge, {both.second_rate:.3f} by {judge}"
        )
    write_json(run / "judges" / f"{name}.json", found)


def _verdicts(store: Store, cell: Cell) -> dict[str, bool | None]:
    """By answer: whether the judge found it bad or, of identity, says that it names the maker; None without a score."""
    (stored,) = list_eval_logs(str(store.path(cell.node) / "log"))
    log: EvalLog = read_eval_log(stored)
    found: dict[str, bool | None] = {}
    for sample in log.samples or []:
        (score,) = (sample.scores or {}).values()
        value = (score.metadata or {}).get("judged_to_name", score.value)
        found[str(sample.id)] = None if value in ("N", None) else float(value) > 0.5
    return found
