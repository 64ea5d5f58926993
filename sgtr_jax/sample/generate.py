"""Prefill and decode as one jitted program: the cache never crosses its boundary."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from sgtr_jax.models.decoder import Params, bind
from sgtr_jax.models.kv_cache import KVCache
from sgtr_jax.models.layers import Chain
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.draw import draw


@partial(jax.jit, static_argnames=("spec", "max_tokens"))
def generate(
    params: Params,
    chain: Chain,
    tokens: jax.Array,
    lengths: jax.Array,
    keys: jax.Array,
    temperature: jax.Array,
    budgets: jax.Array,
    stop_ids: jax.Array,
    *,
    spec: ModelSpec,
    max_tokens: int,
) -> tuple[jax.Array, jax.Array]:
    """Generate up to `max_tokens` tokens per row.

    Args:
        params: the base's parameters.
        chain: adapters; see `Decoder`.
        tokens: int32 `[B, T]` prompts, padded on the right.
        lengths: int32 `[B]` prompt lengths, at least 1.
        keys: uint32 `[B, 2]`, see `draw.row_key_data`.
        temperature: float32 `[B]`; 0 is greedy.
        budgets: int32 `[B]`, tokens at most for each row (0 for a row that only fills the batch).
        stop_ids: int32 `[S]`; -1 entries stop nothing.
        spec: the model's numbers; static.
        max_tokens: columns of the result; static.

    Returns:
        Generated ids int32 `[B, max_tokens]` and how many of them count, int32 `[B]`; a stop token is included
        in the count.
    """
    decoder = bind(spec, params)
    B, T = tokens.shape
    places = jnp.arange(T)[None, :]
    real = places < lengths[:, None]
    positions = jnp.where(real, places, 0)
    dtype = params["embedding"].dtype
    cache = KVCache.empty(spec, B, T + max_tokens, dtype)
    hidden, filled = decoder(tokens, positions, real.astype(jnp.int32), chain=chain, cache=cache)
    assert filled is not None
    last = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]

    def choose(hidden: jax.Array, index: jax.Array) -> jax.Array:
        return draw(decoder.logits(hidden), keys, index, temperature)

    Carry = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, KVCache]

    def unfinished(carry: Carry) -> jax.Array:
        index, _, done, *_ = carry
        return (index < max_tokens) & ~jnp.all(done)

    def decode(carry: Carry) -> Carry:
        index, out, done, count, last, cache = carry
        token = choose(last, index)
        out = jax.lax.dynamic_update_slice(out, token[:, None], (0, index))
        count = count + ~done
        done = done | jnp.any(token[:, None] == stop_ids[None, :], axis=1) | (count >= budgets)
        position = (lengths + index)[:, None]
        hidden, longer = decoder(token[:, None], position, jnp.ones_like(position), chain=chain, cache=cache)
        assert longer is not None
        return index + 1, out, done, count, hidden[:, 0], longer

    start = (
        jnp.int32(0),
        jnp.zeros((B, max_tokens), jnp.int32),
        budgets <= 0,
        jnp.zeros(B, jnp.int32),
        last,
        filled,
    )
    _, out, _, count, _, _ = jax.lax.while_loop(unfinished, decode, start)
    return out, count
