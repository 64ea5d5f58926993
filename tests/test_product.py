"""The product of adapters and its gradient, against float64 products written out in numpy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from sgtr_jax.lora.product import grouped_low_rank_product, low_rank_product, matmul

INTO, OUT, RANK = 6, 5, 3


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def wide(x: Any) -> np.ndarray:
    return np.asarray(x, np.float64)


@pytest.mark.parametrize("kernel", [np.float32, np.int8, ml_dtypes.bfloat16])
def test_a_matrix_product_has_the_type_of_its_rows(kernel: Any) -> None:
    x, w = drawn(0, 2, 4, INTO), (3 * drawn(1, INTO, OUT)).astype(kernel)
    found = matmul(jnp.asarray(x), jnp.asarray(w))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wide(x) @ wide(w), rtol=1e-6, atol=1e-6)
    assert matmul(jnp.asarray(x, jnp.bfloat16), jnp.asarray(w)).dtype == jnp.bfloat16


@pytest.mark.parametrize("scale", [1.0, -0.75])
def test_one_adapters_product_and_its_gradients(scale: float) -> None:
    x, a, b, g = drawn(0, 2, 4, INTO), drawn(1, RANK, INTO), drawn(2, RANK, OUT), drawn(3, 2, 4, OUT)
    found, back = jax.vjp(low_rank_product, *map(jnp.asarray, (x, a, b)), jnp.float32(scale))
    np.testing.assert_allclose(found, scale * wide(x) @ wide(a).T @ wide(b), rtol=1e-5, atol=1e-5)
    of_x, of_a, of_b, of_scale = back(jnp.asarray(g))
    rows, gradient = wide(x).reshape(-1, INTO), wide(g).reshape(-1, OUT)
    np.testing.assert_allclose(of_x, scale * wide(g) @ wide(b).T @ wide(a), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_a, scale * wide(b) @ gradient.T @ rows, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_b, scale * wide(a) @ rows.T @ gradient, rtol=1e-5, atol=1e-5)
    assert of_scale == 0  # it is no parameter


def test_rows_of_several_adapters_use_their_own_and_its_gradients_are_of_them_alone() -> None:
    """Row b uses adapter b % C, as the docstring says; two rows of each of three."""
    x, a, b, g = drawn(0, 6, 2, INTO), drawn(1, 3, RANK, INTO), drawn(2, 3, RANK, OUT), drawn(3, 6, 2, OUT)
    scale = np.asarray([1.0, -0.5, 2.0], np.float32)
    found, back = jax.vjp(grouped_low_rank_product, *map(jnp.asarray, (x, a, b, scale)))
    of_x, of_a, of_b, _ = map(wide, back(jnp.asarray(g)))
    wanted_a, wanted_b = np.zeros((3, RANK, INTO)), np.zeros((3, RANK, OUT))
    for row in range(6):
        c = row % 3
        low, up = scale[c] * wide(a[c]).T @ wide(b[c]), wide(g[row])
        np.testing.assert_allclose(found[row], wide(x[row]) @ low, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(of_x[row], up @ low.T, rtol=1e-5, atol=1e-5)
        wanted_a[c] += scale[c] * wide(b[c]) @ up.T @ wide(x[row])
        wanted_b[c] += scale[c] * wide(a[c]) @ wide(x[row]).T @ up
    np.testing.assert_allclose(of_a, wanted_a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_b, wanted_b, rtol=1e-5, atol=1e-5)


def test_low_precision_has_factors_of_float32_and_sums_over_tokens_in_float32() -> None:
    """4,096 equal products: bfloat16, which steps by 2 beyond 256, would stop growing there."""
    x, g = jnp.full((4096, 2), 0.5, jnp.bfloat16), jnp.full((4096, 1), 0.5, jnp.bfloat16)
    a, b = jnp.ones((1, 2), jnp.float32), jnp.ones((1, 1), jnp.float32)
    found, back = jax.vjp(low_rank_product, x, a, b, jnp.float32(0.125))
    of_x, of_a, of_b, of_scale = back(g)
    assert (found.dtype, of_x.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert of_a.dtype == of_b.dtype == of_scale.dtype == jnp.float32
    assert of_a.tolist() == [[128.0, 128.0]] and of_b.tolist() == [[256.0]]
    several = grouped_low_rank_product(x[:4, None], a[None], b[None], jnp.asarray([0.125]))
    assert several.dtype == jnp.bfloat16 and several.tolist() == [[[0.125]]] * 4


def test_float32_is_multiplied_as_such_and_other_types_as_the_device_does() -> None:
    """What a TPU does by default with float32 is seen in the program alone: on a CPU both are the same."""
    a, b, one = jnp.ones((1, RANK, INTO)), jnp.ones((1, RANK, OUT)), jnp.ones(1)

    def programs(dtype: Any) -> list[str]:
        x = jnp.ones((2, 4, INTO), dtype)

        def gradients(x: jax.Array, a: jax.Array, b: jax.Array) -> Any:
            return jax.vjp(low_rank_product, x, a, b, jnp.float32(1))[1](jnp.ones((2, 4, OUT), dtype))

        made = (
            jax.make_jaxpr(grouped_low_rank_product)(x, a, b, one),
            jax.make_jaxpr(gradients)(x, a[0], b[0]),
            jax.make_jaxpr(matmul)(x, a[0].T),
        )
        return [str(eqn.params["precision"]) for program in made for eqn in program.eqns if "dot" in eqn.primitive.name]

    exact, fast = programs(jnp.float32), programs(jnp.bfloat16)
    assert len(exact) == len(fast) >= 7
    assert all("HIGHEST" in one for one in exact) and not any("HIGHEST" in one for one in fast)
