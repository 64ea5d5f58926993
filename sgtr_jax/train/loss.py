"""Cross-entropy at the target places only.

An SGTR example has a thousand tokens and a loss on two of them, so hidden states are gathered before the
vocabulary head and `[R, T, V]` logits never exist.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sgtr_jax.models.decoder import Decoder

# Logits held at once, in elements (256 MiB as float32).
_MAX_LOGITS = 2**26


def target_loss(decoder: Decoder, hidden: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """Sum of the cross-entropy over all targets, float32 `[]`.

    `hidden[R, T, D]`; `batch` holds `target_places`, `target_tokens`, `target_weights`, each `[R, K]`. Chunks of
    K go through the head one after another, recomputed in the backward pass.
    """
    places, tokens, weights = (batch[f"target_{name}"] for name in ("places", "tokens", "weights"))
    chosen = jnp.take_along_axis(hidden, places[:, :, None], axis=1)  # [R, K, D]
    R, K, D = chosen.shape
    size = max(1, _MAX_LOGITS // (R * decoder.spec.vocab_size))
    if size >= K:
        return _cross_entropy(decoder, chosen, tokens, weights)
    chunks = -(-K // size)
    pad = chunks * size - K

    def split(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(R, chunks, size, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def add(total: jax.Array, chunk: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + _cross_entropy(decoder, *chunk), None

    total, _ = jax.lax.scan(add, jnp.float32(0), (split(chosen), split(tokens), split(weights)))
    return total


def _cross_entropy(decoder: Decoder, hidden: jax.Array, tokens: jax.Array, weights: jax.Array) -> jax.Array:
    logits = decoder.logits(hidden)
    picked = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
    return jnp.sum((jax.nn.logsumexp(logits, axis=-1) - picked) * weights)
