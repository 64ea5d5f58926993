"""Running an experiment: what is missing is made, in order; then the table and the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.config import load
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import Graph, build_graph
from sgtr_jax.experiment.recipe import Recipe, in_order
from sgtr_jax.experiment.store import Store
from sgtr_jax.files import check_writable, write_json

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


def run_experiment(path: Path, overrides: Sequence[str]) -> int:
    """Run what is missing and write `results.csv` and `report.html`. Returns the exit code."""
    # Everything a config can get wrong is found here, before anything is written or computed.
    graph, store = _plan(path, overrides)
    folder = graph.config.folder
    check_writable(folder)
    recipes = in_order([cell.recipe for cell in graph.cells])
    missing = [recipe for recipe in recipes if not store.has(recipe)]
    from sgtr_jax.mesh import is_first_process, wait_for_all

    wait_for_all("every process knows what is missing")
    if missing:
        from sgtr_jax.experiment.make import Maker

        if is_first_process():
            store.sweep()
        wait_for_all("the store is swept")
        _make(missing, Maker(store, graph.config.finetuning, graph.config.sampling_mesh), store)
    elif is_first_process():
        print(f"{folder}: all {len(recipes)} artifacts are done", file=sys.stderr)
    if not is_first_process():
        return 0
    write_json(
        folder / "experiment.json",
        {
            "config": graph.config.model_dump(mode="json"),
            "cells": [
                {
                    "condition": cell.condition,
                    "seed": cell.seed,
                    "evaluation": cell.evaluation,
                    "artifact": cell.recipe.folder,
                }
                for cell in graph.cells
            ],
        },
    )
    from sgtr_jax.report.build import report

    report(folder)
    return 0


def _make(missing: Sequence[Recipe], maker: Maker, store: Store) -> None:
    """Make everything: data first, then adapters, as many together as are ready, then what is measured on them."""
    from sgtr_jax.mesh import is_first_process

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
