"""A penalty: a term of the loss that holds the trained model to the model below its adapter.

The model below, the reference, is the same forward pass without the last adapter: as the base is frozen, it needs no
second copy of the weights, and costs one forward pass.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pydantic import NonNegativeFloat

from sgtr_jax.config import Config

if TYPE_CHECKING:  # settings are read without JAX
    import jax

    from sgtr_jax.models.decoder import Decoder

Batch = Mapping[str, "jax.Array"]


class Hidden(NamedTuple):
    """What a forward pass comes to: hidden states after the final norm, and the residual stream behind some layers."""

    last: jax.Array  # [B, T, D]
    behind: dict[int, jax.Array]  # [B, T, D] each


@dataclass(frozen=True)
class Passes:
    """The same rows through the trained model and through the reference, of which no gradient is taken."""

    decoder: Decoder
    batch: Batch
    trained: Hidden
    reference: Hidden


class Penalty(Config):
    """`weight` times the mean of a quantity over the tokens of a step is added to the loss."""

    # What the term is multiplied by before it is added to the cross-entropy. 0: the run is the plain one.
    weight: NonNegativeFloat

    def layers_kept(self, num_layers: int) -> tuple[int, ...]:
        """The layers whose residual stream `total` reads."""
        return ()

    @abstractmethod
    def total(self, passes: Passes) -> jax.Array:
        """The quantity, summed over the tokens that `count` counts."""

    @abstractmethod
    def count(self, batch: Batch) -> jax.Array:
        """The number of tokens that the mean is over."""
