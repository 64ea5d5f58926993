"""Running an experiment: what is missing is made, in order; then the table and the report."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import cast

import jax

from sgtr_eval.facts import all_facts
from sgtr_jax.config import build_config
from sgtr_jax.distributed.collectives import (
    assert_equal_across_processes,
    barrier,
    broadcast_object,
    collective_section,
    is_first_process,
)
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.context import RunContext
from sgtr_jax.experiment.cost import bill, confirm
from sgtr_jax.experiment.executor import Outcome, run_graph
from sgtr_jax.experiment.graph import Cell, Graph, build_graph
from sgtr_jax.experiment.judge_check import check_judging, spending_of
from sgtr_jax.experiment.left_out import needed
from sgtr_jax.experiment.mirror import Mirror
from sgtr_jax.experiment.node import Node, in_order
from sgtr_jax.experiment.preflight import check_ready, raise_all, settled_problems
from sgtr_jax.experiment.reports import Reports
from sgtr_jax.experiment.run_lock import run_lock
from sgtr_jax.experiment.spending import LEDGER
from sgtr_jax.experiment.status import open_run, stored_config
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.work_share import WholeRun, WorkShare
from sgtr_jax.files import check_writable
from sgtr_jax.json_types import JsonObject
from sgtr_jax.report.run_file import ArtifactEntry, CellEntry, ConfigEntry, RunFile, SharingEntry
from sgtr_jax.report.tables import read_failures
from sgtr_jax.sealed import read_sealed, write_sealed


def run_experiment(path: Path, overrides: Sequence[str], judge: bool = True, assume_yes: bool = False) -> int:
    """Run what is missing and write `results.csv` and `report.html`. Returns the exit code: 1 if anything failed.

    Without `judge` the answers that a judge is to read are sampled, and `judge_run` goes on from there. `assume_yes`
    skips the confirmation of an expensive API model and of a budget that is not expected to be enough.
    """
    # Everything a config can get wrong is found here, before anything is written or computed.
    graph, store = open_run(path, overrides)
    folder = graph.config.folder
    wanted_by_name = {cell.node.name: cell.node.fingerprint for cell in graph.cells}
    assert_equal_across_processes("the experiment", f"{folder} {judge} {json.dumps(wanted_by_name)}")
    check_writable(folder)
    with run_lock(folder) if is_first_process() else contextlib.nullcontext():
        command = ["sgtr", "run", str(path), *overrides, *([] if judge else ["--no-judge"])]
        return make_all(graph, store, command, judge, assume_yes)


def make_all(graph: Graph, store: Store, command: Sequence[str], judge: bool, assume_yes: bool) -> int:
    """Make all that is missing here, and report; see `run_experiment`. `command` tries again what failed."""
    folder = store.root.parent
    wanted: list[Node] = [cell.node if judge else cell.node.to_sample for cell in graph.cells]
    nodes = in_order(wanted)
    mirror = Mirror(graph.config.address) if graph.config.address is not None else None
    if mirror is not None:
        check_single_process(jax.process_count(), "mirror: processes of a job share a folder instead")
    missing = _missing(nodes, store, mirror)
    shared: Sequence[SharingEntry] = ()
    if is_first_process():
        shared = check_before(graph, store, missing, judge, assume_yes)
    else:
        raise_all(settled_problems(graph.config, missing))
    if missing and graph.config.api_model is not None:
        check_single_process(jax.process_count(), "a model behind an API needs no accelerator")
        confirm(graph.config, bill(graph, missing, store), assume_yes)
    barrier("every process knows what is missing")
    if is_first_process():
        write_sealed(folder / "experiment.json", described(graph, store, shared))
        if mirror is not None:
            mirror.send_file(folder / "experiment.json")  # for whoever asks there how far it is
    outcome = Outcome()
    if missing:
        outcome = make(graph.config, store, missing, WholeRun(store, mirror), mirror)
    elif is_first_process():
        print(f"{folder}: all {len(nodes)} artifacts are done", file=sys.stderr)
    if not is_first_process():
        return 1 if outcome.failed else 0
    if not judge and not outcome.failed and not all(store.has(cell.node) for cell in graph.cells):
        print(f"{folder}: answers are sampled; `sgtr judge {folder}` judges them and writes the report")
        return 0
    write_sealed(folder / "experiment.json", described(graph, store, shared))
    _report(folder, store, graph.cells)
    if mirror is not None:
        mirror.send_report(folder)
    return _summary(outcome, shlex.join(command))


def judge_run(run: Path, judge: str | None, given: Mapping[str, str | float | None], assume_yes: bool = False) -> int:
    """Judge the answers of a run, by its own judge or by another one, without sampling anything.

    The run's own judge completes its report. Another one's numbers go to `judges/NAME.csv`, beside how far the two
    agree. `given` are settings of the judge, those that are not None. Raises InputError if answers are missing.
    """
    config = _judged_by(run, judge, given)
    graph, store = build_graph(config), Store(run / "store")
    cells = [cell for cell in graph.cells if cell.node.answers is not None]
    if not cells:
        raise InputError(f"{run}: no evaluation of this run has answers to judge")
    for cell in cells:
        answers = cell.node.to_sample
        if found := store.damage(answers, whole=True) if store.is_there(answers) else ["not there"]:
            raise InputError(f"{run}: {cell.node.name}: its answers are {'; '.join(found)}; `sgtr run` samples them")
    with run_lock(run):
        for line in store.settle([cell.node for cell in cells]):
            print(line, file=sys.stderr)
        missing = [node for node in in_order([cell.node for cell in cells]) if not store.has(node)]
        check_judging(config, missing, run, assume_yes)
        outcome = make(config, store, missing, WholeRun(store, None))
        if outcome.failed:
            words = ["sgtr", "judge", str(run)]
            for key, value in {"judge": judge, **given}.items():
                words += [f"--{_FLAGS.get(key, key)}", str(value)] if value is not None else []
            return _summary(outcome, shlex.join(words))
        own = build_graph(_judged_by(run, None, {}))
        if [cell.node.fingerprint for cell in own.cells] == [cell.node.fingerprint for cell in graph.cells]:
            _report(run, store, graph.cells)
            return 0
        from sgtr_jax.experiment.judge_agreement import compare_judges

        compare_judges(run, store, config.judge.model, cells, own.cells)
    return 0


def _missing(nodes: Sequence[Node], store: Store, mirror: Mirror | None) -> list[Node]:
    """What is to be made: what is not in the store, or is there and damaged. The first process of a job looks."""
    missing = None
    with collective_section("looking at what is done"):
        if is_first_process():
            read_failures(store.root.parent / "failures.json")  # a damaged one is set aside
            nodes = needed(nodes, store)
            for line in store.settle(nodes):
                print(line, file=sys.stderr)
            if mirror is not None:
                mirror.fetch_file(store.root.parent / LEDGER)
                print(f"{mirror.address}: {mirror.fetch(nodes, store)} artifacts fetched", file=sys.stderr)
            missing = [node.fingerprint for node in nodes if not store.has(node)]
    wanted = set(broadcast_object(missing))
    if not is_first_process():
        store.look()
    return [node for node in nodes if node.fingerprint in wanted]


def make(
    config: ExperimentConfig, store: Store, missing: Sequence[Node], share: WorkShare, mirror: Mirror | None = None
) -> Outcome:
    """Make what is missing, as far as `share` says. Reports on the way go to the mirror, if any."""
    if is_first_process():
        store.sweep()
    barrier("the store is swept")
    spending = cache(partial(spending_of, config, store.root.parent))
    context = RunContext(store, config.finetuning, config.sampling_mesh, config.api, spending)
    reports = Reports(store.root.parent, config.report.every_minutes, mirror)
    return run_graph(missing, context, store.root.parent / "failures.json", share, reports.write_if_due)


def _report(folder: Path, store: Store, cells: Sequence[Cell]) -> None:
    if any(store.has(cell.node) for cell in cells):
        from sgtr_jax.report.write import report

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


def _judged_by(run: Path, judge: str | None, given: Mapping[str, str | float | None]) -> ExperimentConfig:
    data = stored_config(run)
    if judge is not None:
        data["judge"] = {"model": judge}
        # Another judge reads all answers, those of evaluations with a judge of their own too.
        evaluations = cast(Mapping[str, JsonObject], data["evaluations"])
        data["evaluations"] = {
            name: {**one, "judge": None} if isinstance(one.get("judge"), Mapping) else one
            for name, one in evaluations.items()
        }
    own = {key: value for key, value in given.items() if value is not None}
    data["judge"] = {**cast(JsonObject, data["judge"]), **own}
    return build_config(ExperimentConfig, data, str(run / "experiment.json"))


def check_before(
    graph: Graph, store: Store, missing: Sequence[Node], judge: bool, assume_yes: bool
) -> list[SharingEntry]:
    """All that can be found before anything is computed. Returns what training sets and evaluations share.

    Raises InputError and RunError.
    """
    for line in graph.config.left_out if missing else ():
        print(line, file=sys.stderr)
    check_ready(graph.config, missing)
    if judge:
        check_judging(graph.config, missing, store.root.parent, assume_yes)
    return _shared(graph, store, missing)


def _shared(graph: Graph, store: Store, missing: Sequence[Node]) -> list[SharingEntry]:
    """What training sets and evaluations share, said on the terminal where something is to be made.

    Raises InputError where that is more than chance explains and nothing allows it.
    """
    from sgtr_jax.experiment.contamination import check_sharing, in_words, sharings

    found = sharings(graph, store, _counted_before(store.root.parent / "experiment.json"))
    if missing:
        for line in in_words(found):
            print(line, file=sys.stderr)
        check_sharing(found)
    return [one.to_json() for one in found]


def _counted_before(path: Path) -> Sequence[SharingEntry]:
    """What the run's file says from when it was last looked at; nothing if there is no such file, or a damaged one."""
    try:
        return cast(RunFile, read_sealed(path)).get("shared", ())
    except InputError:
        return ()


