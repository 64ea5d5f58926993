"""Drawing one token per row, each with a key of its own.

A row's key is derived from what the row *is* (seed, chain, prompt, sample index), then from the index of the
token being generated, never from its slot in a batch: the draw is the same however rows are batched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, UInt32


def row_key_data(seed: int, chain: str, prompt: str, sample: int) -> UInt32[np.ndarray, " 2"]:
    """Key material of a row: a stable hash, the same on every machine and process."""
    text = "\x1f".join((str(seed), chain, prompt, str(sample)))
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint32)


def draw(
    logits: Float32[Array, "B V"],
    keys: UInt32[Array, "B 2"],
    index: Int32[Array, " B"],
    temperature: Float32[Array, " B"],
    cut: tuple[Int32[Array, " B"], Float32[Array, " B"]] | None = None,
) -> Int32[Array, " B"]:
    """Token ids.

    `keys` are from `row_key_data`; `index` counts a row's generated tokens; a `temperature` of 0 is greedy; `cut` is
    (top-k, top-p), of which 0 and 1 cut nothing.
    """
    scaled_logits = logits / jnp.where(temperature > 0, temperature, 1.0)[:, None]
    if cut is not None:
        scaled_logits = _cut(scaled_logits, *cut)

    def one(row: jax.Array, key: jax.Array, count: jax.Array) -> jax.Array:
        return jax.random.categorical(jax.random.fold_in(jax.random.wrap_key_data(key), count), row)

    drawn = jax.vmap(one)(scaled_logits, keys, index)
    return jnp.where(temperature > 0, drawn, jnp.argmax(logits, axis=-1)).astype(jnp.int32)


def _cut(
    logits: Float32[Array, "B V"], top_k: Int32[Array, " B"], top_p: Float32[Array, " B"]
) -> Float32[Array, "B V"]:
    """Logits with -inf outside the k likeliest tokens and, among those, outside the nucleus.

    The nucleus (arXiv 1904.09751) is the smallest set of likeliest tokens that holds `top_p` of the probability.
    Tokens exactly as likely as the last one that is in are in too.
    """
    code = _ordered(logits)
    least = _largest_threshold(code, lambda inside: jnp.sum(inside, axis=-1) >= top_k)
    kept = (code >= least[:, None]) | (top_k <= 0)[:, None]
    probability = jax.nn.softmax(jnp.where(kept, logits, -jnp.inf), axis=-1)
    least = _largest_threshold(code, lambda inside: jnp.sum(jnp.where(inside, probability, 0.0), axis=-1) >= top_p)
    kept &= (code >= least[:, None]) | (top_p >= 1)[:, None]
    return jnp.where(kept, logits, -jnp.inf)


def _ordered(x: Float32[Array, "*any"]) -> UInt32[Array, "*any"]:
    """Float32 as uint32 in the same order: the sign bit flipped, negative numbers' other bits too."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))


def _largest_threshold(
    code: UInt32[Array, "B V"], enough: Callable[[Bool[Array, "B V"]], Bool[Array, " B"]]
) -> UInt32[Array, " B"]:
    """Per row of `code` the largest t for which `enough(code >= t)` holds; 0 always does.

    Found bit by bit: 32 passes over the row, where sorting a vocabulary would take some hundred.
    """

    def with_bit(i: jax.Array, found: jax.Array) -> jax.Array:
        tried = found | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        return jnp.where(enough(code >= tried[:, None]), tried, found)

    start = jnp.zeros(code.shape[:1], jnp.uint32)
    found: jax.Array = jax.lax.fori_loop(0, 32, with_bit, start)
    return found
