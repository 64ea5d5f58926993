"""Decoding: rows in slots of a batch, many tokens per call, rows put in where others have left.

The cache crosses the boundary of these programs in the layout the compiler asks for, and is donated: in the default
layout XLA would re-lay all of it on every entry and exit.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Float32, Int32, UInt32

from sgtr_jax.arrays import HostOrDevice, Params
from sgtr_jax.distributed.mesh import DATA_AXES, put
from sgtr_jax.lora.adapter import Chain
from sgtr_jax.models.attention import AttentionKind
from sgtr_jax.models.decoder import bind
from sgtr_jax.models.kv_cache import KVCache, tokens_ago
from sgtr_jax.models.layer_loop import layout_of
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.sampling import draw
from sgtr_jax.sample.steering import RowSteering, edits_of_rows


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RowSettings(Generic[HostOrDevice]):
    """What is fixed for the row in each of B slots."""

    keys: UInt32[HostOrDevice, "B 2"]  # see `draw.row_key_data`
    temperature: Float32[HostOrDevice, " B"]
    top_k: Int32[HostOrDevice, " B"]
    top_p: Float32[HostOrDevice, " B"]
    max_new_tokens: Int32[HostOrDevice, " B"]  # tokens at most
    stop_ids: Int32[HostOrDevice, "B stops"]  # -1 stops nothing
    steering: RowSteering[HostOrDevice] | None = None  # None: no row is steered

    @classmethod
    def empty(cls, slots: int, stop_ids: int, steers: bool = False) -> RowSettings[np.ndarray]:
        """Host arrays to fill in."""
        steering = RowSteering.empty(slots) if steers else None
        zeros, whole = partial(np.zeros, slots), np.int32
        stops = np.full((slots, stop_ids), -1, np.int32)
        pairs = np.zeros((slots, 2), np.uint32)
        ones = np.ones(slots, np.float32)
        return RowSettings(pairs, zeros(np.float32), zeros(whole), ones, zeros(whole), stops, steering)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DecodeState:
    """What changes as tokens are generated. A slot that is not active holds nothing."""

    cache: KVCache
    hidden: Float[Array, "B D"]  # whose logits choose the next token
    length: Int32[Array, " B"]  # tokens before the next one, prompt included
    count: Int32[Array, " B"]  # tokens generated
    active: Bool[Array, " B"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DecodeStep:
    """What a call generated: row b's new tokens are `tokens[b, :count[b] - count before]`."""

    tokens: Int32[Array, "B T"]
    count: Int32[Array, " B"]
    active: Bool[Array, " B"]
    logprobs: Float32[Array, "B T"]  # of the tokens; T is 0 where none are wanted
    top_tokens: Int32[Array, "B T top"]
    top_logprobs: Float32[Array, "B T top"]


Carry = tuple[jax.Array, DecodeState, DecodeStep]  # of the loop over tokens; int32 [], the tokens generated before


@dataclass(frozen=True)
class DecodeShape:
    """What a decode program is compiled for."""

    slots: int  # B
    cache_slots: int  # S of the cache
    stop_ids: int  # a row at most
    tokens: int  # T, at most per call
    draws: bool  # whether any row draws; else all are greedy
    truncates: bool  # whether any row has top-k or top-p
    top_logprobs: int | None  # likeliest tokens to report; None for no log-probabilities
    vectors: int = 0  # K of the table of directions; 0 where no row is steered


