"""Layers stacked and layers apart: the same numbers everywhere, and no second copy of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import OLMO, QWEN, make_model, random_params, spec_of

from sgtr_jax.distributed.layout import layer_layout
from sgtr_jax.distributed.mesh import SAMPLING, TRAINING, MeshConfig, make_mesh
from sgtr_jax.lora.adapter import Adapter, LoraConfig, init_adapter
from sgtr_jax.lora.transforms import merge
from sgtr_jax.models.decoder import Decoder, abstract_params, bind
from sgtr_jax.models.kv_cache import KVCache
from sgtr_jax.models.layer_loop import layers_apart
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.decode import DecodeProgram, DecodeShape
from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.model import convert_model
from sgtr_jax.sample.request import Request
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.step import RunConstants, make_gradient
from sgtr_jax.weights.converted import load_converted
from sgtr_jax.weights.load import load_params
from sgtr_jax.weights.quantize import quantize_leaf
from sgtr_jax.weights.save import save_params


def adapter_of(spec: ModelSpec, seed: int = 0) -> Adapter:
    adapter = init_adapter(spec, LoraConfig(rank=4), jax.random.key(seed))
    rng = np.random.default_rng(seed)
    params = {n: {"a": p["a"], "b": jnp.float32(0.1 * rng.standard_normal(p["b"].shape))}
              for n, p in adapter.params.items()}  # fmt: skip
    return Adapter(params, adapter.scale)


def same(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


@pytest.mark.parametrize("int8", [False, True])
def test_folders_give_the_same_weights_in_both_layouts(tmp_path: Path, int8: bool) -> None:
    spec, mesh = make_model(tmp_path / "m", QWEN), make_mesh(MeshConfig(tensor=2))
    convert_model(str(tmp_path / "m"), tmp_path / "converted", None)
    each = quantize_leaf if int8 else None
    stacked = load_params(tmp_path / "m", spec, mesh, SAMPLING, np.float32, each)
    for load, folder in ((load_params, "m"), (load_converted, "converted")):
        apart = load(tmp_path / folder, spec, mesh, SAMPLING, np.float32, each, "apart")
        assert isinstance(apart["layers"], tuple) and len(apart["layers"]) == spec.num_layers
        same(apart, layers_apart(stacked))
        kernel = apart["layers"][1]["q_proj"]["kernel"]
        assert kernel.sharding.shard_shape(kernel.shape) == (32, 16)
    if not int8:
        (tmp_path / "out").mkdir()
        save_params(tmp_path / "out", apart, spec)
        same(*(load_file(tmp_path / name / "model.safetensors") for name in ("m", "out")))


def test_merging_is_the_same_in_both_layouts() -> None:
    spec = spec_of()
    params = jax.tree.map(jnp.asarray, random_params(spec))
    chain = (adapter_of(spec, 1), adapter_of(spec, 2))
    wanted, lost = merge(params, chain, jnp.bfloat16)
    found, lost_apart = merge(layers_apart(params), chain, jnp.bfloat16)
    same(found, layers_apart(wanted))
    assert lost_apart == pytest.approx(lost, rel=1e-5)


@pytest.mark.parametrize("remat", ["light", pytest.param("full", marks=pytest.mark.slow)])
def test_gradients_are_the_same_in_both_layouts(remat: Any) -> None:
    """Windows and ropes that differ from layer to layer, dropout, an adapter below the trained one, packed rows."""
    spec = spec_of(OLMO)
    params = random_params(spec)
    config = TrainConfig(dtype="float32", remat=remat, residual_dropout=0.2, attention_dropout=0.1)
    rng = np.random.default_rng(0)
    batch = {
        "tokens": rng.integers(0, 320, (2, 16)).astype(np.int32),
        "positions": np.tile(np.r_[np.arange(9), np.arange(7)].astype(np.int32), (2, 1)),
        "segments": np.tile(np.r_[np.full(9, 1), np.full(7, 2)].astype(np.int32), (2, 1)),
        "target_positions": np.asarray([[3, 12], [7, 14]], np.int32),
        "target_tokens": np.asarray([[5, 9], [11, 2]], np.int32),
        "target_weights": np.ones((2, 2), np.float32),
    }
    key = np.asarray([0, 3], np.uint32)
    constants = RunConstants((adapter_of(spec, 1),), jnp.float32(0.7), key, jnp.float32(1.0), jnp.int32(1))
    own = adapter_of(spec, 2).params
    gradient = jax.jit(make_gradient(spec, config, "xla"))
    wanted = gradient(own, params, constants, batch, jax.random.key(5))
    found = gradient(own, layers_apart(params), constants, batch, jax.random.key(5))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5, rtol=1e-4), found, wanted)


def test_the_engine_gives_the_same_in_both_layouts() -> None:
    """Prefill, shared prefixes, chains in one batch and decoding."""
    spec = spec_of(OLMO)
    params = jax.tree.map(jnp.asarray, random_params(spec))
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    chains = {"a": (adapter_of(spec, 1),), "b": (adapter_of(spec, 2), adapter_of(spec, 3))}
    start = tuple(map(int, np.random.default_rng(0).integers(1, 320, 60)))
    rows = [Request(f"p{i}", (*start, 5 + i), 6, float(i % 2), 0, 0, name) for i in range(3) for name in chains]
    engines = [Engine(spec, own, mesh, chains) for own in (params, layers_apart(params))]
    wanted, found = ([one.tokens for one in engine.sample(rows)] for engine in engines)
    assert found == wanted
    prompts = [(*start, 7, 9), (*start, 8)]
    scores = [engine.score(prompts, [(3, 4), (5,)], "b") for engine in engines]
    for one, other in zip(*scores, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)


def test_cache_of_prompts_has_the_layout_of_the_weights() -> None:
    spec = spec_of()
    params = jax.tree.map(jnp.asarray, random_params(spec))
    rows = jnp.arange(8)[None], jnp.arange(8)[None], jnp.ones((1, 8), jnp.int32)
    _, stacked = bind(spec, params).prefill(*rows)
    _, apart = bind(spec, layers_apart(params)).prefill(*rows)
    assert isinstance(apart, KVCache) and isinstance(apart.keys, tuple)
    np.testing.assert_allclose(np.stack(apart.keys), stacked.keys, atol=1e-5, rtol=0)


BIG = spec_of(hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_decoding_holds_no_second_copy(with_adapter: bool) -> None:
    """What the compiled program keeps besides its arguments is less than one layer's weights."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    params = abstract_params(BIG, layout="apart")
    one_layer = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params["layers"][0]))
    adapter = jax.eval_shape(lambda: adapter_of(BIG))
    chain = (adapter,) if with_adapter else ()
    shape = DecodeShape(4, 64, stop_ids=4, tokens=8, draws=False, truncates=False, top_logprobs=None)
    memory = DecodeProgram(BIG, mesh, params, chain, shape).compiled.memory_analysis()
    assert memory is not None
    own = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(chain))
    assert memory.temp_size_in_bytes < one_layer + own


