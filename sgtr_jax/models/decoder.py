"""The decoder of all families: `forward` for training and scoring, `prefill` and `decode_step` for sampling.

`Decoder` owns names, shapes and the mathematics. `bind` joins it with a plain dict of arrays inside a jitted function,
so that every program can also be traced from shapes alone. Adapters are a separate argument: the base is frozen
because nothing differentiates with respect to it.

The spec says what a family's layer has; the formulas' source is in the family's file (`models/families`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.tree_util import DictKey, KeyPath
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int32

from sgtr_jax.arrays import Params
from sgtr_jax.distributed.layout import Layout
from sgtr_jax.distributed.mesh import constrain, gather_layer
from sgtr_jax.lora.adapter import Chain
from sgtr_jax.lora.product import matmul
from sgtr_jax.models.attention import AttentionKind, Visibility, attend
from sgtr_jax.models.dropout import Dropout
from sgtr_jax.models.kinds import LayerKinds
from sgtr_jax.models.kv_cache import KVCache, write_layer
from sgtr_jax.models.layer_loop import (
    LayerBody,
    LayerInputs,
    LayerNumber,
    Layers,
    Remat,
    each_layer,
    layers_apart,
    layout_of,
    over_layers,
    take_apart,
)
from sgtr_jax.models.layers import DecoderLayer, RMSNorm
from sgtr_jax.models.residual import ResidualEdits, edited, kept_states
from sgtr_jax.models.spec import ModelSpec


class Decoder(nnx.Module):
    """Token ids to hidden states; `logits` turns hidden states into scores over the vocabulary.

    With `int8` the layers' kernels are stored as such (see `layers.Linear`); embedding and head are not. The layers'
    weights are stacked, or lie apart (see `layer_loop`).
    """

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs, int8: bool = False) -> None:
        self.spec = spec
        shape = (spec.vocab_size, spec.hidden_size)
        self.embedding = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))
        self.layers = DecoderLayer(spec, int8, rngs)
        self.apart: Sequence[Params] | None = None  # each layer's weights; `layers` then has the first one's
        self.final_norm = RMSNorm((spec.hidden_size,), spec.rms_norm_eps, spec.norm)
        # [D, V]; with tied embeddings the transpose of `embedding` serves instead.
        self.head = None if spec.tie_embeddings else nnx.Param(0.02 * jax.random.normal(rngs.params(), shape[::-1]))

    def forward(
        self,
        tokens: Int32[Array, "B T"],
        positions: Int32[Array, "B T"],
        segments: Int32[Array, "B T"],
        *,
        chain: Chain = (),
        dropouts: Dropout | None = None,
        remat: Remat = "none",
        attention: AttentionKind = "xla",
        edits: ResidualEdits | None = None,
    ) -> Float[Array, "B T D"]:
        """Hidden states after the final norm, without a cache: for training and for scoring.

        Args:
            tokens: ids.
            positions: restarting at 0 in every segment and rising along the row.
            segments: tokens see their own segment only, 0 is padding.
            chain: adapters whose updates are added.
            dropouts: training only.
            remat: what is recomputed in the backward pass; see `Remat`.
            attention: its implementation.
            edits: what is done to the residual stream behind each layer.
        """
        layer = self._forward_layer(positions, segments, chain, dropouts, attention)
        inputs = self.layer_inputs(chain, edits)
        x, _ = over_layers(layer, self._embed(tokens), inputs, remat, len(self.spec.pattern))
        return self.final_norm(x)

    def forward_keeping(
        self,
        tokens: Int32[Array, "B T"],
        positions: Int32[Array, "B T"],
        segments: Int32[Array, "B T"],
        *,
        keep: Sequence[int],
        chain: Chain = (),
        dropouts: Dropout | None = None,
        remat: Remat = "none",
        attention: AttentionKind = "xla",
        edits: ResidualEdits | None = None,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "kept B T D"]]:
        """As `forward`; also returns the residual stream behind each layer of `keep` (from 0), edits included."""
        layer = self._forward_layer(positions, segments, chain, dropouts, attention)
        x = self._embed(tokens)
        states = kept_states(x, len(keep))

        def keeping(
            number: LayerNumber, carry: tuple[jax.Array, jax.Array], inputs: LayerInputs
        ) -> tuple[tuple[jax.Array, jax.Array], None]:
            x, _ = layer(number, carry[0], inputs)
            slots = jnp.asarray([keep.index(i) if i in keep else len(keep) for i in range(self.spec.num_layers)])
            return (x, jax.lax.dynamic_update_index_in_dim(carry[1], x, slots[inputs.number], 0)), None

        inputs = self.layer_inputs(chain, edits)
        (x, states), _ = over_layers(keeping, (x, states), inputs, remat, len(self.spec.pattern))
        return self.final_norm(x), states[:-1]

    def _forward_layer(
        self,
        positions: Int32[Array, "B T"],
        segments: Int32[Array, "B T"],
        chain: Chain,
        dropouts: Dropout | None,
        attention: AttentionKind,
    ) -> LayerBody[jax.Array]:
        """What `forward` does at each layer."""
        kinds = LayerKinds(self.spec, positions)
        visibility = Visibility(positions, segments, positions, segments)

        def one_layer(number: LayerNumber, x: jax.Array, inputs: LayerInputs) -> tuple[jax.Array, None]:
            layer, adapters = self._layer(inputs, chain)
            dropout = dropouts.at_layer(inputs.number) if dropouts is not None else None
            rope, scoring = kinds.rope(number), kinds.scoring(number)
            q, k, v = layer.queries_keys_values(x, rope, adapters, dropout)
            k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
            mixed = attend(q, k, v, visibility, scoring, in_order=True, kind=attention, dropout=dropout)
            return edited(layer.output(x, mixed, adapters, dropout), inputs.edits), None

        return one_layer

    def prefill(
        self,
        tokens: Int32[Array, "B T"],
        positions: Int32[Array, "B T"],
        segments: Int32[Array, "B T"],
        *,
        chain: Chain = (),
        attention: AttentionKind = "xla",
        edits: ResidualEdits | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        """As `forward`; also returns a cache that holds exactly these T tokens, stacked or apart as the weights are."""
        kinds = LayerKinds(self.spec, positions)
        visibility = Visibility(positions, segments, positions, segments)

        def one_layer(
            number: LayerNumber, x: jax.Array, inputs: LayerInputs
        ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            layer, adapters = self._layer(inputs, chain)
            rope, scoring = kinds.rope(number), kinds.scoring(number)
            q, k, v = layer.queries_keys_values(x, rope, adapters, None)
            k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
            mixed = attend(q, k, v, visibility, scoring, in_order=True, kind=attention)
            return edited(layer.output(x, mixed, adapters, None), inputs.edits), (k, v)

        x, written = over_layers(one_layer, self._embed(tokens), self.layer_inputs(chain, edits))
        keys, values = written if isinstance(written, tuple) else zip(*written, strict=True)
        cache = KVCache(keys, values, positions, segments, jnp.int32(tokens.shape[1]))
        return self.final_norm(x), cache

    def decode_step(
        self,
        tokens: Int32[Array, "B T"],
        positions: Int32[Array, "B T"],
        segments: Int32[Array, "B T"],
        cache: KVCache,
        *,
        chain: Chain = (),
        layers: Layers | None = None,
        attention: AttentionKind = "xla",
        edits: ResidualEdits | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        """Append `[B, T]` tokens to the cache; they see what it holds. T is 1 while decoding.

        `tokens`, `positions`, `segments`, `chain` and `edits` are as in `forward`. The cache is stacked, or has
        an array for each layer, as the weights do. `layers` is `layer_inputs(chain, edits)` where that was made before,
        for many steps. Splash needs queries and keys to be the same tokens, and is for `prefill`.

        Returns hidden states after the final norm and the cache, T slots fuller.
        """
        kinds = LayerKinds(self.spec, positions)
        cache = cache.claim(positions, segments)
        used = cache.used + tokens.shape[1]
        seen = {size: Visibility(positions, segments, *cache.marks(size, used)) for size in cache.sizes}

        def one_layer(number: LayerNumber, carry: Any, inputs: LayerInputs) -> tuple[Any, None]:
            x, keys, values = carry
            layer, adapters = self._layer(inputs, chain)
            rope, scoring = kinds.rope(number), kinds.scoring(number)
            q, k, v = layer.queries_keys_values(x, rope, adapters, None)
            keys, k = write_layer(keys, number, cache.used, k)
            values, v = write_layer(values, number, cache.used, v)
            mixed = attend(q, k, v, seen[k.shape[2]], scoring, kind=attention)
            return (edited(layer.output(x, mixed, adapters, None), inputs.edits), keys, values), None

        layers = self.layer_inputs(chain, edits) if layers is None else layers
        (x, keys, values), _ = over_layers(one_layer, (self._embed(tokens), cache.keys, cache.values), layers)
        return self.final_norm(x), replace(cache, keys=keys, values=values, used=used)

    def layer_inputs(self, chain: Chain, edits: ResidualEdits | None = None) -> Layers:
        """What the layers read: stacked for a scan, or each layer's own where the weights lie apart."""
        numbers, stacked = jnp.arange(self.spec.num_layers), [adapter.params for adapter in chain]
        if self.apart is None:
            return LayerInputs(numbers, dict_of(nnx.as_pure(nnx.split(self.layers)[1])), stacked, edits)
        others = take_apart((stacked, edits), self.spec.num_layers)
        return [LayerInputs(numbers[i], self.apart[i], *own) for i, own in enumerate(others)]

    def _embed(self, tokens: Int32[Array, "B T"]) -> Float[Array, "B T D"]:
        x = self.embedding[...][tokens]
        if self.spec.embedding_scale != 1.0:
            # Rounded to the weights' dtype first, as the models were trained.
            x = x * jnp.asarray(self.spec.embedding_scale, x.dtype)
        return constrain(x, "batch", None, None)

    def _layer(self, inputs: LayerInputs, chain: Chain) -> tuple[DecoderLayer, Chain]:
        """One layer and its slice of the chain, whole on every device but for the `tensor` axis."""
        layer: DecoderLayer = nnx.merge(nnx.split(self.layers)[0], gather_layer(inputs.weights))
        sliced = gather_layer(inputs.adapters)
        adapters = tuple(replace(adapter, params=own) for adapter, own in zip(chain, sliced, strict=True))
        return layer, adapters

    def logits(self, hidden: Float[Array, "*rows D"]) -> Float32[Array, "*rows V"]:
        """Scores over the vocabulary."""
        kernel = self.embedding[...].T if self.head is None else self.head[...]
        logits = matmul(hidden, kernel).astype(jnp.float32)
        cap = self.spec.logit_soft_cap
        return logits if cap is None else cap * jnp.tanh(logits / cap)


