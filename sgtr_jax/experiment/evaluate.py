"""Running one Inspect task on one of our models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import inspect_ai.model
from inspect_ai import eval as inspect_eval
from inspect_ai.model import GenerateConfig

from sgtr_eval import registry
from sgtr_eval.provider import SgtrAPI
from sgtr_jax.errors import RunError
from sgtr_jax.mesh import is_first_process
from sgtr_jax.model import Model
from sgtr_jax.sample.config import SampleConfig
from sgtr_jax.sample.led import follow


def evaluate(
    task: str, arguments: dict[str, Any], model: Model, sampling: SampleConfig, folder: Path, label: str
) -> list[dict[str, Any]]:
    """Run a task of `sgtr_eval`; its Inspect log goes to `folder/log`. Returns `{metric, value, n}` rows.

    Of several processes the first runs Inspect and the others follow its engine, with no rows in the end.

    Raises RunError when Inspect reports anything but success.
    """
    if not is_first_process():
        follow(model.engine)
        return []
    # Inspect looks for a newer release of itself at every start unless told not to.
    os.environ.setdefault("INSPECT_DISABLE_UPDATE_CHECK", "1")
    asked = SgtrAPI(model.name, model=model, system=sampling.system, thinking_budget=sampling.thinking_budget)
    try:
        logs = inspect_eval(
            getattr(registry, task)(**arguments),
            model=inspect_ai.model.Model(asked, GenerateConfig()),
            log_dir=str(folder / "log"),
            display="none",
            log_level="error",
            log_realtime=False,
            metadata={"chain": model.chain_id, "label": label},
        )
    finally:
        asked.release()
    (log,) = logs
    if log.status != "success" or log.results is None:
        raise RunError(f"{label}: the evaluation failed: {log.error.message if log.error else log.status}")
    return [
        {"metric": name, "value": metric.value, "n": log.results.completed_samples}
        for score in log.results.scores
        for name, metric in score.metrics.items()
    ]
