"""Device meshes and the sharding rules for training and for sampling.

Axes: `replica` and `fsdp` share the batch, `fsdp` also splits the weights, `tensor` splits heads, the mlp and
the vocabulary. Rules map the *logical* axes of a parameter (what an axis means) to mesh axes, so that a model
is written once and laid out differently for training and for sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import DictKey, KeyPath, SequenceKey

from sgtr_jax.arrays import Leaf, Tree
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError

AXES = ("replica", "fsdp", "tensor")
DATA_AXES = ("replica", "fsdp")


@dataclass(frozen=True)
class Rules:
    """Mesh axes for each logical axis of a parameter."""

    embed: tuple[str, ...]
    heads: tuple[str, ...]
    mlp: tuple[str, ...]
    vocab: tuple[str, ...]
    adapter_embed: tuple[str, ...]
    adapter_wide: tuple[str, ...]  # the heads and mlp sides of an adapter


TRAINING = Rules(
    embed=("fsdp",), heads=("tensor",), mlp=("tensor",), vocab=("tensor",),
    # Replicated over fsdp, the moments of one rank-32 adapter of a 32B model would take 2 GB of every chip.
    adapter_embed=("fsdp", "tensor"), adapter_wide=("tensor", "fsdp"),
)  # fmt: skip
# Sampling keeps weights resident: gathering them over fsdp for every decoded token would dominate.
SAMPLING = Rules(
    embed=(), heads=("tensor",), mlp=("tensor",), vocab=("tensor",), adapter_embed=(), adapter_wide=("tensor",)
)

# Logical axes by the name of the module that owns the parameter, then by the parameter's own name.
_KERNELS: dict[str, tuple[str | None, str | None]] = {
    "q_proj": ("embed", "heads"), "k_proj": ("embed", "heads"), "v_proj": ("embed", "heads"),
    "o_proj": ("heads", "embed"), "gate_proj": ("embed", "mlp"), "up_proj": ("embed", "mlp"),
    "down_proj": ("mlp", "embed"),
}  # fmt: skip


def logical_axes(path: tuple[str | int, ...]) -> tuple[str | None, ...]:
    """Logical axes of the base or adapter parameter at `path`.

    Example: `("layers", "q_proj", "kernel")` is `[L, D, N*H]`, hence `(None, "embed", "heads")`. With the number of a
    layer whose weights lie apart in the path, `("layers", 3, "q_proj", "kernel")`, the axis of layers is not there.
    """
    if any(isinstance(part, int) for part in path):
        return logical_axes(tuple(part for part in path if not isinstance(part, int)))[1:]
    *owners, name = (str(part) for part in path)
    if name == "embedding":
        return ("vocab", "embed")
    if name == "head":
        return ("embed", "vocab")
    into, out = _KERNELS.get(owners[-1], (None, None)) if owners else (None, None)
    beside = {"embed": "adapter_embed", "heads": "adapter_wide", "mlp": "adapter_wide", None: None}
    return {
        "kernel": (None, into, out),
        "kernel_scale": (None, out),
        "bias": (None, out),
        "a": (None, None, beside[into]),
        "b": (None, None, beside[out]),
        "scale": (None, None) if len(owners) > 1 else (None,),
    }[name]


def devices_for(config: MeshConfig) -> list[jax.Device]:
    """All devices. Of those that one process simulates on a CPU the first, unless the mesh asks for more."""
    asked = math.prod(config.shape(1))
    simulated = jax.default_backend() == "cpu" and jax.process_count() == 1
    return jax.devices()[:1] if simulated and asked == 1 else jax.devices()


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """Build the mesh. Raises InputError, listing the shapes that work, if it does not use all devices."""
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    shape = config.shape(count)
    if math.prod(shape) != count:
        raise InputError(
            f"mesh {dict(zip(AXES, shape, strict=True))} needs {math.prod(shape)} devices, "
            f"found {count}. Shapes (replica, fsdp, tensor) that work: {_listed(_shapes_for(count))}"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def _shapes_for(count: int) -> list[tuple[int, int, int]]:
    divisors = [n for n in range(1, count + 1) if count % n == 0]
    return [(r, count // (r * t), t) for r in divisors for t in divisors if count % (r * t) == 0]


def _listed(shapes: list[tuple[int, int, int]]) -> str:
    return ", ".join(map(str, shapes)) or "none"


def check_divisible(mesh: Mesh, dimensions: dict[str, tuple[int, str]]) -> None:
    """Check `{what: (size, mesh axis)}`. Raises InputError naming what does not divide and the shapes that do."""

    def indivisible_axes(shape: dict[str, int]) -> list[str]:
        return [
            f"{what} ({size}) over {axis}={shape[axis]}"
            for what, (size, axis) in dimensions.items()
            if size % shape[axis]
        ]

    bad = indivisible_axes(dict(mesh.shape))
    if bad:
        good = [shape for shape in _shapes_for(mesh.size) if not indivisible_axes(dict(zip(AXES, shape, strict=True)))]
        raise InputError(
            f"mesh does not divide the model: {', '.join(bad)}. "
            f"Shapes (replica, fsdp, tensor) that work on {mesh.size} devices: {_listed(good)}"
        )


def leaf_sharding(
    path: tuple[str | int, ...], shape: tuple[int, ...], mesh: Mesh | AbstractMesh, rules: Rules
) -> NamedSharding:
    """Sharding of the base or adapter parameter at `path`.

    An adapter's axis, or the vocabulary, that the mesh does not divide is split over as many mesh axes as do; the
    base's other axes were checked.
    """
    parts: list[tuple[str, ...] | None] = []
    for size, axis in zip(shape, logical_axes(path), strict=True):
        wanted = getattr(rules, axis) if axis else ()
        used = next(n for n in range(len(wanted), -1, -1) if size % _product(mesh, wanted[:n]) == 0)
        parts.append(wanted[:used] or None)
    return NamedSharding(mesh, PartitionSpec(*parts))


def _product(mesh: Mesh | AbstractMesh, axes: tuple[str, ...]) -> int:
    return math.prod(mesh.shape[axis] for axis in axes)


def shardings(tree: object, mesh: Mesh, rules: Rules, leading: int = 0) -> Any:
    """Shardings for a tree of parameters, or of anything that mirrors one (optimizer moments).

    Leaves outside dicts (a step counter, say) are replicated. `leading` axes before the parameter's own (runs, in
    front of an adapter's) are not split.
    """

    def one(path: KeyPath[DictKey | SequenceKey], leaf: Leaf) -> NamedSharding:
        names = _names(path)
        if not names:
            return NamedSharding(mesh, PartitionSpec())
        own = leaf_sharding(names, leaf.shape[leading:], mesh, rules).spec
        return NamedSharding(mesh, PartitionSpec(*(None,) * leading, *own))

    return jax.tree.map_with_path(one, tree)


def _names(path: KeyPath[DictKey | SequenceKey]) -> tuple[str | int, ...]:
    """The keys of dicts on a path, and the number of a layer among them."""
    names: list[str | int] = []
    for entry in path:
        if isinstance(entry, DictKey):
            names.append(entry.key)
        elif isinstance(entry, SequenceKey) and names and names[-1] == "layers":
            names.append(entry.idx)
    return tuple(names)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Lay out an activation: "batch" over the data axes, None unsharded. No-op outside `jax.set_mesh`."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    spec = PartitionSpec(*(DATA_AXES if axis == "batch" else axis for axis in axes))
    laid_out: jax.Array = jax.lax.with_sharding_constraint(x, spec)
    return laid_out


def data_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Sharding of a batch: its axis of rows, behind `leading` others, over the data axes."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * leading, DATA_AXES))


def gather_layer(tree: Tree) -> Tree:
    """One layer's weights, or an adapter's slice of it, whole on every device but for the `tensor` axis.

    Said where the weights are used, it makes every layer's weights travel once. Left to itself the partitioner may
    move activations instead, for each run of a batch anew. No-op outside `jax.set_mesh`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return tree

    def one(path: KeyPath[DictKey], leaf: jax.Array) -> jax.Array:
        names = tuple(entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey))
        # In sampling a layer's adapters may have an axis of chains in front.
        leading = leaf.ndim + 1 - len(logical_axes(("layers", *names)))
        wanted = leaf_sharding(("layers", *names), (1, *leaf.shape[leading:]), mesh, SAMPLING).spec
        whole: jax.Array = jax.lax.with_sharding_constraint(leaf, PartitionSpec(*(None,) * leading, *wanted[1:]))
        return whole

    gathered: Tree = jax.tree.map_with_path(one, tree)
    return gathered


def data_devices() -> int:
    """Over how many devices rows are split in the program being traced."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in DATA_AXES)


def data_size(mesh: Mesh) -> int:
    """Over how many devices rows are split."""
    return _product(mesh, DATA_AXES)


def put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """A host array, the same in every process, as a global array: each process gives its own devices their part."""
    if jax.process_count() == 1:
        there: jax.Array = jax.device_put(array, sharding)
        return there
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
