"""The sizes of a mesh's axes as a config has them; importing it does not import JAX."""

from __future__ import annotations

from sgtr_jax.config import Config, PositiveInt


class MeshConfig(Config):
    """Sizes of the mesh axes. `fsdp: null` takes all devices the others leave."""

    replica: PositiveInt = 1  # The number of groups of devices that share the rows and each hold all weights.
    # The number of devices that share the rows and split the weights. null: all devices that the other axes leave.
    fsdp: PositiveInt | None = None
    tensor: PositiveInt = 1  # The number of devices that split heads, MLP and vocabulary.

    def shape(self, devices: int) -> tuple[int, int, int]:
        """Sizes of the axes on so many devices; their product is another number where these do not divide it."""
        fsdp = self.fsdp or max(1, devices // (self.replica * self.tensor))
        return (self.replica, fsdp, self.tensor)
