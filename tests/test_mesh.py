"""Which devices a mesh takes where nobody said, and how sampling splits weights over them."""

from __future__ import annotations

import math

import jax
import pytest

from sgtr_jax.memory import sampling_mesh
from sgtr_jax.mesh import MeshConfig, devices_for
from sgtr_jax.plan.shipped import shipped_spec


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