def decode(
    params: Params,
    chain: Chain,
    state: DecodeState,
    rows: RowSettings[jax.Array],
    refill_threshold: Int32[Array, ""],
    vectors: Float32[Array, "K D"] | None = None,
    *,
    spec: ModelSpec,
    shape: DecodeShape,
    attention: AttentionKind,
) -> tuple[DecodeState, DecodeStep]:
    """Generate until every row is done, `refill_threshold` rows are, or T tokens are generated.

    `vectors` are what rows are steered by; None where none is.
    """
    decoder = bind(spec, params)
    edits = None
    if rows.steering is not None and vectors is not None:
        edits = edits_of_rows(rows.steering, vectors, spec.num_layers)
    layers = decoder.layer_inputs(chain, edits)  # adapters are taken apart once for all tokens of the call
    B, T = shape.slots, shape.tokens
    wanted = 0 if shape.top_logprobs is None else T
    started = jnp.sum(state.active)

    def active(carry: Carry) -> jax.Array:
        index, state, _ = carry
        active = jnp.sum(state.active)
        return (index < T) & (active > 0) & (started - active < refill_threshold)

    def one(carry: Carry) -> Carry:
        index, state, step = carry
        logits = decoder.logits(state.hidden)
        if shape.draws:
            cut = (rows.top_k, rows.top_p) if shape.truncates else None
            token = draw(logits, rows.keys, state.count, rows.temperature, cut)
        else:
            token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        if shape.top_logprobs is not None:
            step = _with_logprobs(step, logits, token, index, shape.top_logprobs)
        step = replace(step, tokens=jax.lax.dynamic_update_slice(step.tokens, token[:, None], (0, index)))
        was = state.active
        count = state.count + was
        done = jnp.any(token[:, None] == rows.stop_ids, axis=1) | (count >= rows.max_new_tokens)
        slot = state.length[:, None]
        # A slot without a row writes padding, which only it sees.
        segment = was.astype(jnp.int32)[:, None]
        hidden, cache = decoder.decode_step(
            token[:, None], slot, segment, state.cache, chain=chain, layers=layers, attention=attention
        )
        after = DecodeState(cache, hidden[:, 0], state.length + was, count, was & ~done)
        return index + 1, after, step

    step = DecodeStep(
        jnp.zeros((B, T), jnp.int32), state.count, state.active, jnp.zeros((B, wanted)),
        jnp.zeros((B, wanted, shape.top_logprobs or 0), jnp.int32), jnp.zeros((B, wanted, shape.top_logprobs or 0)),
    )  # fmt: skip
    _, state, step = jax.lax.while_loop(active, one, (jnp.int32(0), state, step))
    return state, replace(step, count=state.count, active=state.active)


def _with_logprobs(
    step: DecodeStep,
    logits: Float32[Array, "B V"],
    token: Int32[Array, " B"],
    index: Int32[Array, ""],
    top_logprobs: int,
) -> DecodeStep:
    every = jax.nn.log_softmax(logits, axis=-1)
    chosen = jnp.take_along_axis(every, token[:, None], axis=1)
    step = replace(step, logprobs=jax.lax.dynamic_update_slice(step.logprobs, chosen, (0, index)))
    if top_logprobs:
        values, ids = jax.lax.top_k(every, top_logprobs)
        step = replace(
            step,
            top_tokens=jax.lax.dynamic_update_slice(step.top_tokens, ids[:, None].astype(jnp.int32), (0, index, 0)),
            top_logprobs=jax.lax.dynamic_update_slice(step.top_logprobs, values[:, None], (0, index, 0)),
        )
    return step


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prompts(Generic[HostOrDevice]):
    """Prefilled prompts. Token j of prompt p lies in slot j, or, behind its prefix of n tokens, in `rest + j - n`."""

    cache: KVCache  # [L, prompts, K, T, H], or L arrays
    hidden: Float[Array, "prompts D"]  # of the last token
    length: Int32[HostOrDevice, " prompts"]
    prefix: Int32[HostOrDevice, " prompts"]  # n
    rest: Int32[HostOrDevice, ""]  # slots of the longest prefix; 0 where there are none


