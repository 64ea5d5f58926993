"""Grouped-query attention behind one signature.

Visibility is described by positions and segments, never by a ready-made mask: packed rows, ragged padding and
the key-value cache are then one case, and a kernel that wants segment ids (splash) can take the place of the
reference without its callers knowing.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Visibility:
    """Which keys each query sees: those of its own segment at its own or an earlier position.

    Segment 0 is padding; padded queries see padded keys, so that no softmax is over nothing.
    """

    query_positions: jax.Array  # int32 [B, T]
    query_segments: jax.Array  # int32 [B, T]
    key_positions: jax.Array  # int32 [B, S]
    key_segments: jax.Array  # int32 [B, S]

    def mask(self) -> jax.Array:
        """Bool `[B, T, S]`, True where query t sees key s."""
        same = self.query_segments[:, :, None] == self.key_segments[:, None, :]
        return same & (self.key_positions[:, None, :] <= self.query_positions[:, :, None])


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    visibility: Visibility,
    *,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention of `q[B, T, N, H]` over `k, v[B, K, S, H]`; N is a multiple of K. Returns `[B, T, N, H]`.

    Scores and softmax are float32. Query head n reads key-value head n // (N / K), as in
    `transformers/models/qwen2/modeling_qwen2.py::repeat_kv`.
    """
    B, T, N, H = q.shape
    K = k.shape[1]
    G = N // K
    # Batched matrix products with leading batch axes [B, K]: half the time of one large einsum on CPU.
    grouped = q.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H)
    scores = jnp.einsum("bkqh,bksh->bkqs", grouped, k, preferred_element_type=jnp.float32) * H**-0.5
    scores = scores.reshape(B, K, G, T, -1)
    scores = jnp.where(visibility.mask()[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1)
    weights = dropout(weights, dropout_rate, dropout_key).astype(q.dtype)
    mixed = jnp.einsum("bkqs,bksh->bkqh", weights.reshape(B, K, G * T, -1), v)
    return mixed.reshape(B, K, G, T, H).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Inverted dropout; the identity when `rate` is 0 or `key` is None."""
    if rate == 0.0 or key is None:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype))
