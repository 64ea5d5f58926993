"""An experiment whose model is behind an API: its finetuning jobs, listed or changed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sgtr_jax.config import build_config
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.experiment.nodes.finetuned import FinetunedNode
from sgtr_jax.experiment.status import stored_config
from sgtr_jax.experiment.store import Store
from sgtr_jax.finetune.openai import Provider, outcome_of


def jobs_of_run(run: Path, change: Literal["cancel", "pause", "resume"] | None, name: str | None) -> int:
    """List the finetuning jobs of a run as they stand, or change one (or `all` that go on). Returns the exit code."""
    config = build_config(ExperimentConfig, stored_config(run), str(run))
    if config.api_model is None:
        raise InputError(f"{run}: its model {config.model!r} is not behind an API, so there are no jobs")
    store, provider = Store(run / "store"), Provider(config.api.base_url)
    nodes = [node for node in build_graph(config).nodes() if isinstance(node, FinetunedNode)]
    if name not in (None, "all", *(node.name for node in nodes)):
        raise InputError(f"{run}: no job {name!r}: {nearest(str(name), [node.name for node in nodes])}")
    for node in nodes:
        job = provider.find(node.fingerprint)
        if job is not None and change is not None and name in ("all", node.name) and outcome_of(job) is None:
            job = provider.change(job.id, change)
        state = "not started" if job is None else f"{job.status:10}  {job.id}  {job.fine_tuned_model or ''}".rstrip()
        done = "" if not store.has(node) else "  (in the store)"
        print(f"{node.name:30}  {state}{done}")
    return 0
