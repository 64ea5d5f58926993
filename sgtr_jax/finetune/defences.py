"""What the defences of a job need besides its settings: rows, a direction. All is checked before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sgtr_jax.data.batches import StepPlan
from sgtr_jax.data.packing import Example
from sgtr_jax.errors import InputError
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.directions import read_direction
from sgtr_jax.train.config import TrainConfig

_SEED = 2  # added to the run's: rows of sets of equal size would otherwise be drawn in the same order


def check_layers(config: TrainConfig, num_layers: int) -> None:
    """Raise InputError when a setting names a layer that the model does not have."""
    named = {
        "lora.layers": config.lora.layers,
        "feature_l2.layers": None if config.feature_l2 is None else config.feature_l2.layers,
        "steer.layers": None if config.steer is None else config.steer.layers,
    }
    for setting, layers in named.items():
        absent = [layer for layer in layers or () if layer >= num_layers]
        if absent:
            raise InputError(f"{setting} names layer {absent[0]}; the model has layers 0 to {num_layers - 1}")


def steering(config: TrainConfig, spec: ModelSpec) -> Float32[np.ndarray, "L D"] | None:
    """What is added to the residual stream in training; None where nothing is. Raises InputError."""
    if config.steer is None or config.steer.scale == 0:
        return None
    return config.steer.added(read_direction(Path(config.steer.direction), spec).vectors)


def plan_of_others(examples: Sequence[Example], plan: StepPlan) -> StepPlan:
    """As many steps as a run has, of rows that only a penalty reads; each epoch of them in an order of its own."""
    others = StepPlan(examples, plan.batch_examples, 1, plan.seed + _SEED, plan.shuffle)
    return StepPlan(
        examples, plan.batch_examples, -(-plan.num_steps // others.steps_per_epoch), others.seed, plan.shuffle,
        plan.num_steps,
    )  # fmt: skip


def check_others(config: TrainConfig, others: Mapping[str, object]) -> None:
    """Raise InputError for rows of a penalty that the run does not have."""
    for name in others:
        if name not in config.penalties:
            raise InputError(f"{name}.data: the run has no {name}, or one of weight 0, to read these rows")
