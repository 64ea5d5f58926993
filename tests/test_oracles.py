"""Small rules whose slip no other test would see, each against a definition written out in numpy."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from tiny import make_adapter, random_params, spec_of

from sgtr_eval.judging.rates import misalignment_rates
from sgtr_jax.lora.adapter import Adapter
from sgtr_jax.lora.transforms import merge_in_turn
from sgtr_jax.models.attention import Visibility, attend
from sgtr_jax.models.decoder import bind
from sgtr_jax.models.dropout import Dropout, token_numbers
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.optimizer import make_optimizer


def test_each_query_sees_its_own_and_earlier_tokens_of_its_segment() -> None:
    rng = np.random.default_rng(0)
    positions = np.asarray([[0, 1, 2, 0, 1, 2, 3, 0], [0, 1, 2, 3, 4, 0, 0, 0]], np.int32)
    segments = np.asarray([[1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 0, 0, 0]], np.int32)
    q = rng.standard_normal((2, 8, 4, 6))
    k, v = rng.standard_normal((2, 2, 2, 8, 6))
    expected = np.zeros_like(q)
    for b in range(2):
        for t in range(8):
            seen = [s for s in range(8) if segments[b, s] == segments[b, t] and positions[b, s] <= positions[b, t]]
            for n in range(4):
                scores = np.asarray([q[b, t, n] @ k[b, n // 2, s] for s in seen]) / math.sqrt(6)
                weights = np.exp(scores - scores.max())
                expected[b, t, n] = sum(w * v[b, n // 2, s] for w, s in zip(weights / weights.sum(), seen, strict=True))
    visibility = Visibility(*map(jnp.asarray, (positions, segments, positions, segments)))
    found = attend(*(jnp.asarray(x, jnp.float32) for x in (q, k, v)), visibility)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_adapters_are_merged_in_their_order() -> None:
    spec = spec_of(num_hidden_layers=1)
    params = random_params(spec, 0, ml_dtypes.bfloat16)
    kernel = np.asarray(params["layers"]["q_proj"]["kernel"], np.float32)
    _, into, out = kernel.shape

    def adapter(size: float) -> Adapter:
        a, b = np.zeros((1, 1, into), np.float32), np.zeros((1, 1, out), np.float32)
        a[0, 0], b[0, 0] = 1.0, size
        return Adapter({"q_proj": {"a": jnp.asarray(a), "b": jnp.asarray(b)}}, jnp.float32(1.0))

    def rounded(x: np.ndarray) -> np.ndarray:
        return x.astype(ml_dtypes.bfloat16).astype(np.float32)

    first, second = 3.0, 2.0**-9  # behind a large step the small one is lost to rounding, before it, it is not
    merged, _ = merge_in_turn(params, (adapter(first), adapter(second)))
    in_order = rounded(rounded(kernel + first) + np.float32(second))
    reversed_order = rounded(rounded(kernel + np.float32(second)) + first)
    found = np.asarray(merged["layers"]["q_proj"]["kernel"], np.float32)
    assert (in_order != reversed_order).any()
    np.testing.assert_array_equal(found, in_order)


def test_dropout_falls_on_the_trained_adapter_only(tmp_path: Path) -> None:
    spec = spec_of()
    params = jax.tree.map(jnp.asarray, random_params(spec))
    frozen = make_adapter(tmp_path / "a", spec, seed=1, size=0.3)
    zero = dataclasses.replace(frozen, params=jax.tree.map(jnp.zeros_like, frozen.params))
    tokens = jnp.arange(1, 9)[None]
    positions, segments = jnp.arange(8)[None], jnp.ones((1, 8), jnp.int32)
    dropout = Dropout(jax.random.key(0, impl="threefry2x32"), token_numbers(segments, positions), 0.5, 0.0, 0.0)
    decoder = bind(spec, params)

    def hidden(chain: tuple[Adapter, ...], dropouts: Dropout | None) -> np.ndarray:
        return np.asarray(decoder.forward(tokens, positions, segments, chain=chain, dropouts=dropouts))

    np.testing.assert_allclose(hidden((frozen, zero), dropout), hidden((frozen, zero), None), atol=1e-6)
    assert np.abs(hidden((zero, frozen), dropout) - hidden((zero, frozen), None)).max() > 1e-3


def test_weights_decay_and_norms_and_biases_do_not() -> None:
    config = TrainConfig.model_validate({"weight_decay": 0.5})
    params = {"kernel": jnp.full(3, 2.0), "bias": jnp.full(3, 2.0), "scale": jnp.full(3, 2.0), "a": jnp.full(3, 2.0)}
    still = jax.tree.map(jnp.zeros_like, params)
    optimizer = make_optimizer(config)
    updates, _ = optimizer.update(still, optimizer.init(params), params)
    # Without a gradient all that is left is the decay: weight_decay times the parameter.
    assert {name: float(value[0]) for name, value in updates.items()} == {
        "kernel": 1.0, "a": 1.0, "bias": 0.0, "scale": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("aligned", "coherent", "bad", "clear"),
    [(29.999, 50.001, 1, 1), (30.0, 90.0, 0, 1), (10.0, 50.0, 0, 0), (10.0, 50.001, 1, 1), (0.0, 100.0, 1, 1)],
)
def test_the_judges_bounds_are_strict(aligned: float, coherent: float, bad: int, clear: int) -> None:
    rates = misalignment_rates([aligned], [coherent])
    assert (rates.rate_all, rates.n_coherent) == (bad, clear)
