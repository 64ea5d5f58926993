"""What a device's memory is, and what a compiled program needs of it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

# Of what a device has, that a program may need. On GPU that is what JAX has reserved, which nothing else is in.
_SHARE = {"gpu": 0.95}
_SHARE_ELSEWHERE = 0.9
_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
_GPU_FRACTION = 0.95  # of a card, that is reserved; the CUDA context and its libraries take the rest


def reserve_gpu_memory() -> float:
    """The share of a GPU that JAX reserves, set to 0.95 where nobody has set another; JAX by itself takes 0.75.

    To be called before the first device is asked for.
    """
    return float(os.environ.setdefault(_FRACTION, str(_GPU_FRACTION)))


def usable_memory(devices: Sequence[jax.Device]) -> int | None:
    """Bytes that a program may need on one of the devices; None if unknown."""
    memory = device_memory(devices)
    return None if memory is None else int(_SHARE.get(devices[0].platform, _SHARE_ELSEWHERE) * memory)


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


def peak_bytes(program: jax.stages.Compiled) -> int:
    """Most bytes that a compiled program needs on one device."""
    memory = program.memory_analysis()
    assert memory is not None  # every backend that is used here says it
    # TPU's compiler names the peak itself; elsewhere what is alive at once is bounded by the sum.
    named = int(getattr(memory, "peak_memory_in_bytes", 0) or 0)
    whole = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return named or int(whole)
