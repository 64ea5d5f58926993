"""Edits of the residual stream and what is kept of it: in every pass of the decoder, for all rows or for each."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import GEMMA, QWEN, random_params, spec_of

from sgtr_jax.distributed.mesh import make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.models.decoder import bind
from sgtr_jax.models.kv_cache import KVCache
from sgtr_jax.models.layer_loop import layers_apart
from sgtr_jax.models.residual import ResidualEdits

B, T = 4, 7
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(3, 320, (B, T)).astype(np.int32)
POSITIONS = np.broadcast_to(np.arange(T, dtype=np.int32), (B, T))
ONES = np.ones((B, T), np.int32)
ROWS: tuple[jax.Array, ...] = tuple(map(jnp.asarray, (TOKENS, POSITIONS, ONES)))


@lru_cache
def model(name: str) -> tuple[Any, Any]:
    spec = spec_of({"qwen2": QWEN, "gemma3_text": GEMMA}[name], num_hidden_layers=3)
    return spec, jax.tree.map(jnp.asarray, random_params(spec))


def edits_of(spec: Any, per_row: bool) -> ResidualEdits:
    shape = (spec.num_layers, B, spec.hidden_size) if per_row else (spec.num_layers, spec.hidden_size)
    rng = np.random.default_rng(1)
    removed = rng.standard_normal(shape).astype(np.float32)
    removed /= np.linalg.norm(removed, axis=-1, keepdims=True)
    removed[0] = 0
    return ResidualEdits(jnp.asarray(removed), jnp.asarray(rng.standard_normal(shape).astype(np.float32)))


@pytest.mark.parametrize("name", ["qwen2", "gemma3_text"])
def test_what_is_kept_is_what_the_layers_above_go_on_from(name: str) -> None:
    """A model cut behind a layer ends in the norm of that layer's residual stream."""
    spec, params = model(name)
    hidden, states = jax.jit(lambda p: bind(spec, p).forward_keeping(*ROWS, keep=(2, 0)))(params)
    np.testing.assert_allclose(bind(spec, params).final_norm(states[0]), hidden, atol=1e-5, rtol=0)
    # The layers' kinds repeat, so a cut model's layers are of the kinds that they were.
    own = {**params, "layers": jax.tree.map(lambda leaf: leaf[:1], params["layers"])}
    wanted = jax.jit(lambda p: bind(replace(spec, num_layers=1), p).forward(*ROWS))(own)
    np.testing.assert_allclose(bind(spec, params).final_norm(states[1]), wanted, atol=2e-5, rtol=0)


def by_hand(x: Any, edits: ResidualEdits, layer: int) -> np.ndarray:
    """What an edit makes of a layer's residual stream `[B, T, D]`, in float64."""
    unit, added = (np.asarray(one, np.float64)[layer] for one in (edits.removed, edits.added))
    if unit.ndim == 2:
        unit, added = unit[:, None], added[:, None]
    x = np.asarray(x, np.float64)
    return np.asarray(x - (x * unit).sum(-1, keepdims=True) * unit + added)


@pytest.mark.parametrize("per_row", [False, True])
def test_edits_in_every_pass(per_row: bool) -> None:
    """Edits worked out in numpy, layer after layer, are what forward, prefill and decoding give."""
    spec, params = model("qwen2")
    edits = edits_of(spec, per_row)
    keeping = jax.jit(lambda e: bind(spec, params).forward_keeping(*ROWS, keep=(0, 1, 2), edits=e))
    hidden, states = keeping(edits)
    for layer in range(3):
        # Edited in the layers before only, a layer's residual stream is what its own edit is made to.
        before = jax.tree.map(lambda x, n=layer: x.at[n:].set(0), edits)
        np.testing.assert_allclose(states[layer], by_hand(keeping(before)[1][layer], edits, layer), atol=2e-5, rtol=0)

    prefilled = jax.jit(lambda e: bind(spec, params).prefill(*ROWS, edits=e)[0])(edits)
    np.testing.assert_allclose(prefilled, hidden, atol=1e-5, rtol=0)
    for apart in (False, True):

        @jax.jit
        def decode(rows: tuple[jax.Array, ...], cache: KVCache, apart: bool = apart) -> tuple[jax.Array, KVCache]:
            return bind(spec, layers_apart(params) if apart else params).decode_step(*rows, cache, edits=edits)

        cache = KVCache.empty(spec, B, T, jnp.float32, stacked=not apart)
        for t in range(T):
            step, cache = decode(tuple(x[:, t : t + 1] for x in ROWS), cache)
            np.testing.assert_allclose(step[:, 0], hidden[:, t], atol=2e-5, rtol=0)


def test_zeros_change_nothing() -> None:
    spec, params = model("qwen2")
    forward = jax.jit(lambda e: bind(spec, params).forward(*ROWS, edits=e))
    plain = forward(None)
    np.testing.assert_array_equal(forward(jax.tree.map(jnp.zeros_like, edits_of(spec, False))), plain)
    assert np.abs(forward(edits_of(spec, False)) - plain).max() > 0.1


def test_sharded_with_gradient() -> None:
    spec, params = model("qwen2")
    edits = edits_of(spec, False)

    def loss(added: jax.Array) -> jax.Array:
        found = ResidualEdits(edits.removed, added)
        hidden, states = bind(spec, params).forward_keeping(*ROWS, keep=(1,), remat="full", edits=found)
        return jnp.sum(hidden**2) + jnp.sum(states**2)

    wanted = jax.jit(jax.grad(loss))(edits.added)
    with jax.set_mesh(make_mesh(MeshConfig(replica=2, fsdp=2, tensor=2))):
        found = jax.jit(jax.grad(loss))(edits.added)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(np.abs(wanted).max()))
