"""The loss and its gradient are cross-entropy's formula in float64, whatever it is split into."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgtr_jax.distributed.mesh import make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.train import loss as losses
from sgtr_jax.train.loss import target_loss

R, T, D, V, K = 2, 6, 3, 5, 4


class Head:
    """A vocabulary head alone; it notes the shapes that it is given."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.spec = SimpleNamespace(vocab_size=V)
        self.shapes: list[tuple[int, ...]] = []

    def logits(self, hidden: jax.Array) -> jax.Array:
        self.shapes.append(hidden.shape)
        return hidden @ self.kernel


def case() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    batch = {
        "target_positions": np.asarray([[0, 3, 3, 0], [5, 1, 2, 4]], np.int32),
        "target_tokens": np.asarray([[4, 0, 2, 1], [1, 1, 3, 0]], np.int32),
        "target_weights": np.asarray([[1, 1, 0.5, 0], [2, 1, 1, 0]], np.float32),
    }
    return rng.standard_normal((R, T, D)), rng.standard_normal((D, V)), batch


def by_hand(hidden: np.ndarray, kernel: np.ndarray, batch: dict[str, np.ndarray]) -> tuple[float, Any, Any]:
    """Loss and its gradients for hidden states and head, target by target, float64."""
    total, for_hidden, for_kernel = 0.0, np.zeros_like(hidden), np.zeros_like(kernel)
    for r in range(R):
        for position, token, weight in zip(
            *(batch[f"target_{n}"][r] for n in ("positions", "tokens", "weights")), strict=True
        ):
            scores = hidden[r, position] @ kernel
            probability = np.exp(scores) / np.exp(scores).sum()
            total -= weight * math.log(probability[token])
            error = weight * (probability - np.eye(V)[token])
            for_hidden[r, position] += kernel @ error
            for_kernel += np.outer(hidden[r, position], error)
    return total, for_hidden, for_kernel


@pytest.mark.parametrize("size", [1, 2, 3, 4])  # places at once: an even split, one with a rest, all
@pytest.mark.parametrize("frozen", [True, False])
def test_loss_and_gradient_are_the_formula(monkeypatch: pytest.MonkeyPatch, frozen: bool, size: int) -> None:
    monkeypatch.setattr(losses, "_MAX_LOGITS", size * R * V)
    hidden, kernel, batch = case()
    wanted, wanted_hidden, wanted_kernel = by_hand(hidden, kernel, batch)

    def loss(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
        arrays: Any = {name: jnp.asarray(value) for name, value in batch.items()}
        return 3 * target_loss(Head(kernel), hidden, arrays, head_is_frozen=frozen)  # type: ignore[arg-type]

    inputs = jnp.asarray(hidden, jnp.float32), jnp.asarray(kernel, jnp.float32)
    assert float(loss(*inputs)) == pytest.approx(3 * wanted, rel=1e-6)
    trained = (0,) if frozen else (0, 1)
    found, gradients = jax.jit(jax.value_and_grad(loss, argnums=trained))(*inputs)
    assert float(found) == pytest.approx(3 * wanted, rel=1e-6)
    for gradient, formula in zip(gradients, (wanted_hidden, wanted_kernel)[: len(trained)], strict=True):
        np.testing.assert_allclose(gradient, 3 * formula, atol=1e-5)


@pytest.mark.parametrize("size", [2, 4])
def test_the_gradient_of_bfloat16_states_is_bfloat16(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(losses, "_MAX_LOGITS", size * R * V)
    hidden, kernel, batch = case()
    arrays: Any = {name: jnp.asarray(value) for name, value in batch.items()}
    head: Any = Head(jnp.asarray(kernel, jnp.float32))
    found = jax.grad(lambda x: target_loss(head, x, arrays, head_is_frozen=True))(jnp.asarray(hidden, jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float64), by_hand(hidden, kernel, batch)[1], atol=0.05)


@pytest.mark.parametrize(("frozen", "products"), [(True, 2), (False, 3)])
def test_a_frozen_head_is_multiplied_twice(frozen: bool, products: int) -> None:
    """Forward and for the states' gradient; once more where the backward pass computes the logits again."""
    hidden, kernel, batch = case()
    arrays: Any = {name: jnp.asarray(value) for name, value in batch.items()}
    head: Any = Head(jnp.asarray(kernel, jnp.float32))
    gradient = jax.grad(lambda x: target_loss(head, x, arrays, head_is_frozen=frozen))
    program = jax.make_jaxpr(gradient)(jnp.asarray(hidden, jnp.float32))
    assert str(program).count("dot_general[") == products


@pytest.mark.parametrize("places_at_once", [1, 2, 3, 7])
@pytest.mark.parametrize("mesh", [None, MeshConfig(fsdp=2)])
def test_no_more_logits_at_once_than_allowed_on_each_device(
    monkeypatch: pytest.MonkeyPatch, places_at_once: int, mesh: MeshConfig | None
) -> None:
    """The most places that fit; one at least, and no more than there are."""
    devices = 1 if mesh is None else 2
    hidden, kernel, batch = case()
    for limit, size in ((places_at_once * R * V, places_at_once * devices), (1, 1), (R * V * devices - 1, devices)):
        monkeypatch.setattr(losses, "_MAX_LOGITS", limit if limit != R * V * devices - 1 else R * V)
        head = Head(jnp.asarray(kernel, jnp.float32))

        def trace() -> Any:
            arrays: Any = {name: jnp.asarray(value) for name, value in batch.items()}
            return jax.eval_shape(
                lambda x: target_loss(head, x, arrays, head_is_frozen=False),  # type: ignore[arg-type] # noqa: B023
                jax.ShapeDtypeStruct(hidden.shape, jnp.float32),
            )

        if mesh is None:
            trace()
        else:
            with jax.set_mesh(make_mesh(mesh, jax.devices()[:2])):
                trace()
        assert set(head.shapes) == {(R, min(size, K), D)}
