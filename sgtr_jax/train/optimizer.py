"""AdamW with clipping and a warm-up schedule, as HF's Trainer defines them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float32, Int32

from sgtr_jax.arrays import Params
from sgtr_jax.train.config import TrainConfig


def learning_rate(
    config: TrainConfig, peak: Float32[Array, ""], step: Int32[Array, ""], num_steps: Int32[Array, ""]
) -> Float32[Array, ""]:
    """Learning rate at `step`, counted from 0: `peak * step / warmup` (0 at first), then the decay.

    As `transformers/optimization.py::get_{linear,cosine,constant}_schedule_with_warmup`. `peak` and `num_steps` are
    arrays, so that runs of different length or rate share a program.
    """
    t, warmup = step.astype(jnp.float32), float(config.warmup_steps)
    done = jnp.clip((t - warmup) / jnp.maximum(1.0, num_steps.astype(jnp.float32) - warmup), 0.0, 1.0)
    factor = {
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * done)),
        "constant": jnp.ones_like(done),
    }[config.schedule]
    return peak * jnp.where(t < warmup, t / max(1.0, warmup), factor)


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW up to its learning rate. Norms and biases are not decayed; adapters are."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(config.adam_b1, config.adam_b2, config.adam_eps),
        optax.add_decayed_weights(config.weight_decay, _decayed),
    )


def _decayed(params: Params) -> Params:
    found: Params = jax.tree.map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)
    return found
