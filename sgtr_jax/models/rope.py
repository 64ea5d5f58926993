"""Rotary position embedding (RoFormer, arXiv 2104.09864), in the half-rotation form of Llama and Qwen."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rope_angles(positions: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines, each float32 `[B, T, 1, H/2]`, for `positions` int `[B, T]`.

    Angles stay in float32 whatever the model's dtype: bfloat16 would round position 257 to 256.
    """
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    angles = positions[..., None].astype(jnp.float32) / theta**exponents
    return jnp.cos(angles)[:, :, None, :], jnp.sin(angles)[:, :, None, :]


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotate `x[B, T, heads, H]`: channel i is paired with channel i + H/2. Keeps `x`'s dtype."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
