"""Cross-entropy at the loss positions only.

An SGTR example has a thousand tokens and a loss on two of them, so hidden states are gathered before the
vocabulary head and `[B, T, V]` logits never exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from sgtr_jax.distributed.mesh import data_devices
from sgtr_jax.models.decoder import Decoder

# Logits held at once on each device that rows are split over, in elements (64 MiB as float32).
_MAX_LOGITS = 2**24

Score = Callable[[Float[Array, "*rows D"]], Float32[Array, "*rows V"]]
# What a loss sums over some targets, from their hidden states [B, p, D] and what else it reads of them.
Term = Callable[[jax.Array, tuple[jax.Array, ...]], jax.Array]


def target_loss(
    decoder: Decoder, hidden: Float[Array, "B T D"], batch: Mapping[str, jax.Array], head_is_frozen: bool
) -> Float32[Array, ""]:
    """Sum of the cross-entropy over all targets.

    `batch` holds `target_positions`, `target_tokens`, `target_weights`, each `[B, P]`.
    """
    read = (batch["target_tokens"], batch["target_weights"])
    term = _cross_entropy(decoder.logits)
    return sum_over_targets(decoder, batch["target_positions"], term, hidden, read, head_is_frozen)


def at_targets(hidden: Float[Array, "B T D"], positions: Int32[Array, "B P"]) -> Float[Array, "B P D"]:
    """The hidden states at loss positions."""
    return jnp.take_along_axis(hidden, positions[:, :, None], axis=1)


def sum_over_targets(
    decoder: Decoder,
    positions: Int32[Array, "B P"],
    term: Term,
    hidden: Float[Array, "B T D"],
    read: tuple[jax.Array, ...],
    head_is_frozen: bool,
) -> Float32[Array, ""]:
    """Sum of `term` over all targets. `read`, each `[B, P, ...]`, is what it reads besides, and has no gradient.

    Chunks of P go through the head one after another. With a frozen head their gradient is formed in the forward pass,
    so that the head's matrix is multiplied twice, not three times; otherwise they are recomputed in the backward pass.
    """
    chosen = at_targets(hidden, positions)
    B, P, _ = chosen.shape
    size = min(P, max(1, _MAX_LOGITS * data_devices() // (B * decoder.spec.vocab_size)))
    chunks = -(-P // size)

    def split(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, 0), (0, chunks * size - P)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(B, chunks, size, *x.shape[2:]), 1, 0)

    chunk_sum = _with_gradient_ahead(term) if head_is_frozen else jax.checkpoint(term)

    def add(total: jax.Array, chunk: tuple[jax.Array, tuple[jax.Array, ...]]) -> tuple[jax.Array, None]:
        return total + chunk_sum(*chunk), None

    if chunks == 1:
        return chunk_sum(chosen, read)
    total: jax.Array
    total, _ = jax.lax.scan(add, jnp.float32(0), (split(chosen), tuple(map(split, read))))
    return total


def _cross_entropy(score: Score) -> Term:
    def loss(hidden: jax.Array, read: tuple[jax.Array, ...]) -> jax.Array:
        tokens, weights = read
        logits = score(hidden)
        picked = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
        return jnp.sum((jax.nn.logsumexp(logits, axis=-1) - picked) * weights)

    return loss


def _with_gradient_ahead(term: Term) -> Term:
    """The same sum; its gradient with respect to `hidden` is what the forward pass leaves behind."""

    @jax.custom_vjp
    def ahead(hidden: jax.Array, read: tuple[jax.Array, ...]) -> jax.Array:
        return term(hidden, read)

    def forward(hidden: jax.Array, read: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(term)(hidden, read)

    def backward(gradient: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, None]:
        return gradient * cotangent.astype(gradient.dtype), None

    ahead.defvjp(forward, backward)
    return ahead
