"""One optimizer step, as a pure function of (state, frozen parts, batch)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sgtr_jax.models.decoder import Params, bind
from sgtr_jax.models.layers import Adapter, Chain, Dropout
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.loss import target_loss
from sgtr_jax.train.optimizer import make_optimizer, make_schedule


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Frozen:
    """What a step reads and never changes: the base (None in full mode), the chain below, scale and dropout key."""

    base: Params | None
    chain: Chain
    scale: jax.Array  # float32 [], of the adapter being trained
    key: jax.Array  # typed PRNG key of the run; folded with the step


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """What a step changes. `alive` turns False at the first non-finite loss and keeps the state where it was."""

    params: Any  # adapter parameters, or all parameters in full mode
    opt_state: Any
    step: jax.Array  # int32 [], steps taken
    alive: jax.Array  # bool []


Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
StepFunction = Callable[[TrainState, Frozen, Batch], tuple[TrainState, Metrics]]


@lru_cache(maxsize=16)
def compiled(spec: ModelSpec, config: TrainConfig, num_steps: int) -> tuple[Callable[[Any], TrainState], StepFunction]:
    """Jitted `init_state` and `step`. Runs that differ only in seed share them, hence their compiled programs."""
    return (
        jax.jit(lambda params: init_state(params, config, num_steps)),
        jax.jit(make_step(spec, config, num_steps), donate_argnums=0),
    )


def init_state(params: Any, config: TrainConfig, num_steps: int) -> TrainState:
    """State before the first step."""
    optimizer = make_optimizer(config, num_steps)
    return TrainState(params, optimizer.init(params), jnp.int32(0), jnp.bool_(True))


def make_step(spec: ModelSpec, config: TrainConfig, num_steps: int) -> StepFunction:
    """The step for this model and these settings; not jitted, so that it can be vmapped over runs first."""
    optimizer = make_optimizer(config, num_steps)
    schedule = make_schedule(config, num_steps)

    def loss_sum(params: Any, frozen: Frozen, batch: Batch, key: jax.Array) -> jax.Array:
        base, chain = frozen.base, frozen.chain
        if base is None:
            base = params
        else:
            chain = (*chain, Adapter(params, frozen.scale))
        decoder = bind(spec, base)
        hidden, _ = decoder(
            batch["tokens"],
            batch["positions"],
            batch["segments"],
            chain=chain,
            dropouts=make_dropout(spec, config, key),
            remat=config.remat,
        )
        return target_loss(decoder, hidden, batch)

    def step(state: TrainState, frozen: Frozen, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(frozen.key, state.step)
        weight = jnp.maximum(jnp.sum(batch["target_weights"]), 1.0)
        total, gradients = _accumulate(loss_sum, config.accumulate, state.params, frozen, batch, key)
        # The mean is over the targets of the whole step, however it was split into passes.
        loss = total / weight
        gradients = jax.tree.map(lambda g: g / weight, gradients)
        norm = optax.global_norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        moved = optax.apply_updates(state.params, updates)
        alive = state.alive & jnp.isfinite(loss) & jnp.isfinite(norm)
        keep = lambda new, old: jnp.where(alive, new, old)  # noqa: E731
        after = TrainState(
            jax.tree.map(keep, moved, state.params),
            jax.tree.map(keep, opt_state, state.opt_state),
            state.step + alive,
            alive,
        )
        return after, {"loss": loss, "grad_norm": norm, "lr": jnp.asarray(schedule(state.step), jnp.float32)}

    return step


def make_dropout(spec: ModelSpec, config: TrainConfig, key: jax.Array) -> Dropout | None:
    """Dropout rates of this run; None when all are 0, so that no mask is ever drawn."""
    residual = spec.residual_dropout if config.residual_dropout is None else config.residual_dropout
    attention = spec.attention_dropout if config.attention_dropout is None else config.attention_dropout
    adapter = config.lora.dropout if config.mode == "lora" else 0.0
    if not (residual or attention or adapter):
        return None
    return Dropout(key, adapter=adapter, residual=residual, attention=attention)


def _accumulate(
    loss_sum: Callable[..., jax.Array], passes: int, params: Any, frozen: Frozen, batch: Batch, key: jax.Array
) -> tuple[jax.Array, Any]:
    """Loss sum and gradient over `passes` groups of rows, one group in memory at a time."""
    gradient = jax.value_and_grad(loss_sum)
    if passes == 1:
        return gradient(params, frozen, batch, key)
    grouped = jax.tree.map(lambda x: x.reshape(passes, -1, *x.shape[1:]), batch)

    def add(carry: Any, inputs: Any) -> Any:
        index, rows = inputs
        result = gradient(params, frozen, rows, jax.random.fold_in(key, index))
        return jax.tree.map(jnp.add, carry, result), None

    start = (jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
    carry, _ = jax.lax.scan(add, start, (jnp.arange(passes), grouped))
    return carry
