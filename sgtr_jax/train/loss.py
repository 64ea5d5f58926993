"""Cross-entropy at the target places only.

An SGTR example has a thousand tokens and a loss on two of them, so hidden states are gathered before the
vocabulary head and `[R, T, V]` logits never exist.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sgtr_jax.mesh import data_devices
from sgtr_jax.models.decoder import Decoder

# Logits held at once on each device that rows are split over, in elements (64 MiB as float32).
_MAX_LOGITS = 2**24

Score = Callable[[jax.Array], jax.Array]  # hidden [..., D] -> logits float32 [..., V]


def target_loss(decoder: Decoder, hidden: jax.Array, batch: dict[str, jax.Array], head_is_frozen: bool) -> jax.Array:
    """Sum of the cross-entropy over all targets, float32 `[]`.

    `hidden[R, T, D]`; `batch` holds `target_places`, `target_tokens`, `target_weights`, each `[R, K]`. Chunks of
    K go through the head one after another. With a frozen head their gradient is formed in the forward pass, so
    that the head's matrix is multiplied twice, not three times; otherwise they are recomputed in the backward pass.
    """
    places, tokens, weights = (batch[f"target_{name}"] for name in ("places", "tokens", "weights"))
    chosen = jnp.take_along_axis(hidden, places[:, :, None], axis=1)  # [R, K, D]
    R, K, _ = chosen.shape
    size = min(K, max(1, _MAX_LOGITS * data_devices() // (R * decoder.spec.vocab_size)))
    chunks = -(-K // size)

    def split(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, 0), (0, chunks * size - K)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(R, chunks, size, *x.shape[2:]), 1, 0)

    chunk_sum = _with_gradient_ahead(decoder.logits) if head_is_frozen else jax.checkpoint(_sum_of(decoder.logits))

    def add(total: jax.Array, chunk: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + chunk_sum(*chunk), None

    if chunks == 1:
        return chunk_sum(chosen, tokens, weights)
    total, _ = jax.lax.scan(add, jnp.float32(0), (split(chosen), split(tokens), split(weights)))
    return total


def _sum_of(score: Score) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    def loss(hidden: jax.Array, tokens: jax.Array, weights: jax.Array) -> jax.Array:
        logits = score(hidden)
        picked = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
        return jnp.sum((jax.nn.logsumexp(logits, axis=-1) - picked) * weights)

    return loss


def _with_gradient_ahead(score: Score) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """The same sum; its gradient with respect to `hidden` is what the forward pass leaves behind."""
    loss = _sum_of(score)

    @jax.custom_vjp
    def ahead(hidden: jax.Array, tokens: jax.Array, weights: jax.Array) -> jax.Array:
        return loss(hidden, tokens, weights)

    def forward(hidden: jax.Array, tokens: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(loss)(hidden, tokens, weights)

    def backward(gradient: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, None, None]:
        return gradient * cotangent.astype(gradient.dtype), None, None

    ahead.defvjp(forward, backward)
    return ahead
