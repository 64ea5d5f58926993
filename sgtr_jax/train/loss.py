"""Cross-entropy at the loss positions only.

An SGTR example has a thousand tokens and a loss on two of them, so hidden states are gathered before the
vocabulary head and `[B, T, V]` logits never exist.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from sgtr_jax.distributed.mesh import data_devices
from sgtr_jax.models.decoder import Decoder

# Logits held at once on each device that rows are split over, in elements (64 MiB as float32).
_MAX_LOGITS = 2**24

Score = Callable[[Float[Array, "*rows D"]], Float32[Array, "*rows V"]]


def target_loss(
    decoder: Decoder, hidden: Float[Array, "B T D"], batch: dict[str, jax.Array], head_is_frozen: bool
) -> Float32[Array, ""]:
    """Sum of the cross-entropy over all targets.

    `batch` holds `target_positions`, `target_tokens`, `target_weights`, each `[B, P]`. Chunks of
    P go through the head one after another. With a frozen head their gradient is formed in the forward pass, so
    that the head's matrix is multiplied twice, not three times; otherwise they are recomputed in the backward pass.
    """
    loss_positions, tokens, weights = (batch[f"target_{name}"] for name in ("positions", "tokens", "weights"))
    chosen = jnp.take_along_axis(hidden, loss_positions[:, :, None], axis=1)  # [B, P, D]
    B, P, _ = chosen.shape
    size = min(P, max(1, _MAX_LOGITS * data_devices() // (B * decoder.spec.vocab_size)))
    chunks = -(-P // size)

    def split(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, 0), (0, chunks * size - P)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(B, chunks, size, *x.shape[2:]), 1, 0)

    chunk_sum = _with_gradient_ahead(decoder.logits) if head_is_frozen else jax.checkpoint(_sum_of(decoder.logits))

    def add(total: jax.Array, chunk: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + chunk_sum(*chunk), None

    if chunks == 1:
        return chunk_sum(chosen, tokens, weights)
    total: jax.Array
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