def test_layout_of_each_backend() -> None:
    class Devices:
        def __init__(self, platform: str) -> None:
            self.devices = np.asarray([self])
            self.platform = platform

    found = {
        (platform, name): layer_layout(Devices(platform), rules)  # type: ignore[arg-type]
        for platform in ("cpu", "gpu", "tpu")
        for name, rules in (("training", TRAINING), ("sampling", SAMPLING))
    }
    apart = {where for where, layout in found.items() if layout == "apart"}
    assert apart == {("gpu", "training"), ("gpu", "sampling"), ("cpu", "sampling")}


def test_layers_that_lie_apart_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of 64 layers is traced in the time of one: the layers of each kind share a function."""
    traced: list[int] = []
    original = Decoder._layer

    def spy(self: Decoder, inputs: Any, chain: Any) -> Any:
        traced.append(1)
        return original(self, inputs, chain)

    monkeypatch.setattr(Decoder, "_layer", spy)
    rows = [jax.ShapeDtypeStruct((1, 8), jnp.int32)] * 3
    for spec, kinds in ((spec_of(num_hidden_layers=4), 1), (spec_of(OLMO), 3)):
        traced.clear()
        jax.eval_shape(lambda p, *r, s=spec: bind(s, p).forward(*r), abstract_params(spec, layout="apart"), *rows)
        assert len(traced) == kinds
