"""A cache that holds a layer's window and no more: the tokens and scores are those of a cache that holds everything."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_golden import GOLDEN
from tiny import GEMMA, OLMO, QWEN, random_params, spec_of

import sgtr_jax
from sgtr_jax.distributed.mesh import make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.lora.adapter import Adapter, init_adapter
from sgtr_jax.lora.config import LoraConfig
from sgtr_jax.models.decoder import abstract_params, bind
from sgtr_jax.models.kv_cache import KVCache
from sgtr_jax.models.layer_loop import layers_apart
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.decode import DecodeProgram, DecodeShape
from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.request import Request

# Windows of some layers, of all of them, and of the last ones; all shorter than the rows.
FAMILIES: dict[str, dict[str, Any]] = {
    "olmo3": OLMO,
    "gemma3": GEMMA,
    "mistral": {**QWEN, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 5},
    "qwen2": {**QWEN, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
}
B, T = 3, 24
SLOW = pytest.mark.slow


def model(name: str) -> tuple[ModelSpec, Any]:
    spec = spec_of(FAMILIES[name])
    return spec, jax.tree.map(jnp.asarray, random_params(spec))


@pytest.mark.parametrize("name", FAMILIES)
def test_token_by_token_it_is_the_pass_over_whole_rows(name: str) -> None:
    """Rows that begin late are padding until then, as a slot without a row writes."""
    spec, params = model(name)
    rng = np.random.default_rng(0)
    segments = np.ones((B, T), np.int32)
    segments[1, :7] = segments[2, :11] = 0
    positions = np.maximum(np.cumsum(segments, axis=1) - 1, 0) * segments
    rows = tuple(
        map(jnp.asarray, (rng.integers(3, 320, (B, T)).astype(np.int32), positions.astype(np.int32), segments))
    )
    wanted = jax.jit(lambda *rows: bind(spec, params).forward(*rows))(*rows)
    apart = layers_apart(params)
    decode = jax.jit(lambda rows, cache: bind(spec, apart).decode_step(*rows, cache))
    cache = KVCache.empty(spec, B, T, jnp.float32, stacked=False)
    windows = [spec.window(layer) or T for layer in range(spec.num_layers)]
    assert [layer.shape[2] for layer in cache.keys] == windows and min(windows) < T
    for t in range(T):
        step, cache = decode(tuple(x[:, t : t + 1] for x in rows), cache)
        real = segments[:, t] == 1
        np.testing.assert_allclose(step[real, 0], wanted[real, t], atol=3e-5, rtol=0)


def adapter_of(spec: ModelSpec, seed: int) -> Adapter:
    adapter = init_adapter(spec, LoraConfig(rank=2, alpha=4.0), jax.random.key(seed))
    return Adapter(jax.tree.map(lambda x: x + 0.05, adapter.params), jnp.float32(1.0))


@pytest.mark.parametrize(
    "name", ["mistral", *(pytest.param(name, marks=SLOW) for name in ("qwen2", "olmo3", "gemma3"))]
)
def test_rows_that_come_and_go_are_those_of_a_cache_of_whole_rows(name: str) -> None:
    """Three slots for twelve rows of two chains, with prefixes that are shared, around rings of several sizes."""
    spec, params = model(name)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    chains = {"base": (adapter_of(spec, 1),), "other": (adapter_of(spec, 2),)}
    rng = np.random.default_rng(1)
    start = tuple(map(int, rng.integers(3, 320, 50)))
    rows = []
    for i in range(12):
        own = tuple(map(int, rng.integers(3, 320, 1 + 3 * (i % 4))))
        prompt = (*start, *own) if i % 3 == 0 else own  # shorter than a window, and longer than all
        more = {"logprobs": 1} if i % 2 else {}
        rows.append(Request(f"p{i}", prompt, 4 + 7 * (i % 5), float(i % 2), 3, 0, ("base", "other")[i % 2], **more))
    # Stacked weights have a cache of whole rows in every layer.
    full, windowed = (
        Engine(spec, own, mesh, chains, batch_rows=4).sample(rows) for own in (params, layers_apart(params))
    )
    assert [one.tokens for one in windowed] == [one.tokens for one in full]
    greedy = jax.jit(lambda *rows, chain: bind(spec, params).logits(bind(spec, params).forward(*rows, chain=chain)))
    for request, done in zip(rows, windowed, strict=True):
        assert len(done.tokens) == request.max_tokens
        if request.temperature == 0:
            # Each token is the likeliest in one pass over the whole row, without any cache.
            whole = jnp.asarray(
                [[*request.tokens, *done.tokens, *([0] * (96 - len(request.tokens) - len(done.tokens)))]]
            )
            ones = jnp.ones_like(whole)
            logits = greedy(whole, jnp.arange(96)[None], ones, chain=chains[request.chain or "base"])
            first = len(request.tokens) - 1
            assert list(done.tokens) == np.argmax(logits[0, first : first + len(done.tokens)], axis=-1).tolist()


@pytest.mark.parametrize("case", ["olmo3-yarn", "mistral-window", "gemma3-linear"])
def test_on_eight_devices_it_gives_the_text_of_transformers(case: str) -> None:
    expected = np.load(GOLDEN / case / "expected.npz")
    model = sgtr_jax.load_model(GOLDEN / case, mesh=MeshConfig(replica=2, fsdp=2, tensor=2))
    found = model.generate([expected[f"prompt{i}"].tolist() for i in range(4)], 12)
    assert found == [expected[f"generated{i}"].tolist() for i in range(4)]


def test_the_memory_that_is_saved_is_that_of_the_windows() -> None:
    spec = spec_of(
        GEMMA, sliding_window=16, num_hidden_layers=6, layer_types=[*["sliding_attention"] * 5, "full_attention"]
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    shape = DecodeShape(8, 512, stop_ids=4, tokens=8, draws=False, truncates=False, top_logprobs=None)

    def argument_bytes(layout: Any) -> int:
        params = abstract_params(spec, layout=layout)
        memory = DecodeProgram(spec, mesh, params, (), shape).compiled.memory_analysis()
        assert memory is not None
        return int(memory.argument_size_in_bytes)

    saved = argument_bytes("stacked") - argument_bytes("apart")
    token = 2 * 4 * 8 * spec.num_kv_heads * spec.head_dim  # keys and values of all rows, in float32
    assert saved == pytest.approx(5 * (512 - 16) * token, rel=0.01)