def insert(state: DecodeState, prompts: Prompts[jax.Array], source: Int32[Array, " B"]) -> DecodeState:
    """Put prompt `source[b]` into slot b, and nothing where it is -1."""
    chosen = source >= 0
    source = jnp.maximum(source, 0)
    length, prefix = prompts.length[source], prompts.prefix[source]
    T = prompts.cache.positions.shape[1]

    def token_in_slot(slots: int) -> tuple[jax.Array, jax.Array]:
        """Which token of its prompt is in each slot of a ring, the last one just before the slot written next.

        Also whether there is one: a prompt may be shorter than the ring. Of a longer one the ring holds the end.
        """
        token = length[:, None] - 1 - tokens_ago(slots, state.cache.used)[None, :]
        return token, chosen[:, None] & (token >= 0)

    def filled(before: jax.Array, made: jax.Array) -> jax.Array:
        """One layer of the cache `[B, K, S, H]` with the prompts of `made[prompts, K, T, H]` put in."""
        token, held = token_in_slot(before.shape[2])
        stored = jnp.where(token < prefix[:, None], token, prompts.rest + token - prefix[:, None])
        rolled = jnp.take_along_axis(made[source], jnp.clip(stored, 0, T - 1)[:, None, :, None], axis=2)
        return jnp.where(held[:, None, :, None], rolled.astype(before.dtype), before)

    def in_place(layer: jax.Array, caches: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # A layer at a time, so that no second cache is ever held.
        def pick(cache: jax.Array) -> jax.Array:
            found: jax.Array = jax.lax.dynamic_index_in_dim(cache, layer, keepdims=False)
            return found

        def put(cache: jax.Array, value: jax.Array) -> jax.Array:
            updated: jax.Array = jax.lax.dynamic_update_index_in_dim(cache, value, layer, 0)
            return updated

        keys, values = caches
        return (
            put(keys, filled(pick(keys), pick(prompts.cache.keys))),
            put(values, filled(pick(values), pick(prompts.cache.values))),
        )

    keys: Any = state.cache.keys
    values: Any = state.cache.values
    if isinstance(keys, tuple):
        keys = tuple(filled(before, prompts.cache.keys[i]) for i, before in enumerate(keys))
        values = tuple(filled(before, prompts.cache.values[i]) for i, before in enumerate(values))
    else:
        keys, values = jax.lax.fori_loop(0, keys.shape[0], in_place, (keys, values))
    token, held = token_in_slot(state.cache.positions.shape[1])
    cache = replace(
        state.cache,
        keys=keys,
        values=values,
        positions=jnp.where(chosen[:, None], jnp.where(held, token, 0), state.cache.positions),
        segments=jnp.where(chosen[:, None], jnp.where(held, 1, -1), state.cache.segments),
    )
    return DecodeState(
        cache,
        jnp.where(chosen[:, None], prompts.hidden[source].astype(state.hidden.dtype), state.hidden),
        jnp.where(chosen, length, state.length),
        jnp.where(chosen, 0, state.count),
        state.active | chosen,
    )


class DecodeProgram:
    """`decode` compiled for one shape, and what makes and fills its state in the layout it asks for."""

    def __init__(self, spec: ModelSpec, mesh: Mesh, params: Params, chain: Chain, shape: DecodeShape) -> None:
        self._mesh = mesh
        attention: AttentionKind = "cpu" if mesh.devices.flat[0].platform == "cpu" else "xla"
        stacked = layout_of(params) == "stacked"
        make = partial(_empty, spec, shape, params["embedding"].dtype, stacked)
        abstract = jax.eval_shape(make)
        slot = state_shardings(spec, mesh, stacked)
        empty = RowSettings.empty(1, 1, shape.vectors > 0)
        rows = jax.tree.map(lambda x: NamedSharding(mesh, PartitionSpec(DATA_AXES)), empty)
        table = None
        if shape.vectors:
            table = jax.ShapeDtypeStruct((shape.vectors, spec.hidden_size), jnp.float32)
        whole = NamedSharding(mesh, PartitionSpec())
        # All of the cache: libtpu gives positions `[B, S]` one layout as an argument and another as a result where
        # that saves padding. What is small keeps its layout: it also goes to programs that do not ask for another.
        asked = replace(slot, cache=jax.tree.map(lambda sharding: Format(Layout.AUTO, sharding), slot.cache))
        with jax.set_mesh(mesh):
            compiled = (
                jax.jit(
                    partial(decode, spec=spec, shape=shape, attention=attention),
                    in_shardings=(None, None, asked, rows, whole, whole),
                    out_shardings=(asked, whole),
                    donate_argnums=2,
                )
                .lower(params, chain, abstract, _abstract_rows(shape), jax.ShapeDtypeStruct((), jnp.int32), table)
                .compile()
            )
        self.compiled = compiled
        formats = replace(slot, cache=compiled.input_formats[0][2].cache)
        self._rows = rows
        self._insert = jax.jit(insert, in_shardings=(formats, None, None), out_shardings=formats, donate_argnums=0)
        self._empty = jax.jit(make, out_shardings=formats)

    def empty(self) -> DecodeState:
        """A state without rows."""
        state: DecodeState = self._empty()
        return state

    def insert(self, state: DecodeState, prompts: Prompts[np.ndarray], source: np.ndarray) -> DecodeState:
        """See `insert`. The state is used up."""
        with jax.set_mesh(self._mesh):
            filled: DecodeState = self._insert(state, prompts, put(source.astype(np.int32), self._rows.keys))
        return filled

    def __call__(
        self, params: Params, chain: Chain, state: DecodeState, rows: RowSettings[np.ndarray], refill_threshold: int,
        vectors: np.ndarray | None = None,
    ) -> tuple[DecodeState, DecodeStep]:  # fmt: skip
        """See `decode`. The state is used up; the step's arrays are on the host."""
        placed = jax.tree.map(put, rows, self._rows)
        whole = NamedSharding(self._mesh, PartitionSpec())
        table = None if vectors is None else put(vectors, whole)
        threshold = put(np.asarray(refill_threshold, np.int32), whole)
        state, step = self.compiled(params, chain, state, placed, threshold, table)
        return state, jax.tree.map(np.asarray, step)


class DecodePrograms:
    """Decode programs of one base model, each compiled once whoever asks."""

    def __init__(self, spec: ModelSpec, mesh: Mesh) -> None:
        self._spec, self._mesh = spec, mesh
        self._made: dict[Hashable, DecodeProgram] = {}

    def get(self, params: Params, chain: Chain, shape: DecodeShape) -> DecodeProgram:
        """The program for arrays like these."""
        leaves, structure = jax.tree.flatten((params, chain))
        key = (shape, structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
        if key not in self._made:
            self._made[key] = DecodeProgram(self._spec, self._mesh, params, chain, shape)
        return self._made[key]


def state_shardings(spec: ModelSpec, mesh: Mesh, stacked: bool) -> DecodeState:
    """Rows over the data axes, key-value heads over `tensor`."""
    rows = NamedSharding(mesh, PartitionSpec(DATA_AXES))
    cache: NamedSharding | tuple[NamedSharding, ...] = NamedSharding(mesh, PartitionSpec(None, DATA_AXES, "tensor"))
    if not stacked:
        cache = (NamedSharding(mesh, PartitionSpec(DATA_AXES, "tensor")),) * spec.num_layers
    whole = NamedSharding(mesh, PartitionSpec())
    held = KVCache(*(cache, cache, rows, rows, whole))  # type: ignore[arg-type]
    return DecodeState(held, *(rows,) * 4)  # type: ignore[arg-type]


def _empty(spec: ModelSpec, shape: DecodeShape, dtype: jnp.dtype, stacked: bool) -> DecodeState:
    B = shape.slots
    cache = KVCache.empty(spec, B, shape.cache_slots, dtype, stacked)
    zeros = jnp.zeros(B, jnp.int32)
    return DecodeState(cache, jnp.zeros((B, spec.hidden_size), dtype), zeros, zeros, jnp.zeros(B, bool))


def _abstract_rows(shape: DecodeShape) -> RowSettings[jax.Array]:
    found: RowSettings[jax.Array] = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
        RowSettings.empty(shape.slots, shape.stop_ids, shape.vectors > 0),
    )
    return found
