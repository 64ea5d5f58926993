"""Small finetuning runs and what they leave, for the tests of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from sgtr_jax.config import apply_overrides, build_config
from sgtr_jax.data.records import Record
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.files import read_jsonl
from sgtr_jax.finetune.jobs import Finetune, InterleavedData, MatchedData
from sgtr_jax.train.config import TrainConfig

FAST = ("dtype=float32", "remat=none", "lora.rank=4", "batch_examples=8", "lr=1e-2", "warmup_steps=1")


def config_of(*overrides: str) -> TrainConfig:
    return build_config(TrainConfig, apply_overrides({}, [*FAST, *overrides]), "test")


def job(
    model: Path,
    out: Path,
    *overrides: str,
    rows: int = 24,
    records: Sequence[Record] | None = None,
    chain: tuple[Path, ...] = (),
    mixed_in: InterleavedData | None = None,
    matched: MatchedData | None = None,
) -> Finetune:
    records = preferences(rows, 0, False) if records is None else records
    return Finetune(str(model), chain, records, config_of(*overrides), out, out.name, mixed_in, matched)


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


def metrics(out: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(out / "metrics.jsonl", empty=True)]


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in metrics(out)]


def weights(out: Path) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = load_file(out / "adapter" / "adapter_model.safetensors")
    return tensors


def distance(a: Path, b: Path) -> float:
    """Norm of the difference of two runs' adapters over the norm of the first."""
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    error = sum(float(((left[k] - right[k]) ** 2).sum()) for k in left) ** 0.5
    return error / sum(float((left[k] ** 2).sum()) for k in left) ** 0.5


def identical(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all((left[k] == right[k]).all() for k in left)