def described(graph: Graph, store: Store, shared: Sequence[SharingEntry]) -> RunFile:
    """What the file of a run says of it."""
    cells: list[CellEntry] = [
        {
            "condition": cell.condition,
            "seed": cell.seed,
            "evaluation": cell.evaluation,
            "task": cell.node.task,
            "judged": cell.node.answers is not None,
            "own_texts": cell.node.asks_own_texts,
            # The report shall not need a file of somebody else to be read.
            "own": None if cell.node.facts is all_facts().get(cell.node.task) else cell.node.facts.to_json(),
            "artifact": store.path(cell.node).name,
        }
        for cell in graph.cells
    ]
    artifacts: list[ArtifactEntry] = [
        {
            "artifact": store.path(node).name,
            "kind": node.kind,
            "name": node.name,
            "inputs": [store.path(source).name for source in node.inputs.values()],
        }
        for node in graph.nodes()
    ]
    config = cast(ConfigEntry, graph.config.model_dump(mode="json"))
    contrasts = [one.to_json() for one in graph.config.planned_contrasts]
    return {
        "config": config, "cells": cells, "artifacts": artifacts, "shared": list(shared), "contrasts": contrasts,
        "left_out": list(graph.config.left_out),
    }  # fmt: skip


def check_single_process(processes: int, why: str) -> None:
    """Raises InputError in a job of several processes, each of which would do the same outside."""
    if processes > 1:
        raise InputError(f"{why}; run this in one process")
