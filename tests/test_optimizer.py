"""Learning rates and AdamW are their formulas in float64."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.optimizer import learning_rate, make_optimizer

CURVES = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "constant": lambda done: 1.0,
}


@pytest.mark.parametrize("schedule", CURVES)
@pytest.mark.parametrize(("warmup", "steps"), [(0, 7), (1, 7), (4, 9), (5, 5), (6, 3)])
def test_the_rate_rises_to_its_peak_and_falls_along_the_curve(schedule: str, warmup: int, steps: int) -> None:
    config = TrainConfig.model_validate({"schedule": schedule, "warmup_steps": warmup})
    for t in range(steps + 3):
        rising = t < warmup
        done = min(1.0, max(0.0, (t - warmup) / max(1, steps - warmup)))
        wanted = 0.3 * (t / warmup if rising else CURVES[schedule](done))
        found = learning_rate(config, jnp.float32(0.3), jnp.int32(t), jnp.int32(steps))
        assert float(found) == pytest.approx(wanted, abs=1e-7), t


@pytest.mark.parametrize("clip", [0.5, 100.0])
def test_three_steps_are_adamws(clip: float) -> None:
    """Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2, after the clipping of torch's `clip_grad_norm_`."""
    settings = {"weight_decay": 0.1, "max_grad_norm": clip, "adam_b1": 0.8, "adam_b2": 0.9, "adam_eps": 0.01}
    optimizer = make_optimizer(TrainConfig.model_validate(settings))
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(3) for name in ("kernel", "a", "b", "bias", "scale")}
    mine = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
    state = optimizer.init(mine)
    means, squares = ({name: np.zeros(3) for name in params} for _ in range(2))
    for step in range(1, 4):
        gradient = {name: rng.standard_normal(3) for name in params}
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))
        updates, state = optimizer.update({n: jnp.asarray(g, jnp.float32) for n, g in gradient.items()}, state, mine)
        for name, g in gradient.items():
            clipped = g * min(1.0, clip / norm)
            means[name] = 0.8 * means[name] + 0.2 * clipped
            squares[name] = 0.9 * squares[name] + 0.1 * clipped**2
            wanted = means[name] / (1 - 0.8**step) / (np.sqrt(squares[name] / (1 - 0.9**step)) + 0.01)
            wanted += 0.1 * params[name] if name in ("kernel", "a", "b") else 0
            np.testing.assert_allclose(updates[name], wanted, rtol=1e-5, atol=1e-6, err_msg=f"{name}, step {step}")
            params[name] = params[name] - 0.05 * wanted
        mine = jax.tree.map(lambda p, u: p - 0.05 * u, mine, updates)
