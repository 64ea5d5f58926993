"""What a run minimises: the cross-entropy of its targets, and the penalties of its defences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from sgtr_jax.arrays import Params
from sgtr_jax.lora.adapter import Adapter, Chain
from sgtr_jax.models.attention import AttentionKind
from sgtr_jax.models.decoder import Decoder, bind
from sgtr_jax.models.dropout import Dropout, token_numbers
from sgtr_jax.models.residual import ResidualEdits
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.defences.penalty import Batch, Hidden, Passes
from sgtr_jax.train.loss import target_loss

if TYPE_CHECKING:
    from sgtr_jax.train.step import RunConstants

Terms = dict[str, jax.Array]  # float32 [], by name: `loss`, the cross-entropy, and each penalty
Objective = Callable[
    [Params, Params | None, "RunConstants", Batch, Mapping[str, jax.Array], jax.Array], tuple[jax.Array, Terms]
]


def own_rows(name: str) -> str:
    """What the names of a batch's arrays begin with that only the penalty `name` reads."""
    return f"{name}."


def rows_of(batch: Batch, name: str) -> Batch:
    """The arrays that a penalty reads: those of rows of its own, or, where there are none, of the training rows."""
    own = {key.removeprefix(own_rows(name)): x for key, x in batch.items() if key.startswith(own_rows(name))}
    return own or {key: x for key, x in batch.items() if "." not in key}


def counts_of(config: TrainConfig, batch: Batch) -> Terms:
    """The number of tokens of a step that each term is a mean over, at least 1."""
    counts = {"loss": jnp.sum(batch["target_weights"])}
    counts |= {name: penalty.count(rows_of(batch, name)) for name, penalty in config.penalties.items()}
    return {name: jnp.maximum(count, 1.0) for name, count in counts.items()}


def make_objective(spec: ModelSpec, config: TrainConfig, attention: AttentionKind) -> Objective:
    """`(params, base, constants, rows, counts, key)` to what is minimised, of a step's rows or some of them.

    `counts` are those of the whole step. Summed over its rows and divided by its number of targets, the first value is
    the mean cross-entropy plus every penalty's weight times its mean; the second holds the terms, as sums.
    """
    penalties = config.penalties

    def objective(
        params: Params,
        base: Params | None,
        constants: RunConstants,
        batch: Batch,
        counts: Mapping[str, jax.Array],
        key: jax.Array,
    ) -> tuple[jax.Array, Terms]:
        full = base is None
        decoder = bind(spec, params if base is None else base)
        chain = constants.chain if full else (*constants.chain, Adapter(params, constants.scale))
        edits = None if constants.steering is None else ResidualEdits(added=constants.steering)

        def trained(rows: Batch, names: Sequence[str]) -> Hidden:
            dropouts, keep = _dropout(spec, config, key, rows), _layers_kept(config, names, spec.num_layers)
            return _through(decoder, rows, chain, keep, config, attention, dropouts, edits)

        def compared(rows: Batch, names: Sequence[str], found: Hidden) -> Terms:
            keep = _layers_kept(config, names, spec.num_layers)
            below = _through(decoder, rows, constants.chain, keep, config, attention)
            passes = Passes(decoder, rows, found, jax.lax.stop_gradient(below))
            return {name: penalties[name].total(passes) for name in names}

        rows = rows_of(batch, "loss")
        apart = [name for name in penalties if any(key.startswith(own_rows(name)) for key in batch)]
        beside = [name for name in penalties if name not in apart]
        hidden = trained(rows, beside)
        terms = {"loss": target_loss(decoder, hidden.last, rows, head_is_frozen=not full)}
        if beside:
            terms |= compared(rows, beside, hidden)
        for name in apart:
            others = rows_of(batch, name)
            terms |= compared(others, [name], trained(others, [name]))
        total = terms["loss"]
        for name, penalty in penalties.items():
            total = total + penalty.weight * (counts["loss"] / counts[name]) * terms[name]
        return total, terms

    return objective


def _layers_kept(config: TrainConfig, names: Sequence[str], num_layers: int) -> tuple[int, ...]:
    return tuple(sorted({layer for name in names for layer in config.penalties[name].layers_kept(num_layers)}))


def _through(
    decoder: Decoder,
    rows: Batch,
    chain: Chain,
    keep: Sequence[int],
    config: TrainConfig,
    attention: AttentionKind,
    dropouts: Dropout | None = None,
    edits: ResidualEdits | None = None,
) -> Hidden:
    assert config.remat != "auto"  # settled, see `TrainConfig.remat_to_try`
    tokens = (rows["tokens"], rows["positions"], rows["segments"])
    if not keep:
        last = decoder.forward(
            *tokens, chain=chain, dropouts=dropouts, remat=config.remat, attention=attention, edits=edits
        )
        return Hidden(last, {})
    last, behind = decoder.forward_keeping(
        *tokens, keep=keep, chain=chain, dropouts=dropouts, remat=config.remat, attention=attention, edits=edits
    )
    return Hidden(last, dict(zip(keep, behind, strict=True)))


def _dropout(spec: ModelSpec, config: TrainConfig, key: jax.Array, batch: Batch) -> Dropout | None:
    """Dropout of this step; None when all rates are 0, so that no mask is ever drawn."""
    residual = spec.residual_dropout if config.residual_dropout is None else config.residual_dropout
    attention = spec.attention_dropout if config.attention_dropout is None else config.attention_dropout
    adapter = config.lora.dropout if config.mode == "lora" else 0.0
    if not (residual or attention or adapter):
        return None
    return Dropout(key, token_numbers(batch["segments"], batch["positions"]), adapter, residual, attention)
