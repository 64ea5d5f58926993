"""A frozen base in half the memory: the layers' kernels as int8, one scale per layer and output channel."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp


def quantize_leaf(path: tuple[str | int, ...], leaf: jax.Array) -> dict[str, jax.Array]:
    """What is stored for a parameter: kernels quantised and used up, anything else as it is."""
    return quantize_kernel(leaf) if path[-1] == "kernel" else {str(path[-1]): leaf}


@partial(jax.jit, donate_argnums=0)
def quantize_kernel(kernel: jax.Array) -> dict[str, jax.Array]:
    """`[*L, in, out]` as int8 `kernel` and float32 `kernel_scale[*L, out]`: symmetric, round to nearest."""
    wide = kernel.astype(jnp.float32)
    scale = jnp.max(jnp.abs(wide), axis=-2) / 127.0
    scale = jnp.where(scale == 0, 1.0, scale)
    return {"kernel": jnp.round(wide / scale[..., None, :]).astype(jnp.int8), "kernel_scale": scale}
