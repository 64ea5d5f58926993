"""The residual stream behind each layer: what is added to it or taken out of it, and which layers' is kept.

Behind layer i it is what layer i + 1 reads, transformers' `hidden_states[i + 1]`; behind the last layer it is what the
final norm reads, which transformers has applied in its list. Preventative steering and steering of samples add a
direction to it (arXiv 2507.21509); ablation projects one out (arXiv 2406.11717).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from sgtr_jax.distributed.mesh import constrain


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ResidualEdits:
    """What is done to the residual stream behind each layer, at every token; zeros do nothing.

    Both arrays are `[L, D]` for all rows or `[L, B, D]` for each of them. None is nothing, and no arithmetic.
    """

    removed: Float32[Array, "L *B D"] | None = None  # of length 1: the stream's part along it is taken out, first
    added: Float32[Array, "L *B D"] | None = None

    def apply(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """`x` edited by one layer's slice, `[D]` or `[B, D]`, in x's dtype."""
        if self.removed is not None:
            unit = _of_tokens(self.removed)
            along = jnp.sum(x.astype(jnp.float32) * unit, axis=-1, keepdims=True)
            x = x - (along * unit).astype(x.dtype)
        return x if self.added is None else x + _of_tokens(self.added).astype(x.dtype)


def _of_tokens(slice_: Float32[Array, "*B D"]) -> Float32[Array, "*tokens D"]:
    return slice_[:, None, :] if slice_.ndim == 2 else slice_


def edited(x: Float[Array, "B T D"], edits: ResidualEdits | None) -> Float[Array, "B T D"]:
    """The residual stream behind a layer, laid out as the next one reads it."""
    return constrain(x if edits is None else edits.apply(x), "batch", None, None)


def kept_states(x: Float[Array, "B T D"], layers: int) -> Float[Array, "kept B T D"]:
    """An empty buffer for the residual stream behind so many layers, and a last slot for that behind all others."""
    return constrain(jnp.zeros((layers + 1, *x.shape), x.dtype), None, "batch", None, None)
