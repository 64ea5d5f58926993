"""A run that several machines make together over one bucket: each its part, and the last one what is left."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax

from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.evaluation_node import EvaluationNode
from sgtr_jax.experiment.graph import Graph
from sgtr_jax.experiment.leases import Leases
from sgtr_jax.experiment.mirror import Mirror
from sgtr_jax.experiment.node import Node, in_order
from sgtr_jax.experiment.parts import Part, assigned
from sgtr_jax.experiment.run import check_before, check_single_process, described, make, make_all
from sgtr_jax.experiment.run_lock import run_lock
from sgtr_jax.experiment.status import open_run
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.work_share import PartOfRun
from sgtr_jax.files import check_writable
from sgtr_jax.sealed import write_sealed


def run_part(path: Path, overrides: Sequence[str], part: Part, judge: bool, assume_yes: bool) -> int:
    """Make a part of what is missing, and what other machines leave; the last of them makes the rest and reports.

    Answers that a judge behind an API is to read are sampled by all and judged by the last one, which keeps the budget.
    Returns the exit code: 1 if anything failed. Raises InputError and RunError.
    """
    graph, _ = open_run(path, overrides)
    address = _shared_address(graph.config)
    store = Store(graph.config.folder / f"part-{part.number}-of-{part.of}" / "store")
    folder = store.root.parent
    check_writable(folder)
    with run_lock(folder), contextlib.closing(Leases(address, f"part {part}")) as leases:
        wanted = [_without_paid_judge(cell.node) if judge else cell.node.to_sample for cell in graph.cells]
        nodes = in_order(wanted)
        mirror = Mirror(address)
        there = mirror.keys()
        # The judge, too, though the last machine asks it: what it lacks is said before anything is computed.
        every = graph.nodes() if judge else nodes
        left = [node for node in every if node.key not in there and not store.has(node)]
        shared = check_before(graph, store, left, judge, assume_yes)
        write_sealed(folder / "experiment.json", described(graph, store, shared))
        mirror.send_file(folder / "experiment.json")  # for whoever asks there how far it is
        failed = _make_part(graph, store, part, nodes, leases, mirror)
        words = ["sgtr", "run", str(path), *overrides, *([] if judge else ["--no-judge"]), "--part", str(part)]
        reported = _end(leases, part, nodes, address, partial(make_all, graph, store, words, judge, assume_yes))
        # Who reports tries again what failed.
        return failed if reported is None else reported


def _make_part(graph: Graph, store: Store, part: Part, nodes: Sequence[Node], leases: Leases, mirror: Mirror) -> int:
    parts = assigned([cell.node for cell in graph.cells], part.of)
    own = {key for key, number in parts.items() if number == part.number}
    share = PartOfRun(own, nodes, store, mirror, leases)
    share.send([node for node in nodes if store.has(node)])  # what was made here before a kill, and not sent
    missing = [node for node in nodes if not share.is_made(node)]
    if not missing:
        return 0
    mine = sum(node.fingerprint in own for node in missing)
    print(f"part {part}: {mine} of {len(missing)} missing artifacts, and what others leave", file=sys.stderr)
    return int(bool(make(graph.config, store, missing, share).failed))


def _shared_address(config: ExperimentConfig) -> str:
    """Where the machines keep what they make. Raises InputError for a run that several machines cannot share."""
    if config.api_model is not None:
        raise InputError("--part: a model behind an API is asked by one process, for many jobs and answers at once")
    check_single_process(jax.process_count(), "--part: the hosts of a slice are one job")
    if config.address is None:
        raise InputError(
            "--part: machines find each other's artifacts in a bucket, and this run has none: give "
            "mirror=gs://BUCKET/FOLDER, or mirror=file:///FOLDER of a file system that all of them have"
        )
    return config.address


def _end(leases: Leases, part: Part, nodes: Sequence[Node], address: str, make_rest: Callable[[], int]) -> int | None:
    """The exit code of the rest, if this machine is the first one to find all the work done; None on the others."""
    key = f"report-{hashlib.sha256(' '.join(node.fingerprint for node in nodes).encode()).hexdigest()[:12]}"
    leases.look()
    if (said := leases.done(key)) is not None:
        print(f"part {part}: nothing is left; {said}", file=sys.stderr)
        return None
    if not leases.take(key):
        print(f"part {part}: nothing is left; another machine judges and reports", file=sys.stderr)
        return None
    code = make_rest()
    if code == 0:
        leases.end(key, done=f"part {part} reported: {address}/report.html")
    return code


def _without_paid_judge(node: EvaluationNode) -> Node:
    """The measurement, or the sampling of its answers where a judge behind an API is to read them."""
    judge = node.judged_by
    is_here = judge is None or judge.is_open or judge.model.startswith("world/")
    return node if is_here else node.to_sample
