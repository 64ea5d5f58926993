"""The settings of a LoRA adapter; importing them does not import JAX."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, NonNegativeInt, field_validator

from sgtr_jax.config import Config, PositiveInt

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraConfig(Config):
    """LoRA hyper-parameters; the defaults are the study's."""

    rank: PositiveInt = 32  # The rank of the adapter's two matrices.
    # The update is scaled by alpha / sqrt(rank) with rsLoRA, and by alpha / rank without.
    alpha: Annotated[float, Field(gt=0)] = 64.0
    rslora: bool = True  # Whether the scale is that of rsLoRA.
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # Dropout on the input of the adapter.
    targets: tuple[str, ...] = PROJECTIONS  # The projections that get an adapter.
    # The layers that get an adapter, counted from 0; PEFT's layers_to_transform. null: all.
    layers: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    init: str | None = None  # The folder of a PEFT adapter to start from. null: a fresh adapter.

    @field_validator("targets")
    @classmethod
    def _known(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in targets if name not in PROJECTIONS]
        if unknown or not targets:
            raise ValueError(f"{unknown or 'nothing'} matches no projection; valid: {', '.join(PROJECTIONS)}")
        return tuple(name for name in PROJECTIONS if name in targets)

    @field_validator("layers")
    @classmethod
    def _in_order(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if layers is None else tuple(sorted(set(layers)))

    @property
    def scale(self) -> float:
        """What the update is multiplied by: alpha/r, or alpha/sqrt(r) with rsLoRA."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)
