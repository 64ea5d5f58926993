"""One optimizer step of R runs at once, as a pure function of (state, base, each run's constants, batch)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float32, Int32, UInt32

from sgtr_jax.arrays import Params
from sgtr_jax.lora.adapter import Chain
from sgtr_jax.models.attention import AttentionKind
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.objective import Terms, counts_of, make_objective
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
    steering: Float32[Array, "L D"] | None = None  # added to the residual stream behind each layer


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
TermsAndGradient = tuple[Terms, Params]
GradientFunction = Callable[[Params, Params | None, RunConstants, Batch, jax.Array], TermsAndGradient]


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
    """`(params, base, constants, batch, key)` to a step's terms and the gradient of what is minimised, for one run.

    `loss` is the mean cross-entropy over a step's targets; each penalty of the run's defences has a term of its own.
    """
    objective = make_objective(spec, config, attention)

    def gradient(
        params: Params, base: Params | None, constants: RunConstants, batch: Batch, key: jax.Array
    ) -> TermsAndGradient:
        # The means are over the whole step, however it is split into passes.
        counts = counts_of(config, batch)

        def of_rows(rows: Batch) -> TermsAndGradient:
            (_, terms), found = jax.value_and_grad(objective, has_aux=True)(params, base, constants, rows, counts, key)
            return terms, found

        terms, gradients = _accumulate(of_rows, config.accumulate, batch)
        means = {name: total / counts[name] for name, total in terms.items()}
        return means, jax.tree.map(lambda g: g / counts["loss"], gradients)

    return gradient


def _one_run(spec: ModelSpec, config: TrainConfig, attention: AttentionKind) -> StepFunction:
    optimizer = make_optimizer(config)
    gradient = make_gradient(spec, config, attention)

    def step(
        state: TrainState, base: Params | None, constants: RunConstants, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.wrap_key_data(constants.key, impl="threefry2x32"), state.step)
        terms, gradients = gradient(state.params, base, constants, batch, key)
        norm = optax.global_norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        lr = learning_rate(config, constants.peak_lr, state.step, constants.num_steps)
        moved = jax.tree.map(lambda p, u: p - lr * u, state.params, updates)
        active = state.active & jnp.isfinite(norm)
        for term in terms.values():
            active = active & jnp.isfinite(term)
        # A run that has ended may still occupy a slot of the batch.
        active = active & (state.step < constants.num_steps)
        keep = lambda new, old: jnp.where(active, new, old)  # noqa: E731
        after = TrainState(
            jax.tree.map(keep, moved, state.params),
            jax.tree.map(keep, opt_state, state.opt_state),
            state.step + active,
            active,
        )
        return after, {**terms, "grad_norm": norm, "lr": lr}

    return step


def _accumulate(gradient: Callable[[Batch], TermsAndGradient], passes: int, batch: Batch) -> TermsAndGradient:
    """Sums of terms and gradient over `passes` groups of rows, one group in memory at a time."""
    if passes == 1:
        return gradient(batch)
    # Neighbouring rows go to different passes, so that every pass has its part of each device's rows.
    grouped = jax.tree.map(lambda x: x.reshape(-1, passes, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(carry: TermsAndGradient, rows: Batch) -> tuple[TermsAndGradient, None]:
        return jax.tree.map(jnp.add, carry, gradient(rows)), None

    shapes = jax.eval_shape(gradient, jax.tree.map(lambda x: x[0], grouped))
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    carry: TermsAndGradient
    carry, _ = jax.lax.scan(add, start, grouped)
    return carry
