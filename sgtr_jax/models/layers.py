"""Building blocks of the decoder: stacked linear maps (with LoRA), RMSNorm, attention and the gated MLP.

Every module is *made* with parameters stacked over layers (leading axis L) and *called* inside the layer scan,
where that axis has been sliced away: `kernel` is `[L, in, out]` at rest and `[in, out]` in `__call__`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from sgtr_jax.lora.adapter import Chain
from sgtr_jax.lora.config import PROJECTIONS
from sgtr_jax.lora.product import grouped_low_rank_product, low_rank_product, matmul
from sgtr_jax.models.dropout import Dropout
from sgtr_jax.models.rope import Angles, rotate
from sgtr_jax.models.spec import Activation, ModelSpec, NormKind


class Linear(nnx.Module):
    """L stacked linear maps. `kernel` is `[L, in, out]`, the transpose of torch's weight.

    As int8 it stands for `kernel * kernel_scale`, one scale per layer and output channel, float32 `[L, out]`.
    """

    def __init__(self, layers: int, width: tuple[int, int], bias: bool, int8: bool, rngs: nnx.Rngs) -> None:
        # 0.02 is the initializer_range of all families' configs.
        self.kernel = nnx.Param(0.02 * jax.random.normal(rngs.params(), (layers, *width)))
        self.kernel_scale = nnx.Param(jnp.ones((layers, width[1]))) if int8 else None
        self.bias = nnx.Param(jnp.zeros((layers, width[1]))) if bias else None

    def __call__(self, x: Float[Array, "*rows into"]) -> Float[Array, "*rows out"]:
        y = matmul(x, self.kernel[...])
        if self.kernel_scale is not None:
            y = y * self.kernel_scale[...].astype(x.dtype)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)


class RMSNorm(nnx.Module):
    """Root-mean-square norm, computed in float32 (`Qwen2RMSNorm`, `Olmo2RMSNorm`, `Gemma3RMSNorm`); see `NormKind`."""

    def __init__(self, shape: tuple[int, ...], epsilon: float, kind: NormKind) -> None:
        self.scale = nnx.Param(jnp.zeros(shape) if kind == "one_plus" else jnp.ones(shape))
        self.epsilon, self.kind = epsilon, kind

    def __call__(self, x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        wide = x.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        if self.kind == "round_then_scale":
            return self.scale[...].astype(x.dtype) * normed.astype(x.dtype)
        scale = self.scale[...].astype(jnp.float32)
        return (normed * (1.0 + scale if self.kind == "one_plus" else scale)).astype(x.dtype)


class DecoderLayer(nnx.Module):
    """Attention and gated MLP, each added to the residual stream; norms stand where `spec.norms` has them."""

    def __init__(self, spec: ModelSpec, int8: bool, rngs: nnx.Rngs) -> None:
        L = spec.num_layers
        for name, size in spec.norms.items():
            setattr(self, name, RMSNorm((L, size), spec.rms_norm_eps, spec.norm))
        for name, width in spec.projections.items():
            setattr(self, name, Linear(L, width, spec.has_bias(name), int8, rngs))
        self.spec = spec

    def queries_keys_values(
        self, x: Float[Array, "B T D"], rope: tuple[Angles, Angles], chain: Chain, dropouts: Dropout | None
    ) -> tuple[Float[Array, "B T N H"], Float[Array, "B T K H"], Float[Array, "B T K H"]]:
        """What attention works on: rotated queries, rotated keys, and values.

        `chain` holds this layer's slices.
        """
        h = self._normed("attention_norm", x)
        q, k, v = (self._project(name, h, chain, dropouts) for name in ("q_proj", "k_proj", "v_proj"))
        q, k = self._normed("q_norm", q), self._normed("k_norm", k)
        q, k, v = (y.reshape(*x.shape[:2], -1, self.spec.head_dim) for y in (q, k, v))
        return kept(rotate(q, *rope)), kept(rotate(k, *rope)), kept(v)

    def output(
        self, x: Float[Array, "B T D"], mixed: Float[Array, "B T N H"], chain: Chain, dropouts: Dropout | None
    ) -> Float[Array, "B T D"]:
        """The residual stream behind the layer, from that before it and what attention mixed."""
        mixed = kept(mixed)
        attended = self._project("o_proj", mixed.reshape(*x.shape[:2], -1), chain, dropouts)
        x = kept(_add(x, self._normed("attention_out_norm", attended), dropouts, 0))
        h = self._normed("mlp_norm", x)
        gate, up = (kept(self._project(name, h, chain, dropouts)) for name in ("gate_proj", "up_proj"))
        update = self._project("down_proj", ACTIVATIONS[self.spec.activation](gate) * up, chain, dropouts)
        return _add(x, self._normed("mlp_out_norm", update), dropouts, 1)

    def _project(
        self, name: str, h: Float[Array, "B T into"], chain: Chain, dropouts: Dropout | None
    ) -> Float[Array, "B T out"]:
        projected: jax.Array = getattr(self, name)(h) + chain_update(name, h, chain, dropouts)
        return projected

    def _normed(self, name: str, x: Float[Array, "B T width"]) -> Float[Array, "B T width"]:
        """`x` as it is where the family has no such norm. A norm narrower than `x` is over each head's channels."""
        size = self.spec.norms.get(name)
        if size is None:
            return x
        norm: RMSNorm = getattr(self, name)
        if size == x.shape[-1]:
            return norm(x)
        return norm(x.reshape(*x.shape[:-1], -1, size)).reshape(x.shape)


ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
}


def _add(
    x: Float[Array, "B T D"], update: Float[Array, "B T D"], dropouts: Dropout | None, site: int
) -> Float[Array, "B T D"]:
    """The residual sum; `site` keeps the masks of a layer's two sums apart."""
    if dropouts is None:
        return x + update
    return x + dropouts.on_features(update, dropouts.residual, site)


KEPT = "kept"


def kept(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Mark what `remat: light` stores for the backward pass: from it the rest costs elementwise work only."""
    named: jax.Array = checkpoint_name(x, KEPT)
    return named


# Of each projection in the dropout key path, so that no two share a mask.
_DROPOUT_SITES = {name: 2 + i for i, name in enumerate(PROJECTIONS)}


def chain_update(
    name: str, x: Float[Array, "B T into"], chain: Chain, dropouts: Dropout | None
) -> Float[Array, "B T out"] | float:
    """Sum over the chain of `scale * (x @ a.T) @ b`, in x's dtype; 0.0 when no adapter touches `name`.

    As in PEFT, dropout falls on the input of the trained (last) adapter only.
    """
    total: jax.Array | float = 0.0
    for i, adapter in enumerate(chain):
        if name not in adapter.params:
            continue
        h = x
        if dropouts is not None and i == len(chain) - 1:
            h = dropouts.on_features(x, dropouts.adapter, _DROPOUT_SITES[name])
        pair = adapter.params[name]
        product = low_rank_product if pair["a"].ndim == 2 else grouped_low_rank_product
        total = total + product(h, pair["a"], pair["b"], adapter.scale)
    return total
