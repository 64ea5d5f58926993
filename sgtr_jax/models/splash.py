"""The TPU attention kernel (splash: block-sparse flash attention) under the signature of `attention.attend`.

`interpret` runs the kernel without a TPU, slowly, which is how the tests compare it with the reference.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array, Float, Int32

from sgtr_jax.models.kernel_shards import on_own_shards

if TYPE_CHECKING:
    from sgtr_jax.models.attention import Visibility

_BLOCK = 512


def splash_attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K T H"],
    v: Float[Array, "B K T H"],
    visibility: Visibility,
    *,
    scale: float,
    window: int | None,
    interpret: bool,
) -> Float[Array, "B T N H"]:
    """As `attend`, for tokens that are both queries and keys. T must be a multiple of 128.

    A segment's positions rise by one along the row, so a window of positions is one of columns.
    """
    run = partial(_on_one_device, scale=scale, window=window, interpret=interpret)
    return on_own_shards(run, q, k, v, visibility.query_segments)


def _on_one_device(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K T H"],
    v: Float[Array, "B K T H"],
    segments: Int32[Array, "B T"],
    *,
    scale: float,
    window: int | None,
    interpret: bool,
) -> Float[Array, "B T N H"]:
    B, T, N, H = q.shape
    K = k.shape[1]
    G = N // K
    block = next(size for size in (_BLOCK, 256, 128) if T % size == 0)
    sizes = splash.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=block,
        block_q_dkv=block, block_kv_dkv=block, block_kv_dkv_compute=block,
        block_q_dq=block, block_kv_dq=block,
    )  # fmt: skip
    one = splash.CausalMask((T, T)) if window is None else splash.LocalMask((T, T), (window - 1, 0), 0)
    mask = splash.MultiHeadMask([one for _ in range(G)])
    kernel = splash.make_splash_mqa_single_device(mask, block_sizes=sizes, interpret=interpret)
    grouped = q.reshape(B, T, K, G, H).transpose(0, 2, 3, 1, 4) * scale

    def one_row(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
        ids = splash.SegmentIds(q=segments, kv=segments)
        of_heads: jax.Array = jax.vmap(lambda q, k, v: kernel(q, k, v, segment_ids=ids))(q, k, v)
        return of_heads

    mixed = jax.vmap(one_row)(grouped, k, v, segments)  # [B, K, G, T, H]
    return mixed.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H).astype(q.dtype)
