"""Running an experiment: what is missing is made, in order; then the table and the report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgtr_jax.config import build, load
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import Graph, build_graph
from sgtr_jax.experiment.recipe import Recipe, in_order
from sgtr_jax.experiment.store import Store
from sgtr_jax.files import check_writable, write_json
from sgtr_jax.mesh import is_first_process, wait_for_all

if TYPE_CHECKING:
    from sgtr_jax.experiment.make import Maker


def _plan(path: Path, overrides: Sequence[str]) -> tuple[Graph, Store]:
    graph = build_graph(load(ExperimentConfig, path, overrides))
    return graph, Store(graph.config.folder / "store")


def list_graph(path: Path, overrides: Sequence[str]) -> int:
    """Print every artifact of the experiment and whether it is there."""
    graph, store = _plan(path, overrides)
    recipes = in_order([cell.recipe for cell in graph.cells])
    for recipe in recipes:
        made_from = ", ".join(source.name for source in recipe.inputs.values())
        state = "done" if store.has(recipe) else "to do"
        print(f"{state:5}  {recipe.kind:10}  {recipe.name}{'  <- ' + made_from if made_from else ''}")
    done = sum(map(store.has, recipes))
    print(f"{done} of {len(recipes)} done; {len(graph.cells)} measurements wanted")
    return 0


def run_experiment(path: Path, overrides: Sequence[str], judge: bool = True) -> int:
    """Run what is missing and write `results.csv` and `report.html`. Returns the exit code.

    Without `judge` the answers that a judge is to read are sampled, and `judge_run` goes on from there.
    """
    # Everything a config can get wrong is found here, before anything is written or computed.
    graph, store = _plan(path, overrides)
    folder = graph.config.folder
    check_writable(folder)
    wanted = [cell.recipe for cell in graph.cells]
    if not judge:
        wanted = [recipe.inputs.get("answers", recipe) for recipe in wanted]
    recipes = in_order(wanted)
    missing = [recipe for recipe in recipes if not store.has(recipe)]
    wait_for_all("every process knows what is missing")
    if is_first_process():
        write_json(folder / "experiment.json", _described(graph))
    if missing:
        from sgtr_jax.experiment.make import Maker

        if is_first_process():
            store.sweep()
        wait_for_all("the store is swept")
        _make(missing, Maker(store, graph.config), store)
    elif is_first_process():
        print(f"{folder}: all {len(recipes)} artifacts are done", file=sys.stderr)
    if not is_first_process():
        return 0
    if not all(store.has(cell.recipe) for cell in graph.cells):
        print(f"{folder}: answers are sampled; `sgtr judge {folder}` judges them and writes the report")
        return 0
    from sgtr_jax.report.build import report

    report(folder)
    return 0


def judge_run(run: Path, judge: str | None, base_url: str | None, max_cost: float | None) -> int:
    """Judge the answers of a run, by its own judge or by another one, without sampling anything.

    The run's own judge completes its report. Another one's numbers go to `judges/NAME.csv`, beside how far the two
    agree. Raises InputError if answers are missing.
    """
    config = _config_of(run, judge, base_url, max_cost)
    graph, store = build_graph(config), Store(run / "store")
    cells = [cell for cell in graph.cells if "answers" in cell.recipe.inputs]
    if not cells:
        raise InputError(f"{run}: no evaluation of this run has answers to judge")
    for cell in cells:
        if not store.has(cell.recipe.inputs["answers"]):
            raise InputError(f"{run}: {cell.recipe.name}: its answers are not there; `sgtr run` samples them first")
    from sgtr_jax.experiment.make import Maker

    missing = [recipe for recipe in in_order([cell.recipe for cell in cells]) if not store.has(recipe)]
    _make(missing, Maker(store, config), store)
    own = build_graph(_config_of(run, None, None, None))
    if [cell.recipe.fingerprint for cell in own.cells] == [cell.recipe.fingerprint for cell in graph.cells]:
        if all(store.has(cell.recipe) for cell in graph.cells):
            from sgtr_jax.report.build import report

            report(run)
        return 0
    from sgtr_jax.experiment.judges import compare_judges

    compare_judges(run, store, config.judge.model, cells, own.cells)
    return 0


def _config_of(run: Path, judge: str | None, base_url: str | None, max_cost: float | None) -> ExperimentConfig:
    try:
        data = json.loads((run / "experiment.json").read_text())["config"]
    except (OSError, ValueError, KeyError):
        raise InputError(f"{run}: no run here (no readable experiment.json); `sgtr run` makes one") from None
    if judge is not None:
        data["judge"] = {"model": judge, "base_url": base_url}
    if max_cost is not None:
        data["judge"]["max_cost"] = max_cost
    return build(ExperimentConfig, data, str(run / "experiment.json"))


def _described(graph: Graph) -> dict[str, Any]:
    cells = [
        {
            "condition": cell.condition,
            "seed": cell.seed,
            "evaluation": cell.evaluation,
            "artifact": cell.recipe.folder,
        }
        for cell in graph.cells
    ]
    return {"config": graph.config.model_dump(mode="json"), "cells": cells}


def _make(missing: Sequence[Recipe], maker: Maker, store: Store) -> None:
    """Make everything: data first, then adapters, as many together as are ready, then what is measured on them."""
    todo, done = list(missing), 0
    while todo:
        ready = [recipe for recipe in todo if all(map(store.has, recipe.inputs.values()))]
        adapters = [recipe for recipe in ready if recipe.kind == "adapter"]
        before = [recipe for recipe in ready if recipe.kind not in ("adapter", "evaluation")]
        batch = before[:1] or adapters or ready[:1]
        started = time.monotonic()
        if batch == adapters:
            maker.make_adapters(batch)
        else:
            maker.make(batch[0])
        seconds = time.monotonic() - started
        todo = [recipe for recipe in todo if recipe not in batch]
        done += len(batch)
        names = ", ".join(recipe.name for recipe in batch)
        if is_first_process():
            print(f"[{done}/{len(missing)}] {batch[0].kind} {names}: {seconds:.1f} s", file=sys.stderr)
