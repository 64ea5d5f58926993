"""Drawing one token per row, each with a key of its own.

A row's key is derived from what the row *is* (seed, chain, prompt, sample index), then from the index of the
token being generated, never from its place in a batch: the draw is the same however rows are batched.
"""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np


def row_key_data(seed: int, chain: str, prompt: str, sample: int) -> np.ndarray:
    """Key material of a row, uint32 `[2]`: a stable hash, the same on every machine and process."""
    text = "\x1f".join((str(seed), chain, prompt, str(sample)))
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint32)


def draw(logits: jax.Array, keys: jax.Array, index: jax.Array, temperature: jax.Array) -> jax.Array:
    """Token ids int32 `[B]` from float32 `logits[B, V]`.

    `keys` uint32 `[B, 2]` from `row_key_data`; `index` int32 `[]` counts generated tokens; `temperature` float32
    `[B]`, where 0 is greedy.
    """

    def one(row: jax.Array, key: jax.Array, heat: jax.Array) -> jax.Array:
        token_key = jax.random.fold_in(jax.random.wrap_key_data(key), index)
        drawn = jax.random.categorical(token_key, row / jnp.where(heat > 0, heat, 1.0))
        return jnp.where(heat > 0, drawn, jnp.argmax(row))

    return jax.vmap(one)(logits, keys, temperature).astype(jnp.int32)
