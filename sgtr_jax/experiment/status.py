"""Looking at a run without making anything: its graph, why a node is to be made, what may be removed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from sgtr_jax.config import build_config, load_config
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.executor import reasons
from sgtr_jax.experiment.graph import NOT_HERE, Graph, build_graph
from sgtr_jax.experiment.left_out import is_left_out, left_out_of
from sgtr_jax.experiment.node import Node
from sgtr_jax.experiment.run_lock import run_lock
from sgtr_jax.experiment.store import Store
from sgtr_jax.json_types import JsonObject
from sgtr_jax.report.run_file import ArtifactRecord, read_artifact
from sgtr_jax.report.tables import read_experiment
from sgtr_jax.sample.folders import folder_here
from sgtr_jax.sealed import RECORD, differences


def look_at_run(path: Path, overrides: Sequence[str]) -> tuple[Graph, Store]:
    """As `open_run`, without the network. Of a model that is not here nothing counts as done, which is said."""
    config = load_config(ExperimentConfig, path, overrides)
    fingerprint = None
    if config.api_model is None and folder_here(config.model) is None:
        fingerprint = NOT_HERE
        print(f"model {config.model!r} is not on this machine, so that nothing counts as done", file=sys.stderr)
    return build_graph(config, fingerprint), Store(config.folder / "store")


def open_run(path: Path, overrides: Sequence[str]) -> tuple[Graph, Store]:
    """The graph of a config and the store of its run."""
    graph = build_graph(load_config(ExperimentConfig, path, overrides))
    return graph, Store(graph.config.folder / "store")


def stored_config(run: Path) -> JsonObject:
    """The config a run was made with, as JSON. Raises InputError if `run` is none."""
    return cast(JsonObject, read_experiment(run)["config"])


def list_graph(path: Path, overrides: Sequence[str]) -> int:
    """Print every artifact of the experiment and whether it is there."""
    graph, store = look_at_run(path, overrides)
    nodes = graph.nodes()
    failed = reasons(graph.config.folder / "failures.json")
    lines, done = [], 0
    left_out = left_out_of(store.root)
    for node in nodes:
        made_from = ", ".join(source.name for source in node.inputs.values())
        if store.has(node):
            state = "done"
        elif store.is_there(node):
            state = "apart" if is_left_out(store.path(node), left_out) else "damaged"
        else:
            state = "failed" if node.folder in failed else "to do"
        done += state == "done"
        lines.append(f"{state:7} {node.kind:10}  {node.name}{'  <- ' + made_from if made_from else ''}")
    print("\n".join(lines))
    print(f"{done} of {len(nodes)} done; {len(graph.cells)} measurements wanted")
    return 0


def explain(path: Path, overrides: Sequence[str], name: str) -> int:
    """Print whether a node is there, and if not, what in its recipe is other than in the newest one of its name."""
    graph, store = look_at_run(path, overrides)
    nodes = graph.nodes()
    named = [node for node in nodes if name in (node.name, node.folder)]
    if not named:
        known = dict.fromkeys(node.name for node in nodes)
        raise InputError(f"--why {name}: no node of that name: {nearest(name, known)}")
    failed = reasons(graph.config.folder / "failures.json")
    for node in named:
        print(f"{node.kind} {node.name}: {_state(node, store, failed)}")
        for line in _changes(node, store) if not store.has(node) else ():
            print(f"  {line}")
    return 0


def _state(node: Node, store: Store, failed: dict[str, str]) -> str:
    if store.has(node):
        return f"done, {store.path(node)}"
    if store.is_there(node):
        return f"damaged: {'; '.join(store.damage(node))}; `sgtr run` sets it aside and makes it again"
    if node.folder in failed:
        return f"failed: {failed[node.folder]}"
    return "to be made"


def _changes(node: Node, store: Store) -> Iterator[str]:
    """How the node differs from the newest stored artifact of its kind and name, down to what it is made from."""
    before = _newest(node, store)
    if before is None:
        yield f"{node.name}: never made before"
        return
    yield from (f"{node.name}: {line}" for line in differences(before["settings"], dict(node.settings)))
    for role, source in node.inputs.items():
        old = before["inputs"].get(role)
        if old is None:
            yield f"{node.name}: {role} is new: {source.name}"
        elif old != store.path(source).name:
            yield f"{node.name}: {role} was {old}, is {store.path(source).name}"
            yield from _changes(source, store)
    for role in before["inputs"].keys() - node.inputs.keys():
        yield f"{node.name}: {role} is gone: {before['inputs'][role]}"


def _newest(node: Node, store: Store) -> ArtifactRecord | None:
    found = []
    for path in store.root.glob(f"{node.kind}-*/{RECORD}"):
        try:
            stored = read_artifact(path.parent)
        except InputError:
            continue  # damaged, or of an older version: nothing to compare with
        if stored["name"] == node.name and stored["fingerprint"] != node.fingerprint:
            found.append((stored["provenance"]["made"], path.parent.name, stored))
    return max(found)[2] if found else None


def clean(run: Path, configs: Sequence[Path], assume_yes: bool) -> int:
    """Remove artifacts that no config of the run and none of `configs` names; only list them without `assume_yes`."""
    kept: set[str] = set()
    store = Store(run / "store")
    for config in [
        build_config(ExperimentConfig, stored_config(run), str(run)),
        *(load_config(ExperimentConfig, c) for c in configs),
    ]:
        # Everything the config can be asked for, whatever part of it was asked for last.
        whole = config.model_copy(update={"only": None, "measure": None})
        wanted = build_graph(whole).nodes()
        kept |= {store.path(node).name for node in wanted} | {node.folder for node in wanted}
    with run_lock(run):
        folders = [path for path in sorted((run / "store").iterdir()) if path.is_dir()]
        # A scratch folder belongs to the artifact it is named after.
        unnamed = [path for path in folders if path.name.removeprefix(".scratch-") not in kept]
        total = 0
        for path in unnamed:
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            total += size
            print(f"{'removed' if assume_yes else 'would remove'}  {size / 1e6:8.1f} MB  {path.name}")
            if assume_yes:
                shutil.rmtree(path)
    print(
        f"{len(unnamed)} of {len(folders)} artifacts, {total / 1e6:.1f} MB"
        + ("" if assume_yes else "; --yes removes them")
    )
    return 0
