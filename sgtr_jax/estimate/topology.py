"""Programs compiled for TPU slices that need not exist here (`libtpu` must be installed)."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, topologies
from jax.sharding import AxisType, Mesh
from jax.stages import Compiled
from jax.typing import DTypeLike

from sgtr_jax.arrays import Tree
from sgtr_jax.data.packing import PackedShape
from sgtr_jax.distributed.layout import layer_layout
from sgtr_jax.distributed.mesh import AXES, SAMPLING, TRAINING, data_sharding, shardings
from sgtr_jax.errors import InputError
from sgtr_jax.lora.adapter import init_adapter
from sgtr_jax.models.decoder import abstract_params
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.decode import DecodeProgram, DecodeShape
from sgtr_jax.sample.prefill import prefill
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.program import Programs, abstract_batch
from sgtr_jax.train.step import RunConstants, init_state


def topology_mesh(name: str, shape: tuple[int, int, int]) -> Mesh:
    """A mesh (replica, fsdp, tensor) over a slice such as `v5e:4x4`. Raises InputError for an unknown slice."""
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # else a second process finds a lock
    # The two cores of a v4 chip work as one device.
    options: dict[str, Any] = {"chip_config_name": "megacore"} if name.startswith("v4") else {}
    if name.endswith(":1x1"):
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        slice_ = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except Exception as error:  # noqa: BLE001 - libtpu raises whatever its C API returns
        raise InputError(
            f"topology {name!r}: libtpu does not know it, or is not installed (pip install libtpu): {error}"
        ) from None
    if len(slice_.devices) != int(np.prod(shape)):
        raise InputError(f"topology {name!r} has {len(slice_.devices)} chips; mesh {shape} needs {int(np.prod(shape))}")
    devices = mesh_utils.create_device_mesh(shape, slice_.devices, allow_split_physical_axes=True)
    return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * 3)


def compile_step(spec: ModelSpec, config: TrainConfig, mesh: Mesh, runs: int, shape: PackedShape) -> Compiled:
    """The training step of so many runs, compiled for the mesh's devices from shapes alone."""
    programs = Programs(spec, config, mesh)
    one = jax.eval_shape(lambda: init_state(init_adapter(spec, config.lora, jax.random.key(0)).params, config))

    def placed(tree: Tree, leading: int) -> Tree:
        slots = shardings(tree, mesh, TRAINING, leading)
        found: Tree = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, slots)
        return found

    def batched(tree: Tree) -> Tree:
        several: Tree = jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape), x.dtype), tree)
        return placed(several, 1)

    number = jax.ShapeDtypeStruct((), jnp.float32)
    whole = jax.ShapeDtypeStruct((), jnp.int32)
    numbers: Any = (number, jax.ShapeDtypeStruct((2,), jnp.uint32), number, whole)
    layout = layer_layout(mesh, TRAINING)
    base = placed(abstract_params(spec, jnp.dtype(config.dtype), config.base_dtype == "int8", layout), 0)
    batch = abstract_batch(runs, shape, mesh)
    return programs.compile(batched(one), base, batched(RunConstants((), *numbers)), batch)


def compile_decode(
    spec: ModelSpec, mesh: Mesh, slots: int, cache_slots: int, dtype: DTypeLike = jnp.bfloat16
) -> Compiled:
    """The decode program of the sampler (a greedy batch of one chain), compiled for the mesh's devices."""
    base = abstract_params(spec, dtype, layout=layer_layout(mesh, SAMPLING))
    where = shardings(base, mesh, SAMPLING)
    params = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), base, where)
    shape = DecodeShape(slots, cache_slots, stop_ids=4, tokens=32, draws=False, truncates=False, top_logprobs=None)
    return DecodeProgram(spec, mesh, params, (), shape).compiled


def compile_prefill(spec: ModelSpec, mesh: Mesh, rows: int, length: int, dtype: DTypeLike = jnp.bfloat16) -> Compiled:
    """Prefill of `rows` prompts of `length` tokens without adapters, compiled for the mesh's devices."""
    base = abstract_params(spec, dtype, layout=layer_layout(mesh, SAMPLING))
    where = shardings(base, mesh, SAMPLING)
    params = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), base, where)
    own = data_sharding(mesh)
    tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=own)
    lengths = jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=own)
    with jax.set_mesh(mesh):
        return prefill.lower(params, (), tokens, lengths, spec=spec, attention="splash").compile()
