"""Dropout whose masks belong to the tokens, not to the rows they happen to lie in.

Every element's fate is a hash of (run's key, step, layer, site, token, feature). How a step is packed into rows,
split into passes or laid out over devices then changes no mask, and one run among many draws what it draws alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, UInt32

_POSITION_BITS = 20
_HEAD_STRIDE = 1 << 24  # features of attention weights: head * stride + position of the key


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dropout:
    """Dropout of one training step; None instead of this in evaluation and sampling."""

    key: jax.Array  # typed threefry key [], of the run and step; `at_layer` folds the layer in
    tokens: UInt32[Array, "B T"]  # see `token_numbers`
    adapter: float = field(metadata={"static": True})  # on the input of the trained adapter only, as in PEFT
    residual: float = field(metadata={"static": True})
    attention: float = field(metadata={"static": True})

    def at_layer(self, index: Int32[Array, ""]) -> Dropout:
        """The same rates with a key of its own for the layer."""
        return replace(self, key=jax.random.fold_in(self.key, index))

    def of_tokens(self, columns: slice) -> Dropout:
        """The same for some columns of each row."""
        return replace(self, tokens=self.tokens[:, columns])

    def on_features(self, x: Float[Array, "B T width"], rate: float, site: int) -> Float[Array, "B T width"]:
        """Inverted dropout of `x`; the identity when `rate` is 0."""
        if rate == 0.0:
            return x
        features = jnp.arange(x.shape[-1], dtype=jnp.uint32)
        return self._drop(x, rate, site, self.tokens[..., None], features)

    def on_attention(
        self, weights: Float[Array, "B K G T S"], key_positions: Int32[Array, "B S"], site: int
    ) -> Float[Array, "B K G T S"]:
        """Inverted dropout of attention weights."""
        if self.attention == 0.0:
            return weights
        _, K, G, _, _ = weights.shape
        heads = jnp.arange(K * G, dtype=jnp.uint32).reshape(K, G, 1, 1) * jnp.uint32(_HEAD_STRIDE)
        features = heads + key_positions.astype(jnp.uint32)[:, None, None, None, :]
        return self._drop(weights, self.attention, site, self.tokens[:, None, None, :, None], features)

    def _drop(self, x: jax.Array, rate: float, site: int, rows: jax.Array, columns: jax.Array) -> jax.Array:
        first, second = jax.random.key_data(jax.random.fold_in(self.key, site))
        # All that depends on the row alone is hashed once a row; what is left for each element is one mixing.
        row = _mixed(_mixed(rows ^ first) ^ second)
        bits = _mixed(row ^ (columns * jnp.uint32(0x9E3779B1)))
        keep = bits >= jnp.uint32(int(rate * 2**32))
        return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype))


def _mixed(x: UInt32[Array, "*any"]) -> UInt32[Array, "*any"]:
    """A bijection of uint32 in which every bit of `x` flips every bit of the result half of the time.

    Shifts and factors are the published ones of Wellons' "lowbias32" in its improved form. Masks
    need no more than that, and threefry's twenty rounds would be drawn for each attention weight.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def token_numbers(segments: Int32[Array, "*rows"], positions: Int32[Array, "*rows"]) -> UInt32[Array, "*rows"]:
    """A number of its own for each token of a step, from its example's and its position's.

    Segments count a step's examples from 1: token 3 of example 2 is `2 * 2**20 + 3` wherever it lies.
    """
    return (segments.astype(jnp.uint32) << _POSITION_BITS) | positions.astype(jnp.uint32)
