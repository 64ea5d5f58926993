"""Running one Inspect task on one of our models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from inspect_ai import eval as inspect_eval

from sgtr_eval import registry
from sgtr_eval.provider import inspect_model
from sgtr_jax.errors import RunError
from sgtr_jax.model import Model
from sgtr_jax.sample.config import SampleConfig


def evaluate(
    task: str, arguments: dict[str, Any], model: Model, sampling: SampleConfig, folder: Path, label: str
) -> list[dict[str, Any]]:
    """Run a task of `sgtr_eval`; its Inspect log goes to `folder/log`. Returns `{metric, value, n}` rows.

    Raises RunError when Inspect reports anything but success.
    """
    # Inspect looks for a newer release of itself at every start unless told not to.
    os.environ.setdefault("INSPECT_DISABLE_UPDATE_CHECK", "1")
    asked = inspect_model(model, system=sampling.system, thinking_budget=sampling.thinking_budget)
    logs = inspect_eval(
        getattr(registry, task)(**arguments),
        model=asked,
        log_dir=str(folder / "log"),
        display="none",
        log_level="error",
        log_realtime=False,
        metadata={"chain": model.chain_id, "label": label},
    )
    (log,) = logs
    if log.status != "success" or log.results is None:
        raise RunError(f"{label}: the evaluation failed: {log.error.message if log.error else log.status}")
    return [
        {"metric": name, "value": metric.value, "n": log.results.completed_samples}
        for score in log.results.scores
        for name, metric in score.metrics.items()
    ]
