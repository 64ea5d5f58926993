"""Compiled steps, one per number of runs and shape, with what they cost in memory and time to compile."""

from __future__ import annotations

import time
from collections.abc import Mapping

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled

from sgtr_jax.arrays import Params
from sgtr_jax.data.packing import PackedShape
from sgtr_jax.distributed.compiler_options import compiler_options
from sgtr_jax.distributed.memory import peak_bytes, usable_memory
from sgtr_jax.distributed.mesh import TRAINING, data_sharding, data_size, shardings
from sgtr_jax.models.attention import AttentionKind
from sgtr_jax.models.attention_choice import attention_for, equal_cost_length
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.objective import own_rows
from sgtr_jax.train.step import RunConstants, TrainState, make_step

AbstractBatch = dict[str, jax.ShapeDtypeStruct]


def attention_kind(config: TrainConfig, mesh: Mesh) -> AttentionKind:
    """The implementation that `config.attention` stands for on these devices."""
    if config.attention != "auto":
        return config.attention
    return attention_for(mesh.devices.flat[0].platform)


class Programs:
    """The compiled steps of one training."""

    def __init__(
        self, spec: ModelSpec, config: TrainConfig, mesh: Mesh, others: Mapping[str, PackedShape] | None = None
    ) -> None:
        self.mesh = mesh
        self.others = others or {}  # the shape of the rows that only a penalty reads, by its name
        self._config = config
        self._attention = attention_kind(config, mesh)
        self._step = make_step(spec, config, self._attention)
        self._compiled: dict[tuple[int, PackedShape], Compiled] = {}
        self.compile_seconds = 0.0

    @property
    def count(self) -> int:
        """Programs compiled so far."""
        return len(self._compiled)

    @property
    def remat(self) -> str:
        """What is recomputed in the backward pass."""
        return self._config.remat

    @property
    def row_multiple(self) -> int:
        """What the number of rows of a step must be a multiple of."""
        return data_size(self.mesh) * self._config.accumulate

    @property
    def attention_length(self) -> float:
        """See `choose_shapes`."""
        return equal_cost_length(self._attention, self.mesh.devices.flat[0].platform)

    @property
    def peak_bytes(self) -> int:
        """Most memory that one of the programs needs on one device."""
        return max(map(peak_bytes, self._compiled.values()), default=0)

    def get(
        self, runs: int, shape: PackedShape, state: TrainState, base: Params | None, constants: RunConstants
    ) -> Compiled:
        """The step for `runs` runs packed into `shape`, for arrays (or their shapes and shardings) like these."""
        if (runs, shape) not in self._compiled:
            started = time.monotonic()
            self._compiled[runs, shape] = self.compile(state, base, constants, self._batch(runs, shape))
            self.compile_seconds += time.monotonic() - started
        return self._compiled[runs, shape]

    def _batch(self, runs: int, shape: PackedShape) -> AbstractBatch:
        batch = abstract_batch(runs, shape, self.mesh)
        for name, fixed in self.others.items():
            batch |= {own_rows(name) + key: x for key, x in abstract_batch(runs, fixed, self.mesh).items()}
        return batch

    def compile(
        self, state: TrainState, base: Params | None, constants: RunConstants, batch: AbstractBatch
    ) -> Compiled:
        """The step compiled for these arguments, with the options for the mesh's devices, which need not exist."""
        # The state must come back as it went in, or the next call would not accept it.
        out = (state_shardings(state, self.mesh), NamedSharding(self.mesh, PartitionSpec()))
        step = jax.jit(self._step, donate_argnums=0, out_shardings=out)
        with jax.set_mesh(self.mesh):
            lowered = step.lower(state, base, constants, batch)
            return lowered.compile(compiler_options(list(self.mesh.devices.flat)) or None)

    def fits(
        self, runs: int, shape: PackedShape, state: TrainState, base: Params | None, constants: RunConstants
    ) -> bool:
        """Whether that step's memory is within what a device has."""
        limit = usable_memory(list(self.mesh.devices.flat))
        try:
            program = self.get(runs, shape, state, base, constants)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return False
        return limit is None or peak_bytes(program) <= limit


def state_shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """Adapters and their moments split over the mesh; the axis of runs is not."""
    found: TrainState = shardings(state, mesh, TRAINING, leading=1)
    return found


def abstract_batch(runs: int, shape: PackedShape, mesh: Mesh) -> AbstractBatch:
    """Shapes, dtypes and shardings of a step's arrays."""
    rows, loss_positions = (runs, shape.rows, shape.length), (runs, shape.rows, shape.loss_positions)
    int32, float32 = jax.numpy.int32, jax.numpy.float32
    kinds = dict.fromkeys(("tokens", "positions", "segments"), (rows, int32))
    kinds |= {
        "target_positions": (loss_positions, int32),
        "target_tokens": (loss_positions, int32),
        "target_weights": (loss_positions, float32),
    }
    sharding = data_sharding(mesh, leading=1)
    return {name: jax.ShapeDtypeStruct(size, kind, sharding=sharding) for name, (size, kind) in kinds.items()}
