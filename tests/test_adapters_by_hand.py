"""Adapters joined, aligned and merged: sums against float64 products of the factors, rounding against numpy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from pydantic import ValidationError
from tiny import random_params, spec_of

from sgtr_jax.lora.adapter import Adapter, init_adapter
from sgtr_jax.lora.config import PROJECTIONS, LoraConfig
from sgtr_jax.lora.transforms import _merge_kernel, align, concatenate, merge, merge_in_turn

SPEC = spec_of()
L = SPEC.num_layers


def adapter(seed: int, rank: int, targets: tuple[str, ...], scale: float, size: float = 0.3) -> Adapter:
    rng = np.random.default_rng(seed)
    params: Any = {}  # of numpy: importing this file shall not start JAX
    for name in targets:
        into, out = SPEC.projections[name]
        a, b = (np.asarray(size * rng.standard_normal((L, rank, n)), np.float32) for n in (into, out))
        params[name] = {"a": a, "b": b}
    whole: Any = np.float32(scale)
    return Adapter(params, whole)


def update(chain: Any, name: str) -> np.ndarray:
    """What a chain adds to a projection, `[L, in, out]` float64."""
    total = np.zeros((L, *SPEC.projections[name]))
    for link in chain:
        if name in link.params:
            a, b = (np.asarray(link.params[name][side], np.float64) for side in "ab")
            total += float(link.scale) * np.einsum("lri,lro->lio", a, b)
    return total


def test_settings_of_an_adapter() -> None:
    assert LoraConfig(targets=("o_proj", "q_proj")).targets == ("q_proj", "o_proj")
    assert LoraConfig().targets == PROJECTIONS and len(set(PROJECTIONS)) == 7
    valid = "valid: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    for targets, said in ((("q_proj", "lm_head", "x"), "['lm_head', 'x'] matches"), ((), "nothing matches")):
        with pytest.raises(ValidationError) as caught:
            LoraConfig(targets=targets)
        assert f"{said} no projection; {valid}" in str(caught.value)
    assert LoraConfig(rank=4, alpha=6.0).scale == 3.0 and LoraConfig(rank=4, alpha=6.0, rslora=False).scale == 1.5


def test_a_fresh_adapter_is_uniform_up_to_its_bound_and_each_projection_has_its_own() -> None:
    config = LoraConfig(rank=8, targets=("q_proj", "o_proj", "down_proj"), alpha=4.0)
    made = init_adapter(SPEC, config, jax.random.key(3))
    assert list(made.params) == ["q_proj", "o_proj", "down_proj"] and made.scale.dtype == jnp.float32
    for place, (name, pair) in enumerate(made.params.items()):
        into, out = SPEC.projections[name]
        unit = jax.random.uniform(jax.random.fold_in(jax.random.key(3), place), (L, 8, into))
        np.testing.assert_allclose(pair["a"], (2 * np.asarray(unit) - 1) / np.sqrt(into), atol=1e-6)
        assert pair["a"].dtype == pair["b"].dtype == jnp.float32
        assert pair["b"].shape == (L, 8, out) and not np.asarray(pair["b"]).any()


CHAINS = [
    (),
    (adapter(0, 3, ("q_proj", "down_proj"), 0.5),),
    (adapter(1, 2, ("q_proj", "up_proj"), 2.0), adapter(2, 4, ("q_proj", "k_proj"), -1.5)),
    (adapter(3, 1, ("down_proj",), 3.0), adapter(4, 2, ("down_proj",), 1.0), adapter(5, 2, ("v_proj",), 0.25)),
]


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_as_one_adapter_adds_what_the_chain_adds(chain: tuple[Adapter, ...]) -> None:
    one = concatenate(list(chain))
    assert isinstance(one, tuple) and len(one) == min(1, len(chain))
    for name in PROJECTIONS:
        np.testing.assert_allclose(update(one, name), update(chain, name), atol=1e-5)
        ranks = sum(link.params[name]["a"].shape[1] for link in chain if name in link.params)
        assert not one or (name in one[0].params) == (ranks > 0)
        if ranks:
            assert one[0].params[name]["a"].shape[1] == one[0].params[name]["b"].shape[1] == ranks
    if len(chain) == 1:
        assert one[0] is chain[0]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 1), (1, 1)])
def test_aligned_chains_have_equal_shapes_and_add_the_same(order: tuple[int, ...]) -> None:
    chains = [CHAINS[i] for i in order]
    aligned = align(chains)
    assert len(aligned) == len(chains) and all(len(chain) == 1 for chain in aligned)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), chain[0].params) for chain in aligned]
    assert all(shape == shapes[0] for shape in shapes)
    for name in PROJECTIONS:
        ranks = [sum(link.params[name]["a"].shape[1] for link in c if name in link.params) for c in chains]
        assert (name in shapes[0]) == (max(ranks) > 0)
        if max(ranks):
            assert shapes[0][name]["a"] == ((L, max(ranks), SPEC.projections[name][0]), jnp.float32)
        for chain, one in zip(chains, aligned, strict=True):
            np.testing.assert_allclose(update(one, name), update(chain, name), atol=1e-5)
    assert align([(), ()]) == [(), ()] and align([]) == []


def rounded(x: np.ndarray, dtype: Any) -> np.ndarray:
    return x.astype(np.float32).astype(dtype).astype(np.float64)


@pytest.mark.parametrize("base", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("rounding", [None, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_merging_rounds_once_and_says_what_was_lost(base: Any, rounding: Any) -> None:
    params = random_params(SPEC, 0, base)
    chain = CHAINS[2]
    merged, lost = merge(params, chain, rounding)
    assert set(lost) == {"q_proj", "k_proj", "up_proj"} and set(merged) == set(params)
    for name, layer in params["layers"].items():
        if name not in lost:
            assert merged["layers"][name] is layer
            continue
        kernel, added = np.asarray(layer["kernel"], np.float64), update(chain, name)
        # In the base's own dtype, whatever it was rounded to before.
        wanted = rounded(rounded(kernel + added, rounding or base), base)
        found = merged["layers"][name]["kernel"]
        assert found.dtype == base and {k: v for k, v in merged["layers"][name].items() if k != "kernel"} == {
            k: v for k, v in layer.items() if k != "kernel"
        }
        coarse = rounding or base
        step = 1e-5 if coarse == np.float32 else 2.0**-7 if coarse == ml_dtypes.bfloat16 else 2.0**-3
        off = np.abs(np.asarray(found, np.float64) - wanted)
        assert (off <= 1e-5 + step * np.abs(wanted)).all() and (off > 1e-5).mean() < 0.01
        share = np.sqrt(((np.asarray(found, np.float64) - kernel - added) ** 2).sum() / (added**2).sum())
        assert lost[name] == pytest.approx(share, rel=1e-3, abs=1e-6)


def test_the_product_of_the_factors_has_the_highest_precision() -> None:
    """A TPU multiplies in bfloat16 by default; a CPU does not, so that no number here would tell."""
    pairs = [(link.params["q_proj"], link.scale) for link in CHAINS[2]]
    kernel = random_params(SPEC)["layers"]["q_proj"]["kernel"]
    program = str(jax.make_jaxpr(_merge_kernel, static_argnums=2)(kernel, pairs, jnp.dtype(jnp.float32)))
    assert program.count("dot_general[") == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == 2


def test_nothing_is_lost_of_nothing() -> None:
    params = random_params(SPEC)
    still = adapter(1, 2, ("q_proj",), 0.0)
    merged, lost = merge(params, (still,))
    assert lost == {"q_proj": 0.0}
    np.testing.assert_array_equal(merged["layers"]["q_proj"]["kernel"], params["layers"]["q_proj"]["kernel"])
    assert merge(params, ())[1] == {}


def test_merging_in_turn_is_merging_each_and_rounding() -> None:
    params = random_params(SPEC)
    found, lost = merge_in_turn(params, CHAINS[2])
    first, lost_first = merge(params, CHAINS[2][:1], jnp.bfloat16)
    second, lost_second = merge(first, CHAINS[2][1:], jnp.bfloat16)
    assert lost == [lost_first, lost_second] and merge_in_turn(params, ()) == (params, [])
    jax.tree.map(np.testing.assert_array_equal, found, second)
    kernel = np.asarray(found["layers"]["q_proj"]["kernel"], np.float32)
    np.testing.assert_array_equal(kernel, rounded(kernel, ml_dtypes.bfloat16))
