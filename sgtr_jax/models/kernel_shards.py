"""An attention kernel on a mesh: each device runs it on its own rows and heads."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int32

from sgtr_jax.distributed.mesh import DATA_AXES

Kernel = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def on_own_shards(
    run: Kernel,
    q: Float[Array, "B T N H"],
    k: Float[Array, "B K T H"],
    v: Float[Array, "B K T H"],
    segments: Int32[Array, "B T"],
) -> Float[Array, "B T N H"]:
    """`run(q, k, v, segments)`, by hand where there is a mesh, as XLA cannot split a kernel.

    Rows go over the data axes and heads over `tensor`.
    """
    if not jax.sharding.get_abstract_mesh().empty:
        queries = PartitionSpec(DATA_AXES, None, "tensor", None)
        keys = PartitionSpec(DATA_AXES, "tensor", None, None)
        rows = PartitionSpec(DATA_AXES, None)
        run = jax.shard_map(run, in_specs=(queries, keys, keys, rows), out_specs=queries, check_vma=False)
    return run(q, k, v, segments)
