"""Grouped-query attention behind one signature.

Visibility is described by positions and segments, never by a ready-made mask: packed rows, ragged padding and
the key-value cache are then one case, and a kernel that wants segment ids (splash) can take the place of the
reference without its callers knowing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from sgtr_jax.models.dropout import Dropout

# "xla" is the reference and runs everywhere; "splash" is the TPU kernel, also runnable in Pallas's interpret mode;
# "flash" are the GPU kernels, and "flash_chunked" the same call without them.
# "cpu" is the reference but for single queries, whose few rows XLA multiplies four times slower than it sums products.
AttentionKind = Literal["xla", "cpu", "splash", "splash_interpret", "flash", "flash_chunked"]

_DROPOUT_SITE = 99  # in the dropout key path; see layers._DROPOUT_SITES
_QUERY_BLOCK = 256


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Visibility:
    """Which keys each query sees: those of its own segment at its own or an earlier position.

    Segment 0 is padding; padded queries see padded keys, so that no softmax is over nothing.
    """

    query_positions: Int32[Array, "B T"]
    query_segments: Int32[Array, "B T"]
    key_positions: Int32[Array, "B S"]
    key_segments: Int32[Array, "B S"]

    def mask(self, window: int | Int32[Array, ""] | None = None) -> Bool[Array, "B T S"]:
        """True where query t sees key s: with a window only the last `window` positions."""
        same = self.query_segments[:, :, None] == self.key_segments[:, None, :]
        seen = same & (self.key_positions[:, None, :] <= self.query_positions[:, :, None])
        if window is None:
            return seen
        return seen & (self.query_positions[:, :, None] - self.key_positions[:, None, :] < window)

    def block(self, queries: slice, keys: slice) -> Visibility:
        """Visibility of some queries among some keys."""
        return Visibility(
            self.query_positions[:, queries],
            self.query_segments[:, queries],
            self.key_positions[:, keys],
            self.key_segments[:, keys],
        )


@dataclass(frozen=True)
class Scoring:
    """How a layer's queries weigh the keys that they may see: the factor of the scores, and a window.

    The windows that a model has are known when a program is compiled, so that a kernel can leave out what no query
    sees; which of them this layer has is not, as one compiled layer serves all.
    """

    scale: float | None = None  # None: 1 / sqrt(H)
    windows: tuple[int | None, ...] = (None,)  # tokens that a query sees, itself included; None: all before it
    which: Int32[Array, ""] | int = 0  # index of this layer's window

    @property
    def window(self) -> int | jax.Array | None:
        """Of this layer. Where only some layers have one, the others' is larger than any row."""
        if len(self.windows) == 1:
            return self.windows[0]
        return jnp.asarray([_NO_WINDOW if size is None else size for size in self.windows], jnp.int32)[self.which]


_NO_WINDOW = 2**30


def attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K S H"],
    v: Float[Array, "B K S H"],
    visibility: Visibility,
    scoring: Scoring = Scoring(),
    *,
    in_order: bool = False,
    kind: AttentionKind = "xla",
    dropout: Dropout | None = None,
) -> Float[Array, "B T N H"]:
    """Softmax attention of `q` over `k` and `v`; N is a multiple of K.

    Scores and softmax are float32. Query head n reads
    key-value head n // (N / K), as in `transformers/models/qwen2/modeling_qwen2.py::repeat_kv`. `in_order` promises
    that queries and keys are the same tokens and that none sees a later place of its row (packed rows, not a cache):
    the upper triangle is then never computed. Splash and flash need that promise; rows whose length is not a multiple
    of 128 (flash: of 64, and more than 256, below which the reference's scores are one small block), float32 where
    flash is asked for, and attention dropout are left to the reference.
    """
    T = q.shape[1]
    scale = q.shape[-1] ** -0.5 if scoring.scale is None else scoring.scale
    kernel = _kernel(kind, T, q.dtype) if in_order and (dropout is None or dropout.attention == 0.0) else None
    if kernel is not None:
        kernels = [partial(kernel, scale=scale, window=size) for size in scoring.windows]
        if len(kernels) == 1:
            return kernels[0](q, k, v, visibility)
        chosen: jax.Array = jax.lax.switch(scoring.which, kernels, q, k, v, visibility)
        return chosen
    run = partial(_reference, scale=scale, window=scoring.window)
    if T <= _QUERY_BLOCK:
        return run(q, k, v, visibility, dropout, slice(0, T), by_sums=kind == "cpu" and T == 1)
    blocks = []
    for start in range(0, T, _QUERY_BLOCK):
        end = min(start + _QUERY_BLOCK, T)
        queries, keys = slice(start, end), slice(0, end if in_order else k.shape[2])
        part = visibility.block(queries, keys)
        blocks.append(run(q[:, queries], k[:, :, keys], v[:, :, keys], part, dropout, queries, by_sums=False))
    return jnp.concatenate(blocks, axis=1)


def _kernel(kind: AttentionKind, length: int, dtype: jnp.dtype) -> Callable[..., jax.Array] | None:
    """The kernel for rows of so many tokens; None where the reference is to run."""
    if kind.startswith("splash") and length % 128 == 0:
        from sgtr_jax.models.splash import splash_attend

        return partial(splash_attend, interpret=kind == "splash_interpret")
    if kind.startswith("flash") and length > _QUERY_BLOCK:
        from sgtr_jax.models.flash import FLASH_LENGTH, flash_attend

        chunked = kind == "flash_chunked"
        if length % FLASH_LENGTH == 0 and (chunked or dtype == jnp.bfloat16):
            return partial(flash_attend, chunked=chunked)
    return None


def _reference(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K S H"],
    v: Float[Array, "B K S H"],
    visibility: Visibility,
    dropout: Dropout | None,
    queries: slice,
    *,
    by_sums: bool,
    scale: float,
    window: int | Int32[Array, ""] | None,
) -> Float[Array, "B T N H"]:
    B, T, N, H = q.shape
    K = k.shape[1]
    G = N // K
    # float32 stays float32; a TPU would use bfloat16 passes by default, and a GPU TF32.
    precision = jax.lax.Precision.HIGHEST if q.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    # Batched matrix products with leading batch axes [B, K]: half the time of one large einsum on CPU.
    grouped = q.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4).reshape(B, K, G * T, H)
    if by_sums:
        wide = grouped.astype(jnp.float32)[:, :, :, None, :] * k.astype(jnp.float32)[:, :, None]
        scores = jnp.sum(wide, axis=-1) * scale
    else:
        scores = jnp.einsum("bkqh,bksh->bkqs", grouped, k, precision=precision, preferred_element_type=jnp.float32)
        scores = scores * scale
    scores = scores.reshape(B, K, G, T, -1)
    scores = jnp.where(visibility.mask(window)[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1)
    if dropout is not None:
        weights = dropout.of_tokens(queries).on_attention(weights, visibility.key_positions, _DROPOUT_SITE)
    weights = weights.astype(q.dtype)
    if dropout is not None and dropout.attention:
        # Drawing the mask inside the product below is a fusion that libtpu does not finish compiling for a v6e.
        weights = jax.lax.optimization_barrier(weights)
    mixed = jnp.einsum("bkqs,bksh->bkqh", weights.reshape(B, K, G * T, -1), v, precision=precision)
    return mixed.reshape(B, K, G, T, H).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)
