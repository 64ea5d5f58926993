"""What a device's memory is, and what a compiled program needs of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from sgtr_jax.mesh import MeshConfig
from sgtr_jax.models.decoder import abstract_params
from sgtr_jax.models.spec import ModelSpec

MEMORY_SHARE = 0.9  # of what a device has, that a program may need
_RESIDENT_SHARE = 0.5  # of a device's memory for weights that stay there in sampling; caches take the rest


def sampling_mesh(spec: ModelSpec, itemsize: int, devices: int, memory: float) -> MeshConfig:
    """Weights split over as few devices as hold them; the others take rows of their own.

    Example: 32B in bfloat16 (65 GB) on 16 chips of 16.9 GB: an eighth is 8.2 GB, so `fsdp: 2, tensor: 8`. Where half
    the memory does not hold a share, the model is split as far as its key-value heads allow.
    """
    size = itemsize * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(spec)))
    wide = (spec.num_kv_heads, spec.num_heads, spec.intermediate_size, spec.vocab_size, devices)
    splits = [n for n in range(1, spec.num_kv_heads + 1) if all(whole % n == 0 for whole in wide)]
    tensor = next((n for n in splits if size / n <= _RESIDENT_SHARE * memory), splits[-1])
    return MeshConfig(fsdp=devices // tensor, tensor=tensor)


def device_memory(devices: Sequence[jax.Device]) -> int | None:
    """Bytes of memory of one of the devices; for CPU devices their share of the machine's; None if unknown."""
    # Of one of this process's own: what another host's devices have it cannot ask. Those of a slice are alike.
    device = next((one for one in devices if one.process_index == jax.process_index()), devices[0])
    if device.platform == "cpu":
        local = [d for d in devices if d.process_index == device.process_index]
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(local)
    stats = device.memory_stats()
    return int(stats["bytes_limit"]) if stats and "bytes_limit" in stats else None


def memory_in_use(mesh: Mesh) -> int | None:
    """Most bytes this process's first device has held so far; None where the backend does not say."""
    device = next(d for d in mesh.devices.flat if d.process_index == jax.process_index())
    stats = device.memory_stats()
    return int(stats["peak_bytes_in_use"]) if stats and "peak_bytes_in_use" in stats else None


def peak_bytes(program: Any) -> int:
    """Most bytes that a compiled program needs on one device."""
    memory = program.memory_analysis()
    # TPU's compiler names the peak itself; elsewhere what is alive at once is bounded by the sum.
    named = int(getattr(memory, "peak_memory_in_bytes", 0) or 0)
    whole = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return named or int(whole)
