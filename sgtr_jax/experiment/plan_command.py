"""`sgtr plan`: what a run will do, whether it fits the slice, how long at least, and what judging costs."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.table import Table

from sgtr_eval.judging.budget import price_list
from sgtr_jax.config import load_config
from sgtr_jax.data.fetch import without_downloads
from sgtr_jax.errors import InputError
from sgtr_jax.estimate.model_shapes import is_shipped, shipped_spec
from sgtr_jax.estimate.slices import find_slice
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.contamination import check_sharing, in_words, sharings
from sgtr_jax.experiment.contrasts import tested_line
from sgtr_jax.experiment.cost import bill, by_judge, judging_of, training_of
from sgtr_jax.experiment.data_node import DataNode
from sgtr_jax.experiment.graph import NOT_HERE, Graph, build_graph
from sgtr_jax.experiment.judge_check import spending_of
from sgtr_jax.experiment.node import Node
from sgtr_jax.experiment.parts_plan import plan_parts, print_parts
from sgtr_jax.experiment.preflight import settled_problems
from sgtr_jax.experiment.spending import Spending
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.json_types import JsonObject
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.folders import folder_here

if TYPE_CHECKING:
    from sgtr_jax.experiment.slice_estimate import OnSlice


def plan(
    path: Path,
    overrides: Sequence[str],
    topology: str | None,
    all_meshes: bool,
    as_json: bool,
    power: bool = False,
    pilot: Path | None = None,
    max_hours: float | None = None,
    parts: int | None = None,
) -> int:
    """Print the plan. Returns 0; nothing is made.

    Raises InputError, also for a plan that takes more than `max_hours` on the slice of the fewest chip hours.
    """
    config = load_config(ExperimentConfig, path, overrides)
    slices = [find_slice(name) for name in topology.split(",")] if topology is not None else []
    if config.api_model is not None and slices:
        raise InputError(f"--topology: {config.model} is behind an API and needs no TPU")
    spec, fingerprint, where = (None, None, config.model) if config.api_model is not None else _model(config.model)
    graph = build_graph(config, fingerprint)
    store = Store(config.folder / "store")
    nodes = graph.nodes()
    missing = [node for node in nodes if not store.has(node)]
    trainings = [training_of(node) for node in missing if isinstance(node, TrainingNode) and node.is_trained]
    expected = bill(graph, missing, store)
    console = Console(width=None if Console().is_terminal else 140, stderr=False)
    _print_nodes(console, graph, nodes, store)
    unknown = sorted({t.node.data.name for t in trainings if t.examples is None})
    steps = sum(training.steps or 0 for training in trainings)
    console.print(f"model: {where}")
    steps_text = "" if spec is None else f", {steps} steps"
    console.print(
        f"to train: {len(trainings)} runs{steps_text}" + (f"; unknown: {', '.join(unknown)}" if unknown else "")
    )
    if spec is None:
        for what, dollars in (("finetuning", expected.finetuning), ("sampling", expected.sampling)):
            console.print(_dollars_line(f"{what} by {config.model}", dollars), highlight=False)
    contrasts = config.planned_contrasts
    if contrasts:
        console.print(tested_line(contrasts), highlight=False, soft_wrap=True)
    for line in config.left_out:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    expected_power = None
    if power:
        from sgtr_jax.experiment.power import print_power

        expected_power = print_power(console, graph, pilot)
    for problem in settled_problems(config, missing):
        console.print(f"a run needs: {problem}", highlight=False, markup=False, soft_wrap=True)
    with without_downloads():
        shared = sharings(graph, store)
    for line in in_words(shared):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    spending = spending_of(config, config.folder, config.judge)
    judges = by_judge(missing) or {config.judge: []}
    for judge, judged in judges.items():
        costs = judging_of(config, judged)
        console.print(_dollars_line(f"judging by {judge.model}", sum(costs.values())), highlight=False)
        budget = spending_of(config, config.folder, judge)
        if budget.left is not None:
            console.print(_budget_line(budget, costs), highlight=False, soft_wrap=True)
    summary: JsonObject = {
        "name": config.name, "model": config.model, "nodes": len(nodes), "done": len(nodes) - len(missing),
        "runs": len(trainings), "steps": steps, "judge_dollars": _rounded(expected.judging),
        "judge_budget": spending.max_cost, "judge_spent": round(spending.spent, 4),
        "model_dollars": _rounded(expected.finetuning + expected.sampling),
        "shared": [cast(JsonObject, one.to_json()) for one in shared],
        "primary_contrasts": sum(one.primary for one in contrasts),
        "exploratory_contrasts": sum(not one.primary for one in contrasts),
    }  # fmt: skip
    best = None
    if spec is not None and slices:
        from sgtr_jax.experiment.slice_estimate import on_slice  # imports JAX, as little else here does

        sampled = [answers for node in missing if (answers := node.sampled()) is not None]
        found = [on_slice(console, spec, config, one, trainings, sampled, all_meshes) for one in slices]
        # Of several the one that takes the fewest chip hours.
        best = min(found, key=lambda one: math.inf if one.hours is None else one.hours.expected)
        summary.update(best.to_json())
        if len(found) > 1:
            summary["topologies"] = [one.to_json() for one in found]
        for one in found:
            fewest = " (the fewest)" if one is best and one.fits and len(found) > 1 else ""
            console.print(_in_words(one) + fewest, soft_wrap=True)
    if parts is not None:
        of_parts = plan_parts(graph, missing, parts, best)
        print_parts(console, of_parts)
        summary["parts"] = [one.to_json() for one in of_parts]
    if expected_power is not None:
        summary["power"] = expected_power
    if as_json:
        print(json.dumps(summary))
    check_sharing(shared)
    if best is not None and max_hours is not None:
        _check_hours(best, max_hours)
    return 0


def _model(name: str) -> tuple[ModelSpec, str, str]:
    """Spec, fingerprint and where they are from; of a model whose weights are not here the shipped shapes."""
    folder = folder_here(name)
    if folder is not None:
        from sgtr_jax.sample.model import read_spec  # imports JAX

        downloaded = "" if name == "nano" or Path(name).is_dir() else ", downloaded"
        return read_spec(folder), model_fingerprint(folder), f"{name}{downloaded}"
    short = name.rsplit("/", 1)[-1]
    if is_shipped(short):
        return shipped_spec(short), NOT_HERE, f"{name}, not downloaded; its shapes ship with sgtr-jax"
    raise InputError(
        f"model {name!r}: not downloaded, and its shapes do not ship with sgtr-jax. A plan uses no network: "
        f"download the model (`hf download {name}`), or give its folder"
    )


def _dollars_line(what: str, dollars: float) -> str:
    if math.isnan(dollars):
        return f"{what}: no price in configs/prices.yaml"
    return f"{what}: about ${dollars:,.2f} (prices of {price_list()['as_of']})"


def _budget_line(spending: Spending, expected: Mapping[str, float]) -> str:
    needed, left = spending.still_needed(expected), spending.left
    if math.isnan(needed) or left is None:
        return "the budget for judging cannot be kept: the judge has no price in configs/prices.yaml"
    words = spending.in_words(needed)
    if needed <= left:
        return f"{words}. It will do"
    return f"{words}. `sgtr run` asks first, or needs --yes, and stops when it is spent"


def _rounded(dollars: float) -> float | None:
    return None if math.isnan(dollars) else round(dollars, 2)


def _print_nodes(console: Console, graph: Graph, nodes: Sequence[Node], store: Store) -> None:
    table = Table(title=graph.config.name)
    for column, side in (("what", "left"), ("nodes", "right"), ("done", "right"), ("examples of each", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    done = Counter(node.kind for node in nodes if store.has(node))
    for kind, count in Counter(node.kind for node in nodes).items():
        data = [node for node in nodes if isinstance(node, DataNode) and node.kind == kind]
        sizes = {str(node.row_count() or "unknown") for node in data}
        table.add_row(kind, str(count), str(done[kind]), ", ".join(sorted(sizes)))
    console.print(table)


def _check_hours(one: OnSlice, most: float) -> None:
    """Raises InputError if a slice does not do the work in so many hours."""
    if one.hours is None:
        raise InputError(f"{one.slice_.name}: the plan does not fit the slice (see above); take a larger one")
    least, expected = one.hours.least / one.slice_.chips, one.hours.expected / one.slice_.chips
    if expected > most:
        raise InputError(
            f"{one.slice_.name}: the plan is expected to take {expected:.3g} hours ({least:.3g} at least), and "
            f"{most:g} are allowed; allow more, or take a larger slice"
        )


def _in_words(one: OnSlice) -> str:
    if one.hours is None:
        if one.training_fits:
            return f"{one.slice_.name}: sampling does not fit"
        return f"{one.slice_.name}: training does not fit; --all-meshes tries other meshes"
    together = f"{one.runs_at_once} runs at once" if one.runs_at_once > 1 else "one run at a time"
    work = {"training": one.training, f"sampling ({one.sampling.rows} rows)": one.sampled}
    least = " and ".join(f"{hours.least:.3g} of {name}" for name, hours in work.items())
    expected = ", ".join(f"{hours.expected:.3g} of {name}" for name, hours in work.items())
    return (
        f"{one.slice_.name}: at least {one.hours.least:.3g} chip hours, {least}, {together}, answers of usual length. "
        f"Expected: {one.hours.expected:.3g} chip hours, {expected}, and {one.host_hours:.3g} in which the slice waits "
        f"for its host"
    )
