"""Device meshes and the sharding rules for training and for sampling.

Axes: `replica` and `fsdp` share the batch, `fsdp` also splits the weights, `tensor` splits heads, the mlp and
the vocabulary. Rules map the *logical* axes of a parameter (what an axis means) to mesh axes, so that a model
is written once and laid out differently for training and for sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sgtr_jax.config import Config, PositiveInt
from sgtr_jax.errors import InputError

AXES = ("replica", "fsdp", "tensor")
DATA_AXES = ("replica", "fsdp")


class MeshConfig(Config):
    """Sizes of the mesh axes. `fsdp: null` takes all devices the others leave."""

    replica: PositiveInt = 1
    fsdp: PositiveInt | None = None
    tensor: PositiveInt = 1


@dataclass(frozen=True)
class Rules:
    """Mesh axes for each logical axis of a parameter."""

    embed: str | None
    heads: str | None
    mlp: str | None
    vocab: str | None

    def spec(self, logical: tuple[str | None, ...]) -> PartitionSpec:
        """Partition spec of an array with these logical axes."""
        return PartitionSpec(*(getattr(self, axis) if axis else None for axis in logical))


TRAINING = Rules(embed="fsdp", heads="tensor", mlp="tensor", vocab="tensor")
# Sampling keeps weights resident: gathering them over fsdp for every decoded token would dominate.
SAMPLING = Rules(embed=None, heads="tensor", mlp="tensor", vocab="tensor")

# Logical axes by the name of the module that owns the parameter, then by the parameter's own name.
_KERNELS: dict[str, tuple[str | None, str | None]] = {
    "q_proj": ("embed", "heads"), "k_proj": ("embed", "heads"), "v_proj": ("embed", "heads"),
    "o_proj": ("heads", "embed"), "gate_proj": ("embed", "mlp"), "up_proj": ("embed", "mlp"),
    "down_proj": ("mlp", "embed"),
}  # fmt: skip


def logical_axes(path: tuple[str, ...]) -> tuple[str | None, ...]:
    """Logical axes of the base or adapter parameter at `path`.

    Example: `("layers", "q_proj", "kernel")` is `[L, D, N*H]`, hence `(None, "embed", "heads")`.
    """
    *owners, name = path
    if name == "embedding":
        return ("vocab", "embed")
    if name == "head":
        return ("embed", "vocab")
    into, out = _KERNELS.get(owners[-1], (None, None)) if owners else (None, None)
    return {
        "kernel": (None, into, out),
        "bias": (None, out),
        "a": (None, into, None),
        "b": (None, None, out),
        "scale": (None, None) if len(owners) > 1 else (None,),
    }[name]


def make_mesh(config: MeshConfig, devices: list[Any] | None = None) -> Mesh:
    """Build the mesh. Raises InputError, listing the shapes that work, if it does not use all devices."""
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    fsdp = config.fsdp or max(1, count // (config.replica * config.tensor))
    shape = (config.replica, fsdp, config.tensor)
    if config.replica * fsdp * config.tensor != count:
        raise InputError(
            f"mesh {dict(zip(AXES, shape, strict=True))} needs {config.replica * fsdp * config.tensor} devices, "
            f"found {count}. Shapes (replica, fsdp, tensor) that work: {_shapes_for(count)}"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def _shapes_for(count: int) -> str:
    pairs = [(1, count // tensor, tensor) for tensor in range(1, count + 1) if count % tensor == 0]
    return ", ".join(str(pair) for pair in pairs)


def check_divisible(mesh: Mesh, dimensions: dict[str, tuple[int, str]]) -> None:
    """Check `{what: (size, mesh axis)}`. Raises InputError naming what does not divide."""
    bad = [
        f"{what} ({size}) over {axis}={mesh.shape[axis]}"
        for what, (size, axis) in dimensions.items()
        if size % mesh.shape[axis]
    ]
    if bad:
        raise InputError("mesh does not divide the model: " + ", ".join(bad))


def shardings(tree: Any, mesh: Mesh, rules: Rules) -> Any:
    """NamedShardings for a parameter tree (base or adapter parameters)."""

    def one(path: Any, _: Any) -> NamedSharding:
        return NamedSharding(mesh, rules.spec(logical_axes(tuple(entry.key for entry in path))))

    return jax.tree.map_with_path(one, tree)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Lay out an activation: "batch" over the data axes, None unsharded. No-op outside `jax.set_mesh`."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    spec = PartitionSpec(*(DATA_AXES if axis == "batch" else axis for axis in axes))
    return jax.lax.with_sharding_constraint(x, spec)


def data_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of a batch: its leading axis over the data axes."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXES))
