"""Running an experiment: what is missing is made, in order; then the table and the report."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from sgtr_eval.facts import facts_of
from sgtr_jax.config import build
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.api import check_single_process
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.cost import bill, confirm
from sgtr_jax.experiment.graph import Cell, Graph, build_graph
from sgtr_jax.experiment.judge_check import check_judging
from sgtr_jax.experiment.lock import run_lock
from sgtr_jax.experiment.look import opened, stored_config
from sgtr_jax.experiment.mirror import Mirror
from sgtr_jax.experiment.preflight import check_ready, raise_all, settled_problems
from sgtr_jax.experiment.recipe import Recipe, in_order
from sgtr_jax.experiment.spending import LEDGER
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.work import Outcome, make_missing
from sgtr_jax.files import check_writable
from sgtr_jax.processes import all_or_none, check_same, from_first, is_first_process, wait_for_all
from sgtr_jax.report.table import read_failures
from sgtr_jax.sealed import read_sealed, write_sealed


def run_experiment(path: Path, overrides: Sequence[str], judge: bool = True, sure: bool = False) -> int:
    """Run what is missing and write `results.csv` and `report.html`. Returns the exit code: 1 if anything failed.

    Without `judge` the answers that a judge is to read are sampled, and `judge_run` goes on from there. `sure` leaves
    out the questions that an expensive API model is worth, and a budget that will not do.
    """
    # Everything a config can get wrong is found here, before anything is written or computed.
    graph, store = opened(path, overrides)
    folder = graph.config.folder
    wanted_by_name = {cell.recipe.name: cell.recipe.fingerprint for cell in graph.cells}
    check_same("the experiment", f"{folder} {judge} {json.dumps(wanted_by_name)}")
    check_writable(folder)
    with run_lock(folder) if is_first_process() else contextlib.nullcontext():
        wanted = [cell.recipe for cell in graph.cells]
        if not judge:
            wanted = [recipe.inputs.get("answers", recipe) for recipe in wanted]
        recipes = in_order(wanted)
        mirror = Mirror(graph.config.address) if graph.config.address is not None else None
        if mirror is not None:
            check_single_process(jax.process_count(), "mirror: processes of a job share a folder instead")
        missing = _missing(recipes, store, mirror)
        if is_first_process():
            check_ready(graph.config, missing)
        else:
            raise_all(settled_problems(graph.config, missing))
        if judge and is_first_process():
            check_judging(graph.config, missing, folder, sure)
        shared = _shared(graph, store, missing)
        if missing and graph.config.api_model is not None:
            check_single_process(jax.process_count(), "a model behind an API needs no accelerator")
            confirm(graph.config, bill(graph, missing, store), sure)
        wait_for_all("every process knows what is missing")
        if is_first_process():
            write_sealed(folder / "experiment.json", _described(graph, store, shared))
        outcome = Outcome()
        if missing:
            outcome = _work(graph.config, store, missing, mirror)
        elif is_first_process():
            print(f"{folder}: all {len(recipes)} artifacts are done", file=sys.stderr)
        if not is_first_process():
            return 1 if outcome.failed else 0
        if not judge and not outcome.failed and not all(store.has(cell.recipe) for cell in graph.cells):
            print(f"{folder}: answers are sampled; `sgtr judge {folder}` judges them and writes the report")
            return 0
        write_sealed(folder / "experiment.json", _described(graph, store, shared))
        _report(folder, store, graph.cells)
        if mirror is not None:
            mirror.send_report(folder)
    return _summary(outcome, shlex.join(["sgtr", "run", str(path), *overrides, *([] if judge else ["--no-judge"])]))


def judge_run(run: Path, judge: str | None, given: Mapping[str, Any], sure: bool = False) -> int:
    """Judge the answers of a run, by its own judge or by another one, without sampling anything.

    The run's own judge completes its report. Another one's numbers go to `judges/NAME.csv`, beside how far the two
    agree. `given` are settings of the judge, those that are not None. Raises InputError if answers are missing.
    """
    config = _judged_by(run, judge, given)
    graph, store = build_graph(config), Store(run / "store")
    cells = [cell for cell in graph.cells if "answers" in cell.recipe.inputs]
    if not cells:
        raise InputError(f"{run}: no evaluation of this run has answers to judge")
    for cell in cells:
        answers = cell.recipe.inputs["answers"]
        if found := store.damage(answers, whole=True) if store.is_there(answers) else ["not there"]:
            raise InputError(f"{run}: {cell.recipe.name}: its answers are {'; '.join(found)}; `sgtr run` samples them")
    with run_lock(run):
        for line in store.settle([cell.recipe for cell in cells]):
            print(line, file=sys.stderr)
        missing = [recipe for recipe in in_order([cell.recipe for cell in cells]) if not store.has(recipe)]
        check_judging(config, missing, run, sure)
        outcome = _work(config, store, missing)
        if outcome.failed:
            words = ["sgtr", "judge", str(run)]
            for key, value in {"judge": judge, **given}.items():
                words += [f"--{_FLAGS.get(key, key)}", str(value)] if value is not None else []
            return _summary(outcome, shlex.join(words))
        own = build_graph(_judged_by(run, None, {}))
        if [cell.recipe.fingerprint for cell in own.cells] == [cell.recipe.fingerprint for cell in graph.cells]:
            _report(run, store, graph.cells)
            return 0
        from sgtr_jax.experiment.judges import compare_judges

        compare_judges(run, store, config.judge.model, cells, own.cells)
    return 0


def _missing(recipes: Sequence[Recipe], store: Store, mirror: Mirror | None) -> list[Recipe]:
    """What is to be made: what is not in the store, or is there and damaged. The first process of a job looks."""
    missing = None
    with all_or_none("looking at what is done"):
        if is_first_process():
            read_failures(store.root.parent / "failures.json")  # a damaged one is set aside
            for line in store.settle(recipes):
                print(line, file=sys.stderr)
            if mirror is not None:
                mirror.fetch_file(store.root.parent / LEDGER)
                print(f"{mirror.address}: {mirror.fetch(recipes, store)} artifacts fetched", file=sys.stderr)
            missing = [recipe.fingerprint for recipe in recipes if not store.has(recipe)]
    wanted = set(from_first(missing))
    if not is_first_process():
        store.look()
    return [recipe for recipe in recipes if recipe.fingerprint in wanted]


def _work(config: ExperimentConfig, store: Store, missing: Sequence[Recipe], mirror: Mirror | None = None) -> Outcome:
    from sgtr_jax.experiment.make import Maker

    if is_first_process():
        store.sweep()
    wait_for_all("the store is swept")
    return make_missing(missing, Maker(store, config), store, store.root.parent / "failures.json", mirror)


def _report(folder: Path, store: Store, cells: Sequence[Cell]) -> None:
    if any(store.has(cell.recipe) for cell in cells):
        from sgtr_jax.report.build import report

        report(folder)


def _summary(outcome: Outcome, command: str) -> int:
    """Say what failed, why, and what tries it again."""
    if not outcome.failed and not outcome.left:
        return 0
    lines = [f"{len(outcome.failed)} failed, {len(outcome.left)} more needed one of these:"]
    lines += [f"  {name}: {why}" for name, why in outcome.failed.items()]
    lines.append(f"Everything else is done. To try again: {command}")
    print("sgtr: failed: " + "\n".join(lines), file=sys.stderr)
    return 1


_FLAGS = {"base_url": "base-url", "max_cost": "max-cost", "mode": "judge-mode"}


def _judged_by(run: Path, judge: str | None, given: Mapping[str, Any]) -> ExperimentConfig:
    data = stored_config(run)
    if judge is not None:
        data["judge"] = {"model": judge}
    data["judge"].update({key: value for key, value in given.items() if value is not None})
    return build(ExperimentConfig, data, str(run / "experiment.json"))


def _shared(graph: Graph, store: Store, missing: Sequence[Recipe]) -> list[dict[str, Any]]:
    """What training sets and evaluations share, said on the terminal where something is to be made.

    Raises InputError where that is more than chance explains and nothing allows it.
    """
    if not is_first_process():
        return []
    from sgtr_jax.experiment.contamination import check_sharing, in_words, sharings

    found = sharings(graph, store, _counted_before(graph.config.folder / "experiment.json"))
    if missing:
        for line in in_words(found):
            print(line, file=sys.stderr)
        check_sharing(found)
    return [one.to_json() for one in found]


def _counted_before(path: Path) -> Sequence[Mapping[str, Any]]:
    """What the run's file says from when it was last looked at; nothing if there is no such file, or a damaged one."""
    try:
        counted: Sequence[Mapping[str, Any]] = read_sealed(path).get("shared", ())
    except InputError:
        return ()
    return counted


def _described(graph: Graph, store: Store, shared: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cells = [
        {
            "condition": cell.condition,
            "seed": cell.seed,
            "evaluation": cell.evaluation,
            "task": cell.recipe.settings["task"],
            "judged": "answers" in cell.recipe.inputs,
            "own_texts": _asks_own_texts(cell.recipe),
            "artifact": store.path(cell.recipe).name,
        }
        for cell in graph.cells
    ]
    return {"config": graph.config.model_dump(mode="json"), "cells": cells, "shared": list(shared)}


def _asks_own_texts(recipe: Recipe) -> bool:
    """Whether an evaluation asks what ships with the project where the study has texts of its own."""
    asked = recipe.inputs.get("answers", recipe)
    arguments = asked.settings.get("arguments", {})
    pairs = asked.inputs["pairs"].settings if "pairs" in asked.inputs else {}
    return pairs.get("stimuli") == "builtin" or facts_of(recipe.settings["task"]).own_texts(arguments)
