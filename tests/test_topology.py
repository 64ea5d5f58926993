"""Training steps compiled for TPU slices that are not here. Needs libtpu (`make slow` installs it)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from sgtr_jax.data.packing import PackedShape
from sgtr_jax.distributed.compiler_options import OPTIONS, compiler_options
from sgtr_jax.estimate.communication import collective_bytes, collectives
from sgtr_jax.estimate.model_shapes import shipped_spec
from sgtr_jax.estimate.topology import compile_decode, compile_step, topology_mesh
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.train.config import TrainConfig

pytest.importorskip("libtpu")
pytestmark = pytest.mark.slow

QWEN_32B: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "vocab_size": 152064,
    "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40,
    "num_key_value_heads": 8, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "tie_word_embeddings": False, "eos_token_id": 151645,
}  # fmt: skip


def spec_32b(layers: int) -> ModelSpec:
    return dataclasses.replace(spec_from_config(QWEN_32B, "Qwen2.5-32B"), num_layers=layers)


def test_five_runs_at_once_gather_the_weights_once() -> None:
    """Short-example steps, fsdp over 16 chips: what a run moves, alone and among five."""
    mesh = topology_mesh("v5e:4x4", (1, 16, 1))
    spec, shape = spec_32b(layers=4), PackedShape(16, 64, 24)
    alone, together = (
        sum(collective_bytes(compile_step(spec, TrainConfig(), mesh, runs, shape)).values()) / runs for runs in (1, 5)
    )
    weights = 2 * spec.num_layers * sum(a * b for a, b in spec.projections.values())
    # Forward and backward each gather every weight.
    assert 1.8 * weights < alone < 3 * weights
    assert together <= alone / 4


@pytest.mark.parametrize(("head_dim", "length"), [(128, 2048), (64, 512)])
def test_splash_attention_is_compiled_in(head_dim: int, length: int) -> None:
    # Its heads, in a narrower model: it compiles much sooner.
    spec = dataclasses.replace(
        spec_32b(layers=2), head_dim=head_dim, hidden_size=1024, intermediate_size=2048, vocab_size=2048
    )
    compiled = compile_step(spec, TrainConfig(), topology_mesh("v6e:2x2", (1, 2, 2)), 1, PackedShape(4, length, 8))
    # Forward, its repetition in the backward pass, and two kernels of the backward pass.
    assert compiled.as_text().count("tpu_custom_call") >= 4


def test_decoding_writes_one_token_of_each_layer_in_place() -> None:
    """256 rows of 2,048 tokens: the cache is most of what a layer reads, so that writing it whole would show.

    Two key-value heads on each chip: with one (tensor: 8) the compiler lays so large a cache out in an order in which
    it must copy each layer before reading it, whatever layout is asked for.
    """
    chips, tensor, rows, slots = 8, 4, 256, 2048
    spec = spec_32b(layers=4)
    compiled = compile_decode(spec, topology_mesh("v6e:2x4", (1, chips // tensor, tensor)), rows, slots)
    cache = 2 * 2 * spec.num_layers * rows * spec.num_kv_heads * slots * spec.head_dim / chips
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= cache and memory.temp_size_in_bytes < 0.1 * cache
    # Bytes of one token and one layer, as the compiler counts them: a loop's body once, an embedding look-up as the
    # whole table. The head is one more table.
    table = 2 * spec.vocab_size * spec.hidden_size / tensor
    weights = 2 * sum(a * b for a, b in spec.projections.values()) / tensor
    needed = 2 * table + weights + cache / spec.num_layers
    assert compiled.cost_analysis()["bytes accessed"] <= 1.15 * needed


@pytest.mark.parametrize(("rows", "slots"), [(256, 192), (128, 448)])
def test_caches_whose_positions_save_padding_the_other_way_round(rows: int, slots: int) -> None:
    """As an argument and as a result, positions `[rows, slots]` must have one layout."""
    spec = dataclasses.replace(shipped_spec("Qwen2.5-0.5B-Instruct"), num_layers=2)
    memory = compile_decode(spec, topology_mesh("v5e:1x1", (1, 1, 1)), rows, slots).memory_analysis()
    cache = 2 * 2 * spec.num_layers * rows * spec.num_kv_heads * slots * spec.head_dim
    assert memory.alias_size_in_bytes >= cache


def test_gathers_of_weights_run_beside_products_on_v6e_with_the_options_that_are_set() -> None:
    """Two products in each of four layers, their weights split over eight chips, as libtpu schedules them."""
    mesh = topology_mesh("v6e:2x4", (1, 8, 1))
    layers, hidden, wide = 4, 4096, 16384

    def along(*axes: str | None) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*axes))

    def block(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
        def layer(x: jax.Array, weights: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            whole_up, whole_down = (jax.lax.with_sharding_constraint(w, along()) for w in weights)
            return x + jax.nn.silu(x @ whole_up) @ whole_down, None

        return jax.lax.scan(layer, x, (up, down))[0]

    given = [
        jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)
        for shape, sharding in (
            ((16 * 1024, hidden), along("fsdp")),
            ((layers, hidden, wide), along(None, "fsdp")),
            ((layers, wide, hidden), along(None, None, "fsdp")),
        )
    ]
    lowered = jax.jit(block, out_shardings=along("fsdp")).lower(*given)
    options = compiler_options(list(mesh.devices.flat))
    assert options == OPTIONS["TPU v6 lite"]
    # Before the first product of a layer there is nothing beside which its weights could be gathered.
    for asked, asynchronous in ((None, 0), (options, 1)):
        found = collectives(lowered.compile(asked))
        # Each weight is gathered once in each layer, and nothing else moves.
        assert [(one.kind, one.size, one.times) for one in found] == [("all-gather", 2 * hidden * wide, layers)] * 2
        assert sum(one.is_asynchronous for one in found) == asynchronous
