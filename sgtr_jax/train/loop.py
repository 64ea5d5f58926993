"""The training loop: steps in, metrics out, and a stop with the last good state when the loss is not finite."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from sgtr_jax.data.batches import StepPlan
from sgtr_jax.data.packing import PackedStep
from sgtr_jax.errors import RunError
from sgtr_jax.mesh import data_sharding
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.progress import Progress
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.step import Frozen, TrainState, compiled


@dataclass(frozen=True)
class TrainResult:
    """Final trained parameters and the metrics of every step."""

    params: Any
    metrics: list[dict[str, float]]


class NonFiniteLoss(RunError):
    """The loss or its gradient became NaN or infinite. `last_good` holds the parameters before that step."""

    def __init__(self, step: int, loss: float, ids: tuple[str, ...], last_good: Any) -> None:
        self.step, self.ids, self.last_good = step, ids, last_good
        shown = ", ".join(ids[:16]) + (", ..." if len(ids) > 16 else "")
        super().__init__(f"step {step}: the loss is {loss} or its gradient is not finite; examples: {shown}")


def train(
    spec: ModelSpec,
    mesh: Mesh,
    frozen: Frozen,
    params: Any,
    plan: StepPlan,
    config: TrainConfig,
    metrics_file: Path,
    label: str = "train",
    on_step: Callable[[int, TrainState], None] | None = None,
) -> TrainResult:
    """Train `params` (an adapter's, or all parameters in full mode) over the steps of `plan`.

    Metrics go to `metrics_file`, one JSON object a line: step (from 1), loss, lr, grad_norm, tokens, targets.
    Raises NonFiniteLoss.
    """
    begin, step_function = compiled(spec, config.model_copy(update={"seed": 0}), plan.num_steps)
    state = begin(params)
    sharding = data_sharding(mesh)
    log: list[dict[str, float]] = []
    pending: tuple[PackedStep, dict[str, jax.Array]] | None = None
    with (
        jax.set_mesh(mesh),
        metrics_file.open("w") as stream,
        Progress(label, plan.num_steps, "steps") as progress,
    ):

        def finish(packed: PackedStep, metrics: dict[str, jax.Array]) -> None:
            row = _row(len(log) + 1, packed, jax.device_get(metrics))
            if not (abs(row["loss"]) < float("inf") and abs(row["grad_norm"]) < float("inf")):
                last_good = jax.device_get(state.params)
                raise NonFiniteLoss(int(row["step"]), row["loss"], packed.example_ids, last_good)
            log.append(row)
            stream.write(json.dumps(row) + "\n")
            progress.advance(1, f"loss {row['loss']:.3f}")

        for packed in plan:
            state, metrics = step_function(state, frozen, jax.device_put(packed.arrays(), sharding))
            if on_step is not None:
                on_step(len(log) + 1 + (pending is not None), state)
            # Read the metrics of the step before while the device works on this one.
            if pending is not None:
                finish(*pending)
            pending = (packed, metrics)
        if pending is not None:
            finish(*pending)
    return TrainResult(state.params, log)


def _row(step: int, packed: PackedStep, metrics: dict[str, Any]) -> dict[str, float]:
    return {
        "step": step,
        "loss": float(metrics["loss"]),
        "lr": float(metrics["lr"]),
        "grad_norm": float(metrics["grad_norm"]),
        "tokens": packed.num_tokens,
        "targets": packed.num_targets,
    }
