"""AdamW with clipping and a warm-up schedule, as HF's Trainer defines them."""

from __future__ import annotations

from typing import Any

import jax
import optax

from sgtr_jax.train.config import TrainConfig


def make_schedule(config: TrainConfig, num_steps: int) -> optax.Schedule:
    """Learning rate by step, counted from 0: `lr * t / warmup` (so the first is 0), then down to 0 at the end.

    As `transformers/optimization.py::get_{linear,cosine,constant}_schedule_with_warmup`.
    """
    warmup, rest = config.warmup_steps, max(1, num_steps - config.warmup_steps)
    after = {
        "linear": optax.linear_schedule(config.lr, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(config.lr, rest),
        "constant": optax.constant_schedule(config.lr),
    }[config.schedule]
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, config.lr, warmup), after], [warmup])


def make_optimizer(config: TrainConfig, num_steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW. Norms and biases are not decayed; adapters are, all of them."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(
            make_schedule(config, num_steps),
            b1=config.adam_b1,
            b2=config.adam_b2,
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            mask=_decayed,
        ),
    )


def _decayed(params: Any) -> Any:
    return jax.tree.map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)
