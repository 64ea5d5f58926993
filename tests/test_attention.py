"""Every implementation of attention is the reference, to what its dtype can hold."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgtr_jax.mesh import MeshConfig, make_mesh
from sgtr_jax.models.attention import Visibility, attend


def inputs(T: int, H: int, dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array, Visibility]:
    """Two rows of packed segments with padding at the end; 4 query heads over 2 key-value heads."""
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.standard_normal((2, T, 4, H)), dtype)
    k, v = (jnp.asarray(rng.standard_normal((2, 2, T, H)), dtype) for _ in range(2))
    segments = np.zeros((2, T), np.int32)
    positions = np.zeros((2, T), np.int32)
    for row, cuts in enumerate(((0, 5, T // 2, T - 9), (0, T // 3, T - 30))):
        for number, (start, end) in enumerate(itertools.pairwise(cuts), start=1):
            segments[row, start:end] = number
            positions[row, start:end] = np.arange(end - start)
    both = (jnp.asarray(positions), jnp.asarray(segments))
    return q, k, v, Visibility(*both, *both)


def plain(q: jax.Array, k: jax.Array, v: jax.Array, visibility: Visibility) -> jax.Array:
    """Softmax attention written as the formula, head by head, in float32."""
    q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
    k, v = (jnp.repeat(x, 2, axis=1) for x in (k, v))
    scores = jnp.einsum("btnh,bnsh->bnts", q, k, precision="highest") / np.sqrt(q.shape[-1])
    scores = jnp.where(visibility.mask()[:, None], scores, -jnp.inf)
    mixed = jnp.einsum("bnts,bnsh->btnh", jax.nn.softmax(scores), v, precision="highest")
    return jnp.where((visibility.query_segments > 0)[:, :, None, None], mixed, 0)


def difference(a: jax.Array, b: jax.Array, visibility: Visibility) -> float:
    real = (visibility.query_segments > 0)[:, :, None, None]
    return float(jnp.abs(jnp.where(real, a.astype(jnp.float32) - b.astype(jnp.float32), 0)).max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)])
@pytest.mark.parametrize("kind", ["xla", "splash_interpret"])
@pytest.mark.parametrize(("T", "H"), [(128, 128), (384, 64), (640, 128)])
def test_in_order_attention(kind: Any, T: int, H: int, dtype: Any, tolerance: float) -> None:
    q, k, v, visibility = inputs(T, H, dtype)
    found = attend(q, k, v, visibility, in_order=True, kind=kind)
    assert difference(found, plain(q, k, v, visibility), visibility) < tolerance


@pytest.mark.parametrize("kind", ["xla", "splash_interpret"])
def test_gradients(kind: Any) -> None:
    q, k, v, visibility = inputs(384, 128)
    weight = jnp.where((visibility.query_segments > 0)[:, :, None, None], jnp.cos(jnp.arange(128.0)), 0)

    def total(run: Any) -> Any:
        return jax.grad(lambda *x: jnp.sum(run(*x) * weight), argnums=(0, 1, 2))(q, k, v)

    found = total(lambda *x: attend(*x, visibility, in_order=True, kind=kind))
    wanted = total(lambda *x: plain(*x, visibility))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_the_kernel_split_over_a_mesh() -> None:
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2), jax.devices()[:4])
    q, k, v, visibility = inputs(128, 128)
    with jax.set_mesh(mesh):
        found = jax.jit(lambda *x: attend(*x, in_order=True, kind="splash_interpret"))(q, k, v, visibility)
    assert difference(found, plain(q, k, v, visibility), visibility) < 1e-5
