"""A LoRA adapter (arXiv 2106.09685) to the letter of PEFT: its settings, its start, its scale (rsLoRA: 2312.03732)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32
from pydantic import Field, field_validator

from sgtr_jax.config import Config, PositiveInt

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class HasProjections(Protocol):
    """What an adapter must know of a model: how many layers, and the width of each projection, `(in, out)`."""

    @property
    def num_layers(self) -> int: ...

    @property
    def projections(self) -> Mapping[str, tuple[int, int]]: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Adapter:
    """One LoRA adapter: `params[projection] = {"a": [L, r, in], "b": [L, r, out]}`, float32, and its scale.

    Both factors have the rank in front, as their gradients come out; see `low_rank`.
    The scale (alpha/r or alpha/sqrt(r)) is an array, so that adapters of different scale share a program.
    In sampling, C chains share a batch: factors are `[L, C, r, ...]`, scale `[C]`, and row b is chain b % C's.
    """

    params: dict[str, dict[str, jax.Array]]
    scale: Float32[Array, "*C"]


# Adapters of one model; their updates add up. In training the last one is being trained, the others frozen.
Chain = tuple[Adapter, ...]


class LoraConfig(Config):
    """LoRA hyper-parameters; the defaults are the study's."""

    rank: PositiveInt = 32  # The rank of the adapter's two matrices.
    # The update is scaled by alpha / sqrt(rank) with rsLoRA, and by alpha / rank without.
    alpha: Annotated[float, Field(gt=0)] = 64.0
    rslora: bool = True  # Whether the scale is that of rsLoRA.
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # Dropout on the input of the adapter.
    targets: tuple[str, ...] = PROJECTIONS  # The projections that get an adapter.
    init: str | None = None  # The folder of a PEFT adapter to start from. null: a fresh adapter.

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


def init_adapter(spec: HasProjections, config: LoraConfig, key: jax.Array) -> Adapter:
    """A fresh adapter: A uniform in +-1/sqrt(fan_in), B zero, so that the model is unchanged at the start.

    PEFT reaches the same A by `kaiming_uniform_(a=sqrt(5))`: sqrt(6 / ((1 + 5) * fan_in)).
    """
    params = {}
    for i, name in enumerate(config.targets):
        into, out = spec.projections[name]
        bound = into**-0.5
        shape = (spec.num_layers, config.rank, into)
        a = jax.random.uniform(jax.random.fold_in(key, i), shape, jnp.float32, -bound, bound)
        params[name] = {"a": a, "b": jnp.zeros((spec.num_layers, config.rank, out), jnp.float32)}
    return Adapter(params, jnp.float32(config.scale))
