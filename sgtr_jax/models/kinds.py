"""What differs from layer to layer besides the weights, looked up by the layer's number.

Where the layers are one compiled body in a scan, a layer's number is not known when that is compiled. The angles of
each rope are computed once for all layers; windows are handed to `attend` as a choice among few.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sgtr_jax.models.attention import Scoring
from sgtr_jax.models.layer_loop import LayerNumber
from sgtr_jax.models.rope import rope_angles
from sgtr_jax.models.spec import ModelSpec


class LayerKinds:
    """The kinds of a spec's layers for tokens at `positions` int32 `[B, T]`."""

    def __init__(self, spec: ModelSpec, positions: jax.Array) -> None:
        self._spec = spec
        self._ropes = tuple(dict.fromkeys(kind.rope for kind in spec.pattern))
        self._windows = tuple(dict.fromkeys(kind.window for kind in spec.pattern))
        angles = [rope_angles(positions, spec.head_dim, rope) for rope in self._ropes]
        if len(angles) == 1:
            self._cos, self._sin = angles[0]
        else:
            self._cos, self._sin = (jnp.stack(part) for part in zip(*angles, strict=True))

    def rope(self, layer: LayerNumber) -> tuple[jax.Array, jax.Array]:
        """Cosines and sines `[B, T, 1, H/2]` of layer number `layer`."""
        cos, sin = self._cos, self._sin
        if len(self._ropes) == 1:
            return cos, sin
        which = self._choice([self._ropes.index(kind.rope) for kind in self._spec.pattern], layer)
        return cos[which], sin[which]

    def scoring(self, layer: LayerNumber) -> Scoring:
        """How attention of layer number `layer` scores."""
        if isinstance(layer, int):
            return Scoring(self._spec.query_scale, (self._spec.window(layer),))
        which = self._choice([self._windows.index(kind.window) for kind in self._spec.pattern], layer)
        return Scoring(self._spec.query_scale, self._windows, which)

    def _choice(self, of_pattern: list[int], layer: LayerNumber) -> jax.Array | int:
        if len(of_pattern) == 1:
            return 0
        if isinstance(layer, int):
            return of_pattern[layer % len(of_pattern)]
        return jnp.asarray(of_pattern, jnp.int32)[layer % len(of_pattern)]
