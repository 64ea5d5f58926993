"""The gradient of a packed step is that of its padded batch, with windows and without, accumulated or not."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from runs import config_of
from tiny import GEMMA, OLMO, QWEN, SEED, random_params, spec_of

from sgtr_jax.data.packing import Example, PackedShape, measure, pack
from sgtr_jax.lora.adapter import Adapter, init_adapter
from sgtr_jax.lora.config import LoraConfig
from sgtr_jax.models.decoder import abstract_params, bind
from sgtr_jax.train.loss import target_loss
from sgtr_jax.train.step import RunConstants, make_gradient

LONGEST, ROW = 20, 32
PADDED, PACKED = PackedShape(16, LONGEST, LONGEST), PackedShape(8, ROW, ROW)


# The last two have layers with windows shorter than the examples, and ropes by kind of layer.
FAMILIES = {"qwen2": QWEN, "seed_oss": SEED, "olmo3": OLMO, "gemma3_text": GEMMA}


@lru_cache
def family(name: str, accumulate: int, dtype: Any) -> tuple[Any, Any, Any]:
    spec = spec_of(FAMILIES[name])
    config = config_of(f"accumulate={accumulate}")
    rng = np.random.default_rng(1)
    adapter = init_adapter(spec, config.lora, jax.random.key(0)).params
    adapter = jax.tree.map(lambda x: np.asarray(x + 0.05 * rng.standard_normal(x.shape), dtype), adapter)
    return random_params(spec, dtype=dtype), adapter, jax.jit(make_gradient(spec, config, "xla"))


def drawn(lengths: list[int], seed: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    examples = []
    for i, n in enumerate(lengths):
        target = rng.random(n) < 0.4
        target[-1] = True
        examples.append(Example(f"e{i}", rng.integers(3, 320, n).astype(np.int32), target))
    return examples


def both(name: str, accumulate: int, examples: list[Example], dtype: Any = np.float32) -> tuple[Any, Any]:
    """Loss terms and gradient of the padded batch, and of the packed one."""
    base, adapter, gradient = family(name, accumulate, dtype)
    numbers: Any = (dtype(0.7), np.zeros(2, np.uint32), dtype(1), np.int32(9))
    constants, key = RunConstants((), *numbers), jax.random.key(0)
    # A row for every example: rows shorter than the longest are padded.
    shares = [pack([example], PackedShape(1, PADDED.length, PADDED.loss_positions)).arrays() for example in examples]
    empty = pack([], PackedShape(1, PADDED.length, PADDED.loss_positions)).arrays()
    shares += [empty] * (PADDED.rows - len(shares))
    padded = {part: np.concatenate([share[part] for share in shares]) for part in empty}
    batches = (
        {part: value.astype(dtype) if value.dtype == np.float32 else value for part, value in batch.items()}
        for batch in (padded, pack(examples, PACKED).arrays())
    )
    one, other = (gradient(adapter, base, constants, batch, key) for batch in batches)
    return one, other


def distance(one: Any, other: Any) -> float:
    """How far gradients are apart, as a part of the first one's length."""
    error = sum(float(jnp.sum((a - b) ** 2)) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))
    return float((error / sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(one))) ** 0.5)


@pytest.mark.parametrize(
    ("name", "accumulate"),
    [("qwen2", 1), ("qwen2", 4), ("seed_oss", 1), ("seed_oss", 4), ("olmo3", 1), ("gemma3_text", 1)],
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(2, LONGEST), min_size=1, max_size=16), seed=st.integers(0, 1000))
def test_packed_equals_padded(name: str, accumulate: int, lengths: list[int], seed: int) -> None:
    examples = drawn(lengths, seed)
    assume(measure(examples, ROW)[0] <= PACKED.rows)
    (wanted_terms, wanted), (terms, found) = both(name, accumulate, examples)
    assert float(terms["loss"]) == pytest.approx(float(wanted_terms["loss"]), rel=1e-5)
    # What is left is float32's rounding (see the next test), and Gemma's gradients are sums of larger terms: embeddings
    # times the root of their width, norms after every block.
    assert distance(wanted, found) < (3e-5 if name == "gemma3_text" else 1e-5)


@pytest.mark.slow
def test_in_float64_packed_and_padded_agree_to_its_rounding() -> None:
    """In a process of its own, as the shapes that are checked here say float32."""
    script = Path(__file__).parent / "support" / "float64_gradients.py"
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found.keys() == FAMILIES.keys() and max(found.values()) < 1e-14, found


def test_the_head_of_a_long_row_with_two_targets_needs_no_logits_of_the_row() -> None:
    """2,048 tokens, 2 of them targets, a vocabulary of 152,064: `[T, V]` in float32 would be 1.2 GB."""
    spec = spec_of(QWEN, vocab_size=152_064, max_position_embeddings=4096, num_hidden_layers=1)
    lora = LoraConfig(rank=4)

    def loss(params: Any, base: Any, batch: dict[str, jax.Array]) -> jax.Array:
        decoder = bind(spec, base)
        chain = (Adapter(params, jnp.float32(1.0)),)
        hidden = decoder.forward(batch["tokens"], batch["positions"], batch["segments"], chain=chain, remat="full")
        return target_loss(decoder, hidden, batch, head_is_frozen=True)

    adapter = jax.eval_shape(lambda: init_adapter(spec, lora, jax.random.key(0)).params)

    def temporary_bytes(loss_positions: int) -> int:
        rows, targets = (1, 2048), (1, loss_positions)
        batch = {name: jax.ShapeDtypeStruct(rows, jnp.int32) for name in ("tokens", "positions", "segments")}
        batch |= {f"target_{name}": jax.ShapeDtypeStruct(targets, jnp.int32) for name in ("positions", "tokens")}
        batch["target_weights"] = jax.ShapeDtypeStruct(targets, jnp.float32)
        compiled = jax.jit(jax.grad(loss)).lower(adapter, abstract_params(spec), batch).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    whole = 4 * 2048 * spec.vocab_size
    # All of the 20 MB head's copies and the attention's scores together stay far below.
    assert temporary_bytes(2) < whole / 8
    # Even with a loss on every token the head runs in chunks.
    assert temporary_bytes(2048) < whole / 2
