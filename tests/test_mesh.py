"""Which devices a mesh takes where nobody said, and how sampling splits weights over them."""

from __future__ import annotations

import gc
import math
from pathlib import Path
from typing import Any

import jax
import pytest
from test_experiment import CONFIG
from tiny import make_model

from sgtr_jax.cli.main import main
from sgtr_jax.distributed.mesh import devices_for
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.estimate.model_shapes import shipped_spec
from sgtr_jax.finetune.local import finetune_all
from sgtr_jax.sample.sharding import sampling_mesh


def test_sampling_splits_weights_no_further_than_memory_asks() -> None:
    spec = shipped_spec("Qwen2.5-32B-Instruct")

    def split(devices: int, gib: float) -> tuple[int | None, int]:
        mesh = sampling_mesh(spec, 2, devices, gib * 2**30)
        return mesh.fsdp, mesh.tensor

    assert split(16, 15.75) == (2, 8)  # v5e-16
    assert split(8, 31.25) == (2, 4)  # v6e-8
    assert split(8, 95.0) == (4, 2)  # v5p-16
    assert split(4, 15.75) == (1, 4)  # does not fit; loading will say so
    assert split(8, math.inf) == (8, 1) and split(1, math.inf) == (1, 1)
    assert split(6, 31.25) == (3, 2)


def test_a_host_of_several_chips_uses_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(devices_for(MeshConfig())) == 1  # simulated ones only where they are asked for
    assert len(devices_for(MeshConfig(tensor=2))) == 8
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert len(devices_for(MeshConfig())) == 8


@pytest.mark.slow
def test_weights_of_sampling_make_room_for_those_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_model(tmp_path / "m")
    (tmp_path / "c.yaml").write_text(CONFIG.format(model=tmp_path / "m"))
    held: list[int] = []

    def finetune(jobs: Any, base: Any) -> Any:
        table = (spec.vocab_size, spec.hidden_size)
        held.append(sum(array.shape == table for array in jax.live_arrays()))
        return finetune_all(jobs, base)

    monkeypatch.setattr("sgtr_jax.finetune.local.finetune_all", finetune)
    words = ["run", str(tmp_path / "c.yaml"), "seeds=[0]", "only=reversal", "measure=identity"]
    gc.collect()  # what other tests left
    before = sum(array.shape == (spec.vocab_size, spec.hidden_size) for array in jax.live_arrays())
    assert main([*words, f"out={tmp_path / 'o'}", "finetuning.mesh.fsdp=8"]) == 0
    assert len(held) == 2 and max(held) <= before  # the base model sampled summaries before
