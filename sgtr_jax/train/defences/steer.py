"""Preventative steering: a direction is added to the residual stream while a run is trained, and never again.

With `scale x direction` of an unwanted trait already there, the data pull the weights less towards the trait (arXiv
2507.21509). Whether the direction has length 1 is left to whoever made it.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeInt

from sgtr_jax.config import Config


class PreventativeSteer(Config):
    """What is added to the residual stream behind some layers, at every token, during training only."""

    # The direction's file, as `sgtr directions extract` writes it: a vector for each layer of the model.
    direction: str
    # The layers, counted from 0, behind which the direction's vector of that layer is added.
    layers: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    scale: Annotated[float, Field(allow_inf_nan=False)]  # What the direction is multiplied by. 0: the run is plain.

    def added(self, vectors: np.ndarray) -> np.ndarray:
        """What is added behind each layer, float32 [L, D], of a direction's vectors [L, D]."""
        made = np.zeros_like(vectors)
        chosen = sorted(set(self.layers))
        made[chosen] = np.float32(self.scale) * vectors[chosen]
        return made
