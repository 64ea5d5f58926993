"""How sampling lays weights out over devices where nobody says."""

from __future__ import annotations

import math

import jax

from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.models.decoder import abstract_params
from sgtr_jax.models.spec import ModelSpec

_RESIDENT_SHARE = 0.5  # of a device's memory for weights that stay there; caches take the rest


def sampling_mesh(spec: ModelSpec, itemsize: int, devices: int, memory: float) -> MeshConfig:
    """Weights split over as few devices as hold them; the others take rows of their own.

    Example: 32B in bfloat16 (65 GB) on 16 chips of 16.9 GB: an eighth is 8.2 GB, so `fsdp: 2, tensor: 8`. Where half
    the memory does not hold a share, the model is split as far as its key-value heads allow.
    """
    size = itemsize * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(spec)))
    # A vocabulary that this does not divide (Olmo's 100,278) lies whole on every device.
    wide = (spec.num_kv_heads, spec.num_heads, spec.intermediate_size, devices)
    splits = [n for n in range(1, spec.num_kv_heads + 1) if all(whole % n == 0 for whole in wide)]
    tensor = next((n for n in splits if size / n <= _RESIDENT_SHARE * memory), splits[-1])
    return MeshConfig(fsdp=devices // tensor, tensor=tensor)
