"""Feature distance: the residual stream stays near that of the model below the trained adapter.

LDIFS (arXiv 2308.13320), which arXiv 2508.06249 applies to language models: the squared distance of features at several
depths. The papers differ in which depths, whether features are brought to length 1 first, and how tokens and layers are
weighted; the first two are settings, and here both tokens and layers are averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeInt

from sgtr_jax.train.defences.penalty import Batch, Passes, Penalty

if TYPE_CHECKING:  # settings are read without JAX
    import jax

_DEPTHS = 5  # of `layers: null`


class FeatureL2(Penalty):
    """The squared distance of the residual stream to that of the model below, a mean over tokens and layers."""

    # The layers, counted from 0, behind which the residual stream is compared. null: five, evenly from first to last.
    layers: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    # The tokens that are compared: all of a row, or the loss positions, where a target is predicted.
    tokens: Literal["all", "targets"] = "all"
    # Whether each token's residual stream is first divided by its length, so that only its direction counts.
    normalised: bool = False

    def layers_kept(self, num_layers: int) -> tuple[int, ...]:
        """See `Penalty`."""
        if self.layers is not None:
            return tuple(sorted(set(self.layers)))
        return tuple(sorted({int(layer) for layer in np.linspace(0, num_layers - 1, _DEPTHS)}))

    def total(self, passes: Passes) -> jax.Array:
        """See `Penalty`."""
        layers = self.layers_kept(passes.decoder.spec.num_layers)
        distances = [self._distances(passes.trained.behind[i], passes.reference.behind[i], passes) for i in layers]
        return sum(distances[1:], distances[0]) / len(layers)

    def count(self, batch: Batch) -> jax.Array:
        """See `Penalty`."""
        return self._weights(batch).sum()

    def _weights(self, batch: Batch) -> jax.Array:
        if self.tokens == "targets":
            return batch["target_weights"]
        return (batch["segments"] > 0).astype("float32")

    def _distances(self, trained: jax.Array, reference: jax.Array, passes: Passes) -> jax.Array:
        from sgtr_jax.train.loss import at_targets

        if self.tokens == "targets":
            positions = passes.batch["target_positions"]
            trained, reference = at_targets(trained, positions), at_targets(reference, positions)
        trained, reference = (x.astype("float32") for x in (trained, reference))
        if self.normalised:
            trained, reference = _of_length_one(trained), _of_length_one(reference)
        return (((trained - reference) ** 2).sum(axis=-1) * self._weights(passes.batch)).sum()


def _of_length_one(x: jax.Array) -> jax.Array:
    import jax
    import jax.numpy as jnp

    # Padding may be 0, where a length has no gradient.
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)
