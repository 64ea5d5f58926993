"""Grouped-query attention behind one signature.

Visibility is described by positions and segments, never by a ready-made mask: packed rows, ragged padding and
the key-value cache are then one case, and a kernel that wants segment ids (splash) can take the place of the
reference without its callers knowing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from sgtr_jax.models.dropout import Dropout

# "xla" is the reference and runs everywhere; "splash" is the TPU kernel, also runnable in Pallas's interpret mode.
# "cpu" is the reference but for single queries, whose few rows XLA multiplies four times slower than it sums products.
AttentionKind = Literal["xla", "cpu", "splash", "splash_interpret"]

_DROPOUT_SITE = 99  # in the dropout key path; see layers._DROPOUT_SITES
_QUERY_BLOCK = 256


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

    def block(self, queries: slice, keys: slice) -> Visibility:
        """Visibility of some queries among some keys."""
        return Visibility(
            self.query_positions[:, queries],
            self.query_segments[:, queries],
            self.key_positions[:, keys],
            self.key_segments[:, keys],
        )


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    visibility: Visibility,
    *,
    in_order: bool = False,
    kind: AttentionKind = "xla",
    dropout: Dropout | None = None,
) -> jax.Array:
    """Softmax attention of `q[B, T, N, H]` over `k, v[B, K, S, H]`; N is a multiple of K. Returns `[B, T, N, H]`.

    Scores and softmax are float32. Query head n reads key-value head n // (N / K), as in
    `transformers/models/qwen2/modeling_qwen2.py::repeat_kv`. `in_order` promises that queries and keys are the
    same tokens and that none sees a later place of its row (packed rows, not a cache): the upper triangle is then
    never computed. Splash needs that promise; rows not a multiple of 128 long and attention dropout are left to
    the reference.
    """
    T = q.shape[1]
    if kind.startswith("splash") and in_order and T % 128 == 0 and (dropout is None or dropout.attention == 0.0):
        from sgtr_jax.models.splash import splash_attend

        return splash_attend(q, k, v, visibility, interpret=kind == "splash_interpret")
    if T <= _QUERY_BLOCK:
        return _reference(q, k, v, visibility, dropout, slice(0, T), by_sums=kind == "cpu" and T == 1)
    blocks = []
    for start in range(0, T, _QUERY_BLOCK):
        end = min(start + _QUERY_BLOCK, T)
        queries, keys = slice(start, end), slice(0, end if in_order else k.shape[2])
        part = visibility.block(queries, keys)
        blocks.append(_reference(q[:, queries], k[:, :, keys], v[:, :, keys], part, dropout, queries))
    return jnp.concatenate(blocks, axis=1)


def _reference(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    visibility: Visibility,
    dropout: Dropout | None,
    queries: slice,
    by_sums: bool = False,
) -> jax.Array:
    B, T, N, H = q.shape
    K = k.shape[1]
    G = N // K
    # Batched matrix products with leading batch axes [B, K]: half the time of one large einsum on CPU.
    grouped = q.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H)
    if by_sums:
        wide = grouped.astype(jnp.float32)[:, :, :, None, :] * k.astype(jnp.float32)[:, :, None]
        scores = jnp.sum(wide, axis=-1) * H**-0.5
    else:
        scores = jnp.einsum("bkqh,bksh->bkqs", grouped, k, preferred_element_type=jnp.float32) * H**-0.5
    scores = scores.reshape(B, K, G, T, -1)
    scores = jnp.where(visibility.mask()[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1)
    if dropout is not None:
        weights = dropout.of_tokens(queries).on_attention(weights, visibility.key_positions, _DROPOUT_SITE)
    weights = weights.astype(q.dtype)
    if dropout is not None and dropout.attention:
        # Drawing the mask inside the product below is a fusion that libtpu does not finish compiling for a v6e.
        weights = jax.lax.optimization_barrier(weights)
    mixed = jnp.einsum("bkqs,bksh->bkqh", weights.reshape(B, K, G * T, -1), v)
    return mixed.reshape(B, K, G, T, H).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)
