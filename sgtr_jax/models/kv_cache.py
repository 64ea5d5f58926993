"""The key-value cache of decoding.

Where the weights are stacked, all layers lie in one array that travels in the *carry* of the layer scan: compiled for
TPU, writing one token then updates it in place. (As scan inputs and outputs XLA rewrites the whole cache for every
token.) Where the weights lie apart, each layer's cache is an array of its own, too, and that of a layer with a window
holds no more than the window: with Gemma 3's 1,024 tokens and rows of 8,192, a quarter of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from sgtr_jax.models.layer_loop import LayerNumber
from sgtr_jax.models.spec import ModelSpec


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KVCache:
    """Keys and values of S slots, used as a ring: all rows write the same slot, `used % S`, then the next.

    What a row sees is said by segments and positions, so a row may begin anywhere. With S = 6 and `used` = 8, a row
    of 3 tokens that is put in now takes the slots before slot 2: `positions` reads `[1 2 . . . 0]`, `segments`
    `[1 1 -1 -1 -1 1]`, and its next token goes to slot 2. No row may hold more than S tokens.

    A layer of fewer slots is a ring, too, in which `used` goes round more often: it holds what was written last. A row
    must then have no padding between its tokens, so that the last W tokens of a window are what was written last.
    """

    keys: Any  # array [L, B, K, S, H], or a tuple of L arrays [B, K, S, H], of fewer slots in layers with a window
    values: Any
    positions: Int32[Array, "B S"]
    segments: Int32[Array, "B S"]  # 0 where empty or padding
    used: Int32[Array, ""]  # tokens written to each row, over the ring's end and on

    @classmethod
    def empty(cls, spec: ModelSpec, batch: int, slots: int, dtype: jnp.dtype, stacked: bool) -> KVCache:
        """A cache of `slots` empty slots."""

        def zeros() -> Any:
            if stacked:
                return jnp.zeros((spec.num_layers, batch, spec.num_kv_heads, slots, spec.head_dim), dtype)
            own = [min(slots, spec.window(layer) or slots) for layer in range(spec.num_layers)]
            return tuple(jnp.zeros((batch, spec.num_kv_heads, size, spec.head_dim), dtype) for size in own)

        return cls(
            keys=zeros(),
            values=zeros(),
            positions=jnp.zeros((batch, slots), jnp.int32),
            # Never equal to a query's segment (0 or 1): an unwritten slot is seen by nobody.
            segments=jnp.full((batch, slots), -1, jnp.int32),
            used=jnp.zeros((), jnp.int32),
        )

    @property
    def sizes(self) -> set[int]:
        """The numbers of slots that layers have."""
        return {layer.shape[-2] for layer in jax.tree.leaves(self.keys)}

    def marks(self, slots: int, used: Int32[Array, ""]) -> tuple[Int32[Array, "B slots"], Int32[Array, "B slots"]]:
        """Positions and segments of what a layer of so many slots holds when `used` tokens are written to it."""
        if slots == self.positions.shape[1]:
            return self.positions, self.segments
        at = (used - 1 - tokens_ago(slots, used)) % self.positions.shape[1]
        return self.positions[:, at], self.segments[:, at]

    def claim(self, positions: Int32[Array, "B T"], segments: Int32[Array, "B T"]) -> KVCache:
        """Mark the next T slots as holding `positions` and `segments`. `used` does not move yet.

        T slots at once must not cross the end of any layer's ring.
        """
        at = (0, self.used % self.positions.shape[1])
        return replace(
            self,
            positions=jax.lax.dynamic_update_slice(self.positions, positions, at),
            segments=jax.lax.dynamic_update_slice(self.segments, segments, at),
        )


def tokens_ago(slots: int, used: Int32[Array, ""]) -> Int32[Array, " slots"]:
    """How many tokens before the last one that in each slot of a ring was written, where `used` are."""
    return (used - 1 - jnp.arange(slots)) % slots


def write_layer(
    cache: Any, layer: LayerNumber, used: Int32[Array, ""], new: Float[Array, "B T K H"]
) -> tuple[Any, Float[Array, "B K S H"]]:
    """Write a layer's `new` keys (or values) into all layers' `cache`, behind the `used` tokens that were before.

    Returns the cache, and that layer's part.
    """
    new = new.swapaxes(1, 2)
    if isinstance(cache, tuple):
        assert isinstance(layer, int)
        before = cache[layer]
        own = jax.lax.dynamic_update_slice(before, new.astype(before.dtype), (0, 0, used % before.shape[2], 0))
        return (*cache[:layer], own, *cache[layer + 1 :]), own
    at = (layer, 0, 0, used % cache.shape[3], 0)
    cache = jax.lax.dynamic_update_slice(cache, new[None].astype(cache.dtype), at)
    return cache, jax.lax.dynamic_index_in_dim(cache, layer, keepdims=False)
