"""One optimizer step of R runs at once, as a pure function of (state, base, each run's constants, batch)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float32, Int32, UInt32

from sgtr_jax.arrays import Params
from sgtr_jax.lora.adapter import Adapter, Chain
from sgtr_jax.models.attention import AttentionKind
from sgtr_jax.models.decoder import bind
from sgtr_jax.models.dropout import Dropout, token_numbers
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.loss import target_loss
from sgtr_jax.train.optimizer import learning_rate, make_optimizer


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RunConstants:
    """What a run reads and never changes, besides the base, which all runs share."""

    chain: Chain  # frozen adapters below the one being trained
    scale: Float32[Array, ""]  # of the adapter being trained
    key: UInt32[Array, " 2"]  # data of a threefry key; folded with the step
    peak_lr: Float32[Array, ""]
    num_steps: Int32[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """What a step changes. `active` turns False at the first non-finite loss and keeps the state where it was."""

    params: Params  # adapter parameters, or all parameters in full mode
    opt_state: optax.OptState
    step: Int32[Array, ""]  # steps taken
    active: Bool[Array, ""]


Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
StepFunction = Callable[[TrainState, Params | None, RunConstants, Batch], tuple[TrainState, Metrics]]
LossAndGradient = tuple[jax.Array, Params]
GradientFunction = Callable[[Params, Params | None, RunConstants, Batch, jax.Array], LossAndGradient]


def init_state(params: Params, config: TrainConfig) -> TrainState:
    """State of one run before its first step."""
    return TrainState(params, make_optimizer(config).init(params), jnp.int32(0), jnp.bool_(True))


def make_step(spec: ModelSpec, config: TrainConfig, attention: AttentionKind) -> StepFunction:
    """The step of R runs. Every leaf of state, fixed and batch has a leading axis R; the base has not.

    Runs do not meet: their examples share matrix products with the base, and nothing else.
    """
    one = _one_run(spec, config, attention)

    def step(
        state: TrainState, base: Params | None, constants: RunConstants, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        return jax.vmap(lambda *run: one(run[0], base, *run[1:]))(state, constants, batch)

    return step


def make_gradient(spec: ModelSpec, config: TrainConfig, attention: AttentionKind) -> GradientFunction:
    """`(params, base, fixed, batch, key)` to the mean loss over a step's targets and its gradient, for one run."""
    remat = config.remat
    assert remat != "auto"  # settled, see `TrainConfig.remat_to_try`

    def loss_sum(
        params: Params, base: Params | None, constants: RunConstants, batch: Batch, key: jax.Array
    ) -> jax.Array:
        full = base is None
        decoder = bind(spec, params if base is None else base)
        hidden = decoder.forward(
            batch["tokens"],
            batch["positions"],
            batch["segments"],
            chain=constants.chain if full else (*constants.chain, Adapter(params, constants.scale)),
            dropouts=_dropout(spec, config, key, batch),
            remat=remat,
            attention=attention,
        )
        return target_loss(decoder, hidden, batch, head_is_frozen=not full)

    def gradient(
        params: Params, base: Params | None, constants: RunConstants, batch: Batch, key: jax.Array
    ) -> LossAndGradient:
        def of_rows(rows: Batch) -> LossAndGradient:
            found: LossAndGradient = jax.value_and_grad(loss_sum)(params, base, constants, rows, key)
            return found

        total, gradients = _accumulate(of_rows, config.accumulate, params, batch)
        # The mean is over the targets of the whole step, however it was split into passes.
        weight = jnp.maximum(jnp.sum(batch["target_weights"]), 1.0)
        return total / weight, jax.tree.map(lambda g: g / weight, gradients)

    return gradient


def _one_run(spec: ModelSpec, config: TrainConfig, attention: AttentionKind) -> StepFunction:
    optimizer = make_optimizer(config)
    gradient = make_gradient(spec, config, attention)

    def step(
        state: TrainState, base: Params | None, constants: RunConstants, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.wrap_key_data(constants.key, impl="threefry2x32"), state.step)
        loss, gradients = gradient(state.params, base, constants, batch, key)
        norm = optax.global_norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        lr = learning_rate(config, constants.peak_lr, state.step, constants.num_steps)
        moved = jax.tree.map(lambda p, u: p - lr * u, state.params, updates)
        active = state.active & jnp.isfinite(loss) & jnp.isfinite(norm)
        # A run that has ended may still occupy a slot of the batch.
        active = active & (state.step < constants.num_steps)
        keep = lambda new, old: jnp.where(active, new, old)  # noqa: E731
        after = TrainState(
            jax.tree.map(keep, moved, state.params),
            jax.tree.map(keep, opt_state, state.opt_state),
            state.step + active,
            active,
        )
        return after, {"loss": loss, "grad_norm": norm, "lr": lr}

    return step


def _dropout(spec: ModelSpec, config: TrainConfig, key: jax.Array, batch: Batch) -> Dropout | None:
    """Dropout of this step; None when all rates are 0, so that no mask is ever drawn."""
    residual = spec.residual_dropout if config.residual_dropout is None else config.residual_dropout
    attention = spec.attention_dropout if config.attention_dropout is None else config.attention_dropout
    adapter = config.lora.dropout if config.mode == "lora" else 0.0
    if not (residual or attention or adapter):
        return None
    return Dropout(key, token_numbers(batch["segments"], batch["positions"]), adapter, residual, attention)


def _accumulate(
    gradient: Callable[[Batch], LossAndGradient], passes: int, params: Params, batch: Batch
) -> LossAndGradient:
    """Loss sum and gradient over `passes` groups of rows, one group in memory at a time."""
    if passes == 1:
        return gradient(batch)
    # Neighbouring rows go to different passes, so that every pass has its part of each device's rows.
    grouped = jax.tree.map(lambda x: x.reshape(-1, passes, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(carry: LossAndGradient, rows: Batch) -> tuple[LossAndGradient, None]:
        return jax.tree.map(jnp.add, carry, gradient(rows)), None

    start = (jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
    carry, _ = jax.lax.scan(add, start, grouped)
    return carry
