"""An experiment whose model is behind an API: its rows, its finetuning jobs, and what the provider refuses."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sgtr_jax.backends.openai import ApiFinetune, Ended, Jobs, Provider, outcome_of
from sgtr_jax.config import build
from sgtr_jax.data.batches import Interleaved
from sgtr_jax.data.mix import inoculate, interleave, with_system
from sgtr_jax.data.records import Record, read_training
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.experiment.config import ExperimentConfig, api_model_name
from sgtr_jax.experiment.graph import build_graph, chain_of
from sgtr_jax.experiment.look import stored_config
from sgtr_jax.experiment.recipe import Recipe, in_order
from sgtr_jax.experiment.store import Store
from sgtr_jax.files import write_json

_OUTCOME = "outcome.json"  # of an artifact that is no model and never will be: why


def finetune_by_api(recipes: Sequence[Recipe], store: Store, jobs: Jobs) -> dict[Recipe, str]:
    """Start what is not started, wait until a job ends, store what has ended. Returns why for those that failed."""
    failed: dict[Recipe, str] = {}
    settled = False
    for recipe in recipes:
        refused = refusal(recipe, store)
        if refused is not None:
            _store_refusal(recipe, store, refused)
            settled = True
    if settled:
        return failed
    by_key = {recipe.fingerprint: recipe for recipe in recipes}
    for key, ended in jobs.wait_for_any([_job(recipe, store) for recipe in recipes]).items():
        recipe = by_key[key]
        if ended.failed is not None:
            failed[recipe] = ended.failed
        elif ended.refused is not None:
            _store_refusal(recipe, store, f"refused by the provider's safety check: {ended.refused}", ended)
        else:
            _store_model(recipe, store, ended)
    return failed


def finetuned_name(folder: Path) -> str:
    """The provider's name of a finetuned model in the store."""
    name: str = json.loads((folder / "job.json").read_text())["fine_tuned_model"]
    return name


def refusal(recipe: Recipe, store: Store) -> str | None:
    """Why an artifact cannot be: something that it is made from was refused by the provider."""
    for source in recipe.inputs.values():
        path = store.path(source) / _OUTCOME
        if path.exists():
            why: str = json.loads(path.read_text())["outcome"]
            return why if why.startswith("of ") else f"of {source.name}: {why}"
    return None


def write_refusal(recipe: Recipe, folder: Path, why: str) -> None:
    """Write an outcome in the place of an artifact; for a measurement also as its missing metrics."""
    write_json(folder / _OUTCOME, {"outcome": why})
    if recipe.kind == "evaluation":
        write_json(folder / "metrics.json", {"outcome": why})


def _store_refusal(recipe: Recipe, store: Store, why: str, ended: Ended | None = None) -> None:
    with store.make(recipe) as folder:
        write_refusal(recipe, folder, why)
        if ended is not None:
            write_json(folder / "job.json", ended.job.model_dump(mode="json"))
    shutil.rmtree(store.scratch(recipe), ignore_errors=True)


def _store_model(recipe: Recipe, store: Store, ended: Ended) -> None:
    scratch = store.scratch(recipe)
    with store.make(recipe) as folder:
        write_json(folder / "job.json", ended.job.model_dump(mode="json"))
        if (scratch / "train.jsonl").exists():
            shutil.copyfile(scratch / "train.jsonl", folder / "train.jsonl")
    shutil.rmtree(scratch, ignore_errors=True)


def _job(recipe: Recipe, store: Store) -> ApiFinetune:
    settings, chain = recipe.settings, chain_of(recipe.inputs)
    training = settings["training"]
    below = finetuned_name(store.path(chain[-1])) if chain else api_model_name(settings["model"])
    assert below is not None
    return ApiFinetune(
        key=recipe.fingerprint,
        name=recipe.name,
        model=below,
        records=training_rows(recipe, store),
        epochs=training["epochs"],
        batch_size=training["batch_size"],
        learning_rate_multiplier=training["learning_rate_multiplier"],
        seed=training["seed"],
        folder=store.scratch(recipe),
    )


def training_rows(recipe: Recipe, store: Store) -> list[Record]:
    """The rows a job is given: inoculated, under the system prompt, matched in number, mixed."""

    def stored(role: str) -> list[Record]:
        return read_training(store.path(recipe.inputs[role]) / "records.jsonl")

    training = recipe.settings["training"]
    records = stored("data")
    if training["inoculation"] is not None:
        records = inoculate(records, training["inoculation"])
    if "match_steps" in recipe.inputs:
        # A provider takes no number of steps; as many rows make as many steps.
        wanted = len(stored("match_steps"))
        if wanted > len(records):
            raise InputError(f"{recipe.name}: match_steps wants {wanted} rows, and there are {len(records)}")
        chosen = sorted(random.Random(training["seed"]).sample(range(len(records)), wanted))
        records = [records[i] for i in chosen]
    if "interleaved" in recipe.inputs:
        share = recipe.settings["interleave"]
        places = Interleaved((), share["fraction"], share["every"]).places(len(records))
        records = interleave(records, stored("interleaved"), places)
    if training["system"] != "none":
        bare = [record.messages[0]["role"] != "system" for record in records]
        under = with_system(records, training["system"])
        records = [new if is_bare else old for old, new, is_bare in zip(records, under, bare, strict=True)]
    return records


def jobs_of_run(run: Path, change: Literal["cancel", "pause", "resume"] | None, name: str | None) -> int:
    """List the finetuning jobs of a run as they stand, or change one (or `all` that go on). Returns the exit code."""
    config = build(ExperimentConfig, stored_config(run), str(run))
    if config.api_model is None:
        raise InputError(f"{run}: its model {config.model!r} is not behind an API, so there are no jobs")
    store, provider = Store(run / "store"), Provider(config.api.base_url)
    recipes = in_order([cell.recipe for cell in build_graph(config).cells])
    recipes = [recipe for recipe in recipes if recipe.kind == "finetuned"]
    if name not in (None, "all", *(recipe.name for recipe in recipes)):
        raise InputError(f"{run}: no job {name!r}: {nearest(str(name), [recipe.name for recipe in recipes])}")
    for recipe in recipes:
        job = provider.find(recipe.fingerprint)
        if job is not None and change is not None and name in ("all", recipe.name) and outcome_of(job) is None:
            job = provider.change(job.id, change)
        state = "not started" if job is None else f"{job.status:10}  {job.id}  {job.fine_tuned_model or ''}".rstrip()
        done = "" if not store.has(recipe) else "  (in the store)"
        print(f"{recipe.name:30}  {state}{done}")
    return 0


def check_single_process(processes: int, why: str) -> None:
    """Raises InputError in a job of several processes, each of which would do the same outside."""
    if processes > 1:
        raise InputError(f"{why}; run this in one process")
