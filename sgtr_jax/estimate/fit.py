"""Whether a training step fits a slice, and what bounds it, from the program compiled for it.

Memory is the compiler's own; a program that does not fit does not compile. Bounds are arithmetic on published peaks:
nothing here ran on a TPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jax.sharding import Mesh
from jax.stages import Compiled

from sgtr_jax.data.packing import PackedShape
from sgtr_jax.estimate.communication import collectives
from sgtr_jax.estimate.slices import Chip
from sgtr_jax.estimate.topology import compile_step
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.train.config import TrainConfig

MARGIN = 0.9  # of a chip's memory; the runtime and the next batch want some too

MeshShape = tuple[int, int, int]  # replica, fsdp, tensor


@dataclass(frozen=True)
class Fit:
    """A step of one shape on a mesh of a slice."""

    mesh: MeshShape
    shape: PackedShape
    fits: bool
    why: str  # empty if it fits
    peak_gb: float  # of a chip, NaN where it did not compile
    limit_gb: float
    compute_ms: float
    memory_ms: float
    link_ms: float
    moved_gb: float = math.nan  # between chips, for each of them
    exposed_ms: float = math.nan  # of `link_ms`, in which chips wait, as the program is scheduled

    @property
    def bound_ms(self) -> float:
        """The longest of the three: what moves between chips does so while they compute."""
        return max(self.compute_ms, self.memory_ms, self.link_ms)

    @property
    def serial_ms(self) -> float:
        """The same where chips wait for all that moves between them."""
        return max(self.compute_ms, self.memory_ms) + self.link_ms

    @property
    def scheduled_ms(self) -> float:
        """The same as the compiler scheduled it: chips wait for some of what moves, and compute during the rest."""
        return self.exposed_ms + max(self.compute_ms, self.memory_ms, self.link_ms - self.exposed_ms)

    @property
    def bound_by(self) -> str:
        """Which of the three it is."""
        bounds = {"compute": self.compute_ms, "memory": self.memory_ms, "links": self.link_ms}
        return max(bounds, key=lambda name: bounds[name])


def meshes(spec: ModelSpec, chips: int) -> Iterator[MeshShape]:
    """Meshes of a slice that divide the model, all of it sharded: `tensor` up to the key-value heads."""
    for tensor in (1, 2, 4, 8):
        fsdp = chips // tensor
        if fsdp * tensor == chips and spec.num_kv_heads % tensor == 0 and spec.hidden_size % fsdp == 0:
            yield (1, fsdp, tensor)


def fit(spec: ModelSpec, config: TrainConfig, chip: Chip, devices: Mesh, runs: int, shape: PackedShape) -> Fit:
    """Compile a step of `runs` runs packed into `shape` for a mesh of such chips, which need not be here."""
    config = config.remat_to_try()[-1]  # `auto` comes to the last where nothing else fits
    mesh = (devices.shape["replica"], devices.shape["fsdp"], devices.shape["tensor"])
    limit = chip.memory_gb
    compute, memory = arithmetic_ms(spec, config, chip, mesh, runs, shape)
    compiled, why = compiled_or_why(lambda: compile_step(spec, config, devices, runs, shape), limit)
    if compiled is None:
        return Fit(mesh, shape, False, why, math.nan, limit, compute, memory, math.nan)
    peak = peak_gb(compiled)
    all_moved = collectives(compiled) if devices.size > 1 else []
    moved = sum(one.moved for one in all_moved)
    waited_for = sum(one.moved for one in all_moved if not one.is_asynchronous)
    # Of what a collective gives, a chip has its own part already: a half or less, in the smallest group there is.
    smallest = min((side for side in mesh if side > 1), default=1)
    link = 1e3 * moved * (1 - 1 / smallest) / (chip.link_gb_s * 1e9)
    exposed = link * waited_for / moved if moved else 0.0
    return Fit(mesh, shape, not why, why, peak, limit, compute, memory, link, moved / 1e9, exposed)


def arithmetic_ms(
    spec: ModelSpec, config: TrainConfig, chip: Chip, mesh: MeshShape, runs: int, shape: PackedShape
) -> tuple[float, float]:
    """Milliseconds of a step's operations, and of reading its weights, at a chip's peaks."""
    chips, tokens = math.prod(mesh), runs * shape.rows * shape.length
    # Forward and input gradients, 2 operations a weight and token each; what is recomputed costs another forward pass.
    passes = {"none": 2.0, "light": 2.0, "full": 3.0}[config.remat]
    weights = projected = passes * spec.projection_parameters
    if config.remat == "full" and not spec.norm_after:
        # Nothing reads a layer's output again, so that the backward pass does not make it again.
        projected -= spec.num_layers * math.prod(spec.projections["down_proj"])
    head = 2 * 2 * spec.vocab_size * spec.hidden_size * runs * shape.rows * shape.loss_positions
    # The kernel leaves out what no query sees, so that a layer with a window costs its window.
    attention = passes * 2 * 2 * tokens * spec.keys_seen(shape.length) * spec.num_heads * spec.head_dim
    flops = (2 * projected * tokens + head + attention) / chips
    size = 1 if config.base_dtype == "int8" else 2 if config.dtype == "bfloat16" else 4
    return 1e3 * flops / (chip.tflops * 1e12), 1e3 * size * weights / mesh[2] / (chip.memory_gb_s * 1e9)


def compiled_or_why(compile_: Callable[[], Compiled], limit_gb: float) -> tuple[Compiled | None, str]:
    """A program, if it compiles within a chip's memory, and what is against its size; empty where nothing is."""
    try:
        compiled = compile_()
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "memory" not in str(error).lower():
            raise
        return None, _in_short(str(error))
    peak = peak_gb(compiled)
    fits = peak <= MARGIN * limit_gb
    return compiled, "" if fits else f"{peak:.1f} GB is more than {MARGIN:.0%} of {limit_gb:.1f} GB"


def peak_gb(compiled: Compiled) -> float:
    """Most memory that a program compiled for a TPU needs on one chip."""
    memory = compiled.memory_analysis()
    assert memory is not None  # the compiler for TPUs says it
    return float(memory.peak_memory_in_bytes / 1e9)


def _in_short(error: str) -> str:
    line = next((line for line in error.splitlines() if "memory" in line.lower()), error.splitlines()[0])
    return line.strip()[:160]
