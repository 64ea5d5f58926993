"""LoRA (arXiv 2106.09685), to the letter of PEFT: start, scale (rsLoRA: arXiv 2312.03732), chains, merging."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from pydantic import Field, field_validator

from sgtr_jax.config import Config, PositiveInt
from sgtr_jax.models.decoder import Params
from sgtr_jax.models.layers import Adapter, Chain
from sgtr_jax.models.spec import ModelSpec

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraConfig(Config):
    """LoRA hyper-parameters; the defaults are the study's."""

    rank: PositiveInt = 32
    alpha: Annotated[float, Field(gt=0)] = 64.0
    rslora: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = PROJECTIONS
    init: str | None = None  # a PEFT adapter folder to start from

    @field_validator("targets")
    @classmethod
    def _known(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in targets if name not in PROJECTIONS]
        if unknown or not targets:
            raise ValueError(f"{unknown or 'nothing'} matches no projection; valid: {', '.join(PROJECTIONS)}")
        return tuple(name for name in PROJECTIONS if name in targets)

    @property
    def scale(self) -> float:
        """What the update is multiplied by: alpha/r, or alpha/sqrt(r) with rsLoRA."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


def init_adapter(spec: ModelSpec, config: LoraConfig, key: jax.Array) -> Adapter:
    """A fresh adapter: A uniform in +-1/sqrt(fan_in), B zero, so that the model is unchanged at the start.

    PEFT reaches the same A by `kaiming_uniform_(a=sqrt(5))`: sqrt(6 / ((1 + 5) * fan_in)).
    """
    params = {}
    for i, name in enumerate(config.targets):
        into, out = spec.projections[name]
        bound = into**-0.5
        shape = (spec.num_layers, into, config.rank)
        a = jax.random.uniform(jax.random.fold_in(key, i), shape, jnp.float32, -bound, bound)
        params[name] = {"a": a, "b": jnp.zeros((spec.num_layers, config.rank, out), jnp.float32)}
    return Adapter(params, jnp.float32(config.scale))


def concatenate(chain: Sequence[Adapter]) -> Chain:
    """One adapter that acts as the whole chain: ranks side by side, scales folded into B.

    `s1 (x a1) b1 + s2 (x a2) b2 = (x [a1 a2]) [s1 b1; s2 b2]`. Sampling reads the weights once, not per link.
    """
    if len(chain) <= 1:
        return tuple(chain)
    params: dict[str, dict[str, jax.Array]] = {}
    for name in PROJECTIONS:
        parts = [(link.params[name], link.scale) for link in chain if name in link.params]
        if parts:
            params[name] = {
                "a": jnp.concatenate([part["a"] for part, _ in parts], axis=2),
                "b": jnp.concatenate([part["b"] * scale for part, scale in parts], axis=1),
            }
    return (Adapter(params, jnp.float32(1.0)),)


def merge(params: Params, chain: Sequence[Adapter]) -> Params:
    """Base parameters with the chain added in, computed in float32 and rounded once to the base's dtype."""
    layers: dict[str, Any] = dict(params["layers"])
    for name in PROJECTIONS:
        updates = [link for link in chain if name in link.params]
        if not updates:
            continue
        kernel = layers[name]["kernel"]
        total = kernel.astype(jnp.float32)
        for link in updates:
            pair = link.params[name]
            product = jnp.einsum("lir,lro->lio", pair["a"], pair["b"], precision=jax.lax.Precision.HIGHEST)
            total = total + link.scale * product
        layers[name] = {**layers[name], "kernel": total.astype(kernel.dtype)}
    return {**params, "layers": layers}
