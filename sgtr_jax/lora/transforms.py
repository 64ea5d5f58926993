"""Chains of LoRA adapters: as one adapter, aligned with each other, merged into the base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from sgtr_jax.arrays import Params
from sgtr_jax.lora.adapter import Adapter, Chain
from sgtr_jax.lora.config import PROJECTIONS

Pair = tuple[dict[str, jax.Array], jax.Array]  # an adapter's two factors of a projection, and its scale
_ONE: Any = np.float32(1.0)  # a host value, which may go to the devices of many processes


def concatenate(chain: Sequence[Adapter]) -> Chain:
    """One adapter that acts as the whole chain: ranks side by side, scales folded into B.

    `s1 (x a1') b1 + s2 (x a2') b2 = (x [a1; a2]') [s1 b1; s2 b2]`. Sampling reads the weights once, not per link.
    """
    if len(chain) <= 1:
        return tuple(chain)
    params: dict[str, dict[str, jax.Array]] = {}
    for name in PROJECTIONS:
        parts = [(link.params[name], link.scale) for link in chain if name in link.params]
        if parts:
            params[name] = {
                "a": jnp.concatenate([part["a"] for part, _ in parts], axis=1),
                "b": jnp.concatenate([part["b"] * scale for part, scale in parts], axis=1),
            }
    return (Adapter(params, _ONE),)


def align(chains: Sequence[Chain]) -> list[Chain]:
    """Each chain as one adapter, all of equal shapes, so that runs over different chains can share a program.

    Ranks are filled up, and projections added, with zeros. Empty chains stay empty if all are.
    """
    joined = [concatenate(chain) for chain in chains]
    if not any(joined):
        return [()] * len(joined)
    ranks: dict[str, tuple[int, dict[str, jax.Array]]] = {}
    for chain in joined:
        for name, pair in (item for link in chain for item in link.params.items()):
            rank = max(pair["a"].shape[1], ranks[name][0] if name in ranks else 0)
            ranks[name] = (rank, pair)
    aligned: list[Chain] = []
    for chain in joined:
        own: dict[str, dict[str, jax.Array]] = chain[0].params if chain else {}
        params = {}
        for name, (rank, like) in ranks.items():
            pair = own.get(name) or {
                "a": jnp.zeros((like["a"].shape[0], 0, like["a"].shape[2]), jnp.float32),
                "b": jnp.zeros((like["b"].shape[0], 0, like["b"].shape[2]), jnp.float32),
            }
            missing = rank - pair["a"].shape[1]
            params[name] = {
                "a": jnp.pad(pair["a"], ((0, 0), (0, missing), (0, 0))),
                "b": jnp.pad(pair["b"], ((0, 0), (0, missing), (0, 0))),
            }
        aligned.append((Adapter(params, chain[0].scale if chain else _ONE),))
    return aligned


def merge(
    params: Params, chain: Sequence[Adapter], rounding: DTypeLike | None = None
) -> tuple[Params, dict[str, float]]:
    """Base parameters with the chain added in, computed in float32 and rounded once to `rounding`.

    None rounds to the base's own dtype, in which the result is held in any case.

    Also returns, per projection, the share of the update's norm that the rounding lost:
    `|round(W + U) - W - U| / |U|` over all layers. Layers are merged one at a time.
    """
    apart = not isinstance(params["layers"], dict)
    layers: list[Params] = [dict(layer) for layer in (params["layers"] if apart else [params["layers"]])]
    lost: dict[str, float] = {}
    for name in PROJECTIONS:
        pairs = [(link.params[name], link.scale) for link in chain if name in link.params]
        if not pairs:
            continue
        error = norm = 0.0
        for i, layer in enumerate(layers):
            own = jax.tree.map(lambda leaf, i=i: leaf[i], [pair for pair, _ in pairs]) if apart else None
            links = pairs if own is None else [(one, scale) for one, (_, scale) in zip(own, pairs, strict=True)]
            merge_kernel = _merge_layer if apart else _merge_kernel
            kernel, errors, updates = merge_kernel(
                layer[name]["kernel"], links, jnp.dtype(rounding or layer[name]["kernel"].dtype)
            )
            layer[name] = {**layer[name], "kernel": kernel}
            error, norm = error + float(jnp.sum(errors)), norm + float(jnp.sum(updates))
        lost[name] = math.sqrt(error / norm) if norm else 0.0
    return {**params, "layers": tuple(layers) if apart else layers[0]}, lost


def merge_in_turn(params: Params, chain: Sequence[Adapter]) -> tuple[Params, list[dict[str, float]]]:
    """Merge one adapter after the other, each time rounding to bfloat16, as a pipeline that saves each stage does."""
    lost = []
    for link in chain:
        params, share = merge(params, (link,), jnp.bfloat16)
        lost.append(share)
    return params, lost


@partial(jax.jit, static_argnums=2)
def _merge_layer(
    before: Float[Array, "into out"], links: Sequence[Pair], rounding: jnp.dtype
) -> tuple[Float[Array, "into out"], Float32[Array, ""], Float32[Array, ""]]:
    """One layer's merged kernel, squared norms of rounding error and update."""
    update = jnp.zeros(before.shape, jnp.float32)
    for pair, scale in links:
        update += scale * jnp.matmul(pair["a"].T, pair["b"], precision=jax.lax.Precision.HIGHEST)
    wanted = before.astype(jnp.float32) + update
    after = wanted.astype(rounding).astype(before.dtype)
    error = (after.astype(jnp.float32) - before.astype(jnp.float32)) - update
    return after, jnp.sum(error**2), jnp.sum(update**2)


@partial(jax.jit, static_argnums=2)
def _merge_kernel(
    kernel: Float[Array, "L into out"], pairs: Sequence[Pair], rounding: jnp.dtype
) -> tuple[Float[Array, "L into out"], Float32[Array, " L"], Float32[Array, " L"]]:
    """As `_merge_layer` for stacked kernels, one after the other."""
    stacked = [(pair, jnp.broadcast_to(scale, kernel.shape[:1])) for pair, scale in pairs]
    merged: tuple[jax.Array, jax.Array, jax.Array] = jax.lax.map(
        lambda layer: _merge_layer(layer[0], layer[1], rounding), (kernel, stacked)
    )
    return merged
