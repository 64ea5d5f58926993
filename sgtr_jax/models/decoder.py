"""The only forward pass: Qwen2/2.5 and Seed-OSS, for training, prefill, decoding and scoring.

`Decoder` owns names, shapes and the mathematics. It is split once (`graph_of`) into a graph definition and a
plain dict of arrays, and everything that is jitted takes those two, so that it can also be traced from shapes
alone. Adapters are a separate argument: the base is frozen because nothing differentiates with respect to it.

Source of the formulas: `transformers/models/{qwen2/modeling_qwen2.py, seed_oss/modeling_seed_oss.py}`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from sgtr_jax.mesh import constrain, gather_layer
from sgtr_jax.models.attention import AttentionKind, Visibility, attend
from sgtr_jax.models.dropout import Dropout
from sgtr_jax.models.kv_cache import KVCache, write_layer
from sgtr_jax.models.layers import KEPT, Chain, DecoderLayer, RMSNorm
from sgtr_jax.models.low_rank import matmul
from sgtr_jax.models.rope import rope_angles
from sgtr_jax.models.spec import ModelSpec

Params = dict[str, Any]  # nested dict of arrays, as `nnx.split` gives it
# What the backward pass finds stored per layer: everything, enough to repeat no product with a weight matrix, or
# the layer's input only.
Remat = Literal["none", "light", "full"]


class Decoder(nnx.Module):
    """Token ids to hidden states; `logits` turns hidden states into scores over the vocabulary.

    With `int8` the layers' kernels are stored as such (see `layers.Linear`); embedding and head are not.
    """

    def __init__(self, spec: ModelSpec, rngs: nnx.Rngs, int8: bool = False) -> None:
        self.spec = spec
        shape = (spec.vocab_size, spec.hidden_size)
        self.embedding = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))
        self.layers = DecoderLayer(spec, int8, rngs)
        self.final_norm = RMSNorm((spec.hidden_size,), spec.rms_norm_eps)
        # [D, V]; with tied embeddings the transpose of `embedding` serves instead.
        self.head = None if spec.tie_embeddings else nnx.Param(0.02 * jax.random.normal(rngs.params(), shape[::-1]))

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        segments: jax.Array,
        *,
        chain: Chain = (),
        cache: KVCache | None = None,
        keep_cache: bool = False,
        layers: Sequence[Params] | None = None,
        dropouts: Dropout | None = None,
        remat: Remat = "none",
        attention: AttentionKind = "xla",
    ) -> tuple[jax.Array, KVCache | None]:
        """Run the decoder.

        Args:
            tokens: int32 `[B, T]`.
            positions: int32 `[B, T]`, restarting at 0 in every segment and rising along the row.
            segments: int32 `[B, T]`; tokens see their own segment only, 0 is padding.
            chain: adapters whose updates are added.
            cache: if given, the tokens are appended to it and see what it holds.
            keep_cache: without a cache, whether to return one of exactly these tokens.
            layers: each layer's own weights (`unstacked`), to be run one after the other instead of scanned over;
                the cache's arrays are then one a layer too.
            dropouts: training only.
            remat: what is recomputed in the backward pass; see `Remat`.
            attention: its implementation; splash only where there is no cache.

        Returns:
            Hidden states after the final norm `[B, T, D]` and the cache, T slots fuller.
        """
        x = constrain(self.embedding[...][tokens], "batch", None, None)
        rope = rope_angles(positions, self.spec.head_dim, self.spec.rope_theta)
        graph, state = nnx.split(self.layers)
        stacked = dict_of(nnx.as_pure(state))
        visibility = Visibility(positions, segments, positions, segments)
        if cache is not None:
            cache = cache.claim(positions, segments)
            visibility = replace(visibility, key_positions=cache.positions, key_segments=cache.segments)

        def body(carry: Any, inputs: Any) -> Any:
            x, stored = carry
            index, layer_state, layer_adapters = inputs
            layer = nnx.merge(graph, gather_layer(layer_state))
            layer_adapters = gather_layer(layer_adapters)
            drop = dropouts.at_layer(index) if dropouts is not None else None
            kept = stored
            made: list[jax.Array] = []

            def mix(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
                nonlocal kept
                if cache is None:
                    k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
                    if keep_cache:
                        made.extend((k, v))
                    return attend(q, k, v, visibility, in_order=True, kind=attention, dropout=drop)
                keys, values, k, v = write_layer(stored[0], stored[1], index, cache.slot, k, v)
                kept = (keys, values)
                return attend(q, k, v, visibility, kind=attention)

            adapters = tuple(
                replace(adapter, params=sliced) for adapter, sliced in zip(chain, layer_adapters, strict=True)
            )
            x = layer(x, rope, mix, adapters, drop)
            return (constrain(x, "batch", None, None), kept), tuple(made)

        step: Any = body
        if remat != "none":
            policy = jax.checkpoint_policies.save_only_these_names(KEPT) if remat == "light" else None
            step = jax.checkpoint(body, prevent_cse=False, policy=policy)
        if layers is not None:
            assert cache is not None
            done = []
            for i, layer_state in enumerate(layers):
                sliced = jax.tree.map(lambda leaf, i=i: leaf[i], [adapter.params for adapter in chain])
                (x, kept), _ = body((x, (cache.keys[i], cache.values[i])), (jnp.int32(i), layer_state, sliced))
                done.append(kept)
            keys, values = zip(*done, strict=True)
            cache = replace(cache, keys=keys, values=values, used=cache.used + tokens.shape[1])
            return self.final_norm(x), cache
        stored: Any = (cache.keys, cache.values) if cache is not None else ()
        inputs = (jnp.arange(self.spec.num_layers), stacked, [adapter.params for adapter in chain])
        (x, stored), made = jax.lax.scan(step, (x, stored), inputs)
        if cache is not None:
            cache = replace(cache, keys=stored[0], values=stored[1], used=cache.used + tokens.shape[1])
        elif keep_cache:
            keys, values = made
            cache = KVCache(keys, values, positions, segments, jnp.int32(tokens.shape[1]))
        return self.final_norm(x), cache

    def unstacked(self) -> list[Params]:
        """Each layer's own weights."""
        stacked = dict_of(nnx.as_pure(nnx.split(self.layers)[1]))
        return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(self.spec.num_layers)]

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Scores over the vocabulary, float32 `[..., V]`, for hidden states `[..., D]`."""
        kernel = self.embedding[...].T if self.head is None else self.head[...]
        return matmul(hidden, kernel).astype(jnp.float32)


Bind = Callable[[Params], Decoder]


@lru_cache(maxsize=8)
def _split(spec: ModelSpec, int8: bool = False) -> tuple[Any, Any]:
    return nnx.split(nnx.eval_shape(lambda: Decoder(spec, nnx.Rngs(0), int8)))


def bind(spec: ModelSpec, params: Params) -> Decoder:
    """The decoder over `params`; to be called inside a jitted function."""
    decoder: Decoder = nnx.merge(_split(spec, is_int8(params))[0], params)
    return decoder


def is_int8(params: Params) -> bool:
    """Whether the layers' kernels are stored as int8."""
    return "kernel_scale" in params["layers"]["q_proj"]


def abstract_params(spec: ModelSpec, dtype: Any = jnp.float32, int8: bool = False) -> Params:
    """Shapes of all parameters as a nested dict of `ShapeDtypeStruct`."""

    def one(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        stored = {"kernel": jnp.int8, "kernel_scale": jnp.float32}.get(path[-1].key, dtype) if int8 else dtype
        return jax.ShapeDtypeStruct(leaf.shape, stored)

    return jax.tree.map_with_path(one, dict_of(nnx.as_pure(_split(spec, int8)[1])))


def init_params(spec: ModelSpec, seed: int, dtype: Any = jnp.float32) -> Params:
    """Freshly initialised parameters (normal 0.02, zero biases, unit norms)."""

    @jax.jit
    def make() -> Params:
        _, state = nnx.split(Decoder(spec, nnx.Rngs(seed)))
        return jax.tree.map(lambda leaf: leaf.astype(dtype), dict_of(nnx.as_pure(state)))

    return make()


def dict_of(state: Any) -> Params:
    """A nested plain dict from an nnx State (already pure), skipping absent (None) parameters."""
    return {
        key: dict_of(value) if hasattr(value, "items") else value for key, value in state.items() if value is not None
    }
