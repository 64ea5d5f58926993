"""`sgtr plan`: what a run will do, whether it fits the slice, how long at least, and what judging costs."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sgtr_eval.prices import price_list
from sgtr_jax.config import load
from sgtr_jax.data.packing import Shape
from sgtr_jax.data.registry import configs_folder
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.cost import TOKENS, bill, rows_of
from sgtr_jax.experiment.graph import Graph, build_graph
from sgtr_jax.experiment.recipe import Recipe, in_order
from sgtr_jax.experiment.store import Store
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.model import read_spec, resolve_folder
from sgtr_jax.models.spec import ModelSpec, spec_from_config
from sgtr_jax.plan.fit import Fit, MeshShape, fit, meshes
from sgtr_jax.plan.slices import Slice, find_slice
from sgtr_jax.plan.topology import topology_mesh


@dataclass(frozen=True)
class Training:
    """A run to be trained: examples (None: unknown), tokens of one, optimizer steps."""

    recipe: Recipe
    examples: int | None
    tokens: int
    steps: int | None


def plan(path: Path, overrides: Sequence[str], topology: str | None, all_meshes: bool, as_json: bool) -> int:
    """Print the plan. Returns 0; nothing is made. Raises InputError."""
    config = load(ExperimentConfig, path, overrides)
    slice_ = find_slice(topology) if topology is not None else None
    if config.api_model is not None and slice_ is not None:
        raise InputError(f"--topology: {config.model} is behind an API and needs no TPU")
    spec, fingerprint, where = (None, None, config.model) if config.api_model is not None else _model(config.model)
    graph = build_graph(config, fingerprint)
    store = Store(config.folder / "store")
    recipes = in_order([cell.recipe for cell in graph.cells])
    missing = [recipe for recipe in recipes if not store.has(recipe)]
    trainings = [_training(recipe) for recipe in missing if recipe.is_training]
    expected = bill(graph, missing, store)
    console = Console(width=None if Console().is_terminal else 140, stderr=False)
    _print_nodes(console, graph, recipes, store)
    unknown = sorted({t.recipe.inputs["data"].name for t in trainings if t.examples is None})
    steps = sum(training.steps or 0 for training in trainings)
    console.print(f"model: {where}")
    steps_text = "" if spec is None else f", {steps} steps"
    console.print(
        f"to train: {len(trainings)} runs{steps_text}" + (f"; unknown: {', '.join(unknown)}" if unknown else "")
    )
    if spec is None:
        for what, dollars in (("finetuning", expected.finetuning), ("sampling", expected.sampling)):
            console.print(_dollars_line(f"{what} by {config.model}", dollars), highlight=False)
    console.print(_dollars_line(f"judging by {config.judge.model}", expected.judging), highlight=False)
    summary: dict[str, Any] = {
        "name": config.name, "model": config.model, "nodes": len(recipes), "done": len(recipes) - len(missing),
        "runs": len(trainings), "steps": steps, "judge_dollars": _rounded(expected.judging),
        "model_dollars": _rounded(expected.finetuning + expected.sampling),
    }  # fmt: skip
    if slice_ is not None:
        assert spec is not None
        found = _fits(console, spec, config, slice_, trainings, all_meshes)
        summary.update(_on_slice(slice_, found, trainings, config))
        hours = summary["accelerator_hours_at_least"]
        if hours is not None:
            console.print(
                f"training on {slice_.name}: at least {hours:.1f} chip hours one run at a time, sampling not counted"
            )
    if as_json:
        print(json.dumps(summary))
    return 0


def _model(name: str) -> tuple[ModelSpec, str, str]:
    """Spec, fingerprint and where they are from; of a model whose weights are not here the shipped shapes."""
    known = configs_folder() / "models" / f"{name.rsplit('/', 1)[-1]}.json"
    if name == "nano" or Path(name).is_dir():
        folder = resolve_folder(name)
        return read_spec(folder), model_fingerprint(folder), str(name)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json") if name.count("/") == 1 else None
    if isinstance(cached, str):
        folder = Path(cached).parent
        return read_spec(folder), model_fingerprint(folder), f"{name}, downloaded"
    if known.exists():
        spec = spec_from_config(json.loads(known.read_text()), str(known))
        return spec, "not here", f"{name}, not downloaded; shapes from {known.name}"
    folder = resolve_folder(name)
    return read_spec(folder), model_fingerprint(folder), name


def _training(recipe: Recipe) -> Training:
    settings, data = recipe.settings["training"], recipe.inputs["data"]
    examples, batch = rows_of(data), settings.get("batch_examples")
    tokens = min(TOKENS[data.kind], settings.get("max_length", TOKENS[data.kind]))
    counted = rows_of(recipe.inputs["match_steps"]) if "match_steps" in recipe.inputs else examples
    if counted is not None and "interleave" in recipe.settings:
        mixed = recipe.settings["interleave"]
        counted = int(counted / (1 - mixed["fraction"])) if mixed["fraction"] else counted + counted // mixed["every"]
    steps = None if counted is None or batch is None else -(-counted // batch) * settings["epochs"]
    return Training(recipe, examples, tokens, steps)


def _dollars_line(what: str, dollars: float) -> str:
    if math.isnan(dollars):
        return f"{what}: no price in configs/prices.yaml"
    return f"{what}: about ${dollars:,.2f} (prices of {price_list()['as_of']})"


def _rounded(dollars: float) -> float | None:
    return None if math.isnan(dollars) else round(dollars, 2)


def _print_nodes(console: Console, graph: Graph, recipes: Sequence[Recipe], store: Store) -> None:
    table = Table(title=graph.config.name)
    for column, side in (("what", "left"), ("nodes", "right"), ("done", "right"), ("examples of each", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    done = Counter(recipe.kind for recipe in recipes if store.has(recipe))
    for kind, count in Counter(recipe.kind for recipe in recipes).items():
        sizes: set[str] = set()
        if kind in ("pairs", "records", "self_reports"):
            sizes = {str(rows_of(recipe) or "unknown") for recipe in recipes if recipe.kind == kind}
        table.add_row(kind, str(count), str(done[kind]), ", ".join(sorted(sizes)))
    console.print(table)


def _shapes(trainings: Sequence[Training], config: ExperimentConfig, mesh: MeshShape) -> dict[int, Shape]:
    """One step's shape by tokens of an example: as many rows as examples, rounded up to what the mesh divides."""
    divisor = mesh[0] * mesh[1]
    shapes = {}
    for tokens in {training.tokens for training in trainings}:
        length = min(config.finetuning.max_length, 128 * -(-tokens // 128))
        rows = -(-config.finetuning.batch_examples // divisor) * divisor
        shapes[tokens] = Shape(rows, length, 8 if tokens >= 1000 else length)
    return shapes


def _fits(
    console: Console, spec: ModelSpec, config: ExperimentConfig, slice_: Slice, trainings: Sequence[Training],
    all_meshes: bool,
) -> list[dict[int, Fit]]:  # fmt: skip
    own = config.finetuning.mesh
    if own == "auto":
        tried = list(meshes(spec, slice_.chips))
    else:
        given = (own.replica, own.fsdp or max(1, slice_.chips // (own.replica * own.tensor)), own.tensor)
        tried = [given, *(mesh for mesh in meshes(spec, slice_.chips) if all_meshes and mesh != given)]
    if own != "auto" and math.prod(given) != slice_.chips:
        raise InputError(f"finetuning.mesh {given} needs {math.prod(given)} chips; {slice_.name} has {slice_.chips}")
    table = Table(title=f"{slice_.name}: {slice_.chips} chips of {slice_.chip.memory_gib} GiB, one run at a time")
    for column in (
        "mesh (replica, fsdp, tensor)",
        "rows x tokens",
        "fits",
        "peak GB",
        "compute ms",
        "memory ms",
        "links ms",
    ):
        table.add_column(column, justify="right")
    found = []
    for mesh in tried:
        by_tokens = {}
        for tokens, shape in _shapes(trainings, config, mesh).items():
            one = by_tokens[tokens] = fit(
                spec, config.finetuning, slice_.chip, topology_mesh(slice_.topology, mesh), 1, shape
            )
            numbers = (one.peak_gb, one.compute_ms, one.memory_ms, one.link_ms)
            says = "yes" if one.fits else f"no: {one.why}"
            table.add_row(str(mesh), f"{shape.rows} x {shape.length}", says, *(f"{number:.1f}" for number in numbers))
        found.append(by_tokens)
    console.print(table)
    return found


def _on_slice(
    slice_: Slice, found: Sequence[dict[int, Fit]], trainings: Sequence[Training], config: ExperimentConfig
) -> dict[str, Any]:
    def milliseconds(by_tokens: dict[int, Fit]) -> float:
        return sum((training.steps or 0) * by_tokens[training.tokens].bound_ms for training in trainings)

    fitting = [one for one in found if all(fit.fits for fit in one.values())]
    best = min(fitting, key=milliseconds) if fitting else None
    shown = best or found[0]
    peaks = [fit.peak_gb for fit in shown.values() if not math.isnan(fit.peak_gb)]
    meshes_shown = [fit.mesh for fit in shown.values()]
    return {
        "topology": slice_.name,
        "chips": slice_.chips,
        "fits": best is not None,
        "mesh": list(meshes_shown[0]) if meshes_shown else None,
        "peak_gb_per_chip": round(max(peaks), 2) if peaks else None,
        "limit_gb_per_chip": round(slice_.chip.memory_gib * 2**30 / 1e9, 2),
        "accelerator_hours_at_least": None if best is None else milliseconds(best) / 3.6e6 * slice_.chips,
    }
