"""What a device reaches: the rate of a large matrix product, and the bandwidth of a copy. Both are measured."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp


def matrix_rate(size: int = 8192) -> float:
    """FLOP/s of bfloat16 products of two square matrices."""
    x = jnp.ones((size, size), jnp.bfloat16)
    product = jax.jit(lambda a, b: a @ b)
    return 20 * 2 * size**3 / least_seconds(lambda: [product(x, x) for _ in range(20)], 3)


def copy_bandwidth(elements: int = 1 << 30) -> float:
    """Bytes/s that are read and written by copies of so many float32 numbers, which no cache should hold."""
    x = jnp.ones(elements, jnp.float32)
    copy = jax.jit(lambda a: a + 1)
    return 5 * 2 * x.nbytes / least_seconds(lambda: [copy(x) for _ in range(5)], 3)


def least_seconds(work: Callable[[], object], times: int) -> float:
    """The least of so many measurements, after a first one that compiles."""
    jax.block_until_ready(work())
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