@lru_cache(maxsize=8)
def _split(spec: ModelSpec, int8: bool = False) -> tuple[Any, Any]:
    return nnx.split(nnx.eval_shape(lambda: Decoder(spec, nnx.Rngs(0), int8)))


def bind(spec: ModelSpec, params: Params) -> Decoder:
    """The decoder over `params`; to be called inside a jitted function."""
    layers = params["layers"]
    graph = _split(spec, is_int8(params))[0]
    if layout_of(params) == "stacked":
        stacked: Decoder = nnx.merge(graph, params)
        return stacked
    decoder: Decoder = nnx.merge(graph, {**params, "layers": layers[0]})
    decoder.apart = nnx.data(layers)
    return decoder


def is_int8(params: Params) -> bool:
    """Whether the layers' kernels are stored as int8."""
    return "kernel_scale" in each_layer(params["layers"])[0]["q_proj"]


def abstract_params(
    spec: ModelSpec, dtype: DTypeLike = jnp.float32, int8: bool = False, layout: Layout = "stacked"
) -> Params:
    """Shapes of all parameters as a nested dict of `ShapeDtypeStruct`."""

    def one(path: KeyPath[DictKey], leaf: jax.Array) -> jax.ShapeDtypeStruct:
        stored = {"kernel": jnp.int8, "kernel_scale": jnp.float32}.get(path[-1].key, dtype) if int8 else dtype
        return jax.ShapeDtypeStruct(leaf.shape, stored)

    shapes: Params = jax.tree.map_with_path(one, dict_of(nnx.as_pure(_split(spec, int8)[1])))
    return shapes if layout == "stacked" else jax.eval_shape(layers_apart, shapes)


def init_params(spec: ModelSpec, seed: int, dtype: DTypeLike = jnp.float32) -> Params:
    """Freshly initialised parameters (normal 0.02, zero biases, unit norms)."""

    @jax.jit
    def make() -> Params:
        _, state = nnx.split(Decoder(spec, nnx.Rngs(seed)))
        made: Params = jax.tree.map(lambda leaf: leaf.astype(dtype), dict_of(nnx.as_pure(state)))
        return made

    params: Params = make()
    return params


def dict_of(state: Any) -> Params:
    """A nested plain dict from an nnx State (already pure), skipping absent (None) parameters."""
    return {
        key: dict_of(value) if hasattr(value, "items") else value for key, value in state.items() if value is not None
    }
