"""Looking at a run without making anything: its graph, why a node is to be made, what may be removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sgtr_jax.config import build, load
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import Graph, build_graph
from sgtr_jax.experiment.lock import run_lock
from sgtr_jax.experiment.recipe import Recipe, in_order
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.work import reasons
from sgtr_jax.report.table import read_experiment
from sgtr_jax.sealed import RECORD, differences, read_record


def opened(path: Path, overrides: Sequence[str]) -> tuple[Graph, Store]:
    """The graph of a config and the store of its run."""
    graph = build_graph(load(ExperimentConfig, path, overrides))
    return graph, Store(graph.config.folder / "store")


def stored_config(run: Path) -> dict[str, Any]:
    """The config a run was made with, as JSON. Raises InputError if `run` is none."""
    config: dict[str, Any] = read_experiment(run)["config"]
    return config


def list_graph(path: Path, overrides: Sequence[str]) -> int:
    """Print every artifact of the experiment and whether it is there."""
    graph, store = opened(path, overrides)
    recipes = in_order([cell.recipe for cell in graph.cells])
    failed = reasons(graph.config.folder / "failures.json")
    for recipe in recipes:
        made_from = ", ".join(source.name for source in recipe.inputs.values())
        state = "done" if store.has(recipe) else "failed" if recipe.folder in failed else "to do"
        state = "damaged" if store.is_there(recipe) and state != "done" else state
        print(f"{state:7} {recipe.kind:10}  {recipe.name}{'  <- ' + made_from if made_from else ''}")
    done = sum(map(store.has, recipes))
    print(f"{done} of {len(recipes)} done; {len(graph.cells)} measurements wanted")
    return 0


def why(path: Path, overrides: Sequence[str], node: str) -> int:
    """Print whether a node is there, and if not, what in its recipe is other than in the newest one of its name."""
    graph, store = opened(path, overrides)
    named = [
        recipe for recipe in in_order([cell.recipe for cell in graph.cells]) if node in (recipe.name, recipe.folder)
    ]
    if not named:
        known = dict.fromkeys(recipe.name for recipe in in_order([cell.recipe for cell in graph.cells]))
        raise InputError(f"--why {node}: no node of that name: {nearest(node, known)}")
    failed = reasons(graph.config.folder / "failures.json")
    for recipe in named:
        print(f"{recipe.kind} {recipe.name}: {_state(recipe, store, failed)}")
        for line in _changes(recipe, store) if not store.has(recipe) else ():
            print(f"  {line}")
    return 0


def _state(recipe: Recipe, store: Store, failed: dict[str, str]) -> str:
    if store.has(recipe):
        return f"done, {store.path(recipe)}"
    if store.is_there(recipe):
        return f"damaged: {'; '.join(store.damage(recipe))}; `sgtr run` sets it aside and makes it again"
    if recipe.folder in failed:
        return f"failed: {failed[recipe.folder]}"
    return "to be made"


def _changes(recipe: Recipe, store: Store) -> Iterator[str]:
    """How the recipe differs from the newest stored artifact of its kind and name, down to what it is made from."""
    before = _newest(recipe, store)
    if before is None:
        yield f"{recipe.name}: never made before"
        return
    yield from (f"{recipe.name}: {line}" for line in differences(before["settings"], dict(recipe.settings)))
    for role, source in recipe.inputs.items():
        old = before["inputs"].get(role)
        if old is None:
            yield f"{recipe.name}: {role} is new: {source.name}"
        elif old != store.path(source).name:
            yield f"{recipe.name}: {role} was {old}, is {store.path(source).name}"
            yield from _changes(source, store)
    for role in before["inputs"].keys() - recipe.inputs.keys():
        yield f"{recipe.name}: {role} is gone: {before['inputs'][role]}"


def _newest(recipe: Recipe, store: Store) -> dict[str, Any] | None:
    found = []
    for path in store.root.glob(f"{recipe.kind}-*/{RECORD}"):
        try:
            stored = read_record(path.parent)
        except InputError:
            continue  # damaged, or of an older version: nothing to compare with
        if stored["name"] == recipe.name and stored["fingerprint"] != recipe.fingerprint:
            found.append((stored["provenance"]["made"], path.parent.name, stored))
    return max(found)[2] if found else None


def clean(run: Path, configs: Sequence[Path], sure: bool) -> int:
    """Remove artifacts that neither the run's own config nor any of `configs` names; without `sure` only list them."""
    kept: set[str] = set()
    store = Store(run / "store")
    for config in [
        build(ExperimentConfig, stored_config(run), str(run)),
        *(load(ExperimentConfig, c) for c in configs),
    ]:
        # Everything the config can be asked for, whatever part of it was asked for last.
        whole = config.model_copy(update={"only": None, "measure": None})
        wanted = in_order([cell.recipe for cell in build_graph(whole).cells])
        kept |= {store.path(recipe).name for recipe in wanted} | {recipe.folder for recipe in wanted}
    with run_lock(run):
        folders = [path for path in sorted((run / "store").iterdir()) if path.is_dir()]
        # A scratch folder belongs to the artifact it is named after.
        unnamed = [path for path in folders if path.name.removeprefix(".scratch-") not in kept]
        total = 0
        for path in unnamed:
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            total += size
            print(f"{'removed' if sure else 'would remove'}  {size / 1e6:8.1f} MB  {path.name}")
            if sure:
                shutil.rmtree(path)
    print(
        f"{len(unnamed)} of {len(folders)} artifacts, {total / 1e6:.1f} MB" + ("" if sure else "; --yes removes them")
    )
    return 0
