"""An experiment on a TPU slice: whether training and sampling fit, on which mesh, and how long they take at least."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sgtr_jax.data.packing import PackedShape
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.estimate.decode_bounds import prefill_ms, read_gb, resident_mesh, rows_at_once
from sgtr_jax.estimate.fit import Fit, MeshShape, compiled_or_why, fit, meshes, peak_gb
from sgtr_jax.estimate.slices import Slice
from sgtr_jax.estimate.topology import compile_decode, topology_mesh
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.cost import Training
from sgtr_jax.experiment.node import Sampled
from sgtr_jax.experiment.nodes.pairs import Pairs
from sgtr_jax.json_types import JsonObject
from sgtr_jax.models.spec import ModelSpec

_SLOTS = 2048  # tokens of a row, for which sampling is to fit
_MOST_RUNS = 4  # at once, that are compiled for here; a run finds out how many its memory holds


@dataclass(frozen=True)
class OnSlice:
    """What was found for one slice. Times are bounds from below, in chip hours; None where something does not fit."""

    slice_: Slice
    mesh: MeshShape | None  # of training; None: there is nothing to train
    runs_at_once: int
    training_fits: bool
    training_hours: float
    sampling_mesh: MeshShape
    sampling_fits: bool
    sampling_hours: float
    peak_gb: float  # of a chip, in training or sampling

    @property
    def fits(self) -> bool:
        """Both do."""
        return self.training_fits and self.sampling_fits

    @property
    def hours(self) -> float | None:
        """Chip hours at least."""
        return self.training_hours + self.sampling_hours if self.fits else None

    def to_json(self) -> JsonObject:
        """What `sgtr plan --json` says of a slice."""
        return {
            "topology": self.slice_.name, "chips": self.slice_.chips, "fits": self.fits,
            "mesh": list(self.mesh) if self.mesh else None, "runs_at_once": self.runs_at_once,
            "sampling_mesh": list(self.sampling_mesh), "sampling_fits": self.sampling_fits,
            "peak_gb_per_chip": None if math.isnan(self.peak_gb) else round(self.peak_gb, 2),
            "limit_gb_per_chip": round(self.slice_.chip.memory_gb, 2),
            "training_hours_at_least": self.training_hours if self.training_fits else None,
            "sampling_hours_at_least": self.sampling_hours if self.sampling_fits else None,
            "accelerator_hours_at_least": self.hours,
        }  # fmt: skip


def on_slice(
    console: Console, spec: ModelSpec, config: ExperimentConfig, slice_: Slice, trainings: Sequence[Training],
    sampled: Sequence[Sampled], all_meshes: bool,
) -> OnSlice:  # fmt: skip
    """Compile for a slice and print what was found. Raises InputError for a mesh that is not the slice's."""
    tried = _training_meshes(spec, config, slice_, all_meshes)
    sampling = _sampling_mesh(spec, config.sampling_mesh, slice_)
    table = Table(title=f"{slice_.name}: {slice_.chips} chips of {slice_.chip.memory_gib} GiB")
    for column in ("mesh (replica, fsdp, tensor)", "runs x rows x tokens", "fits", "peak GB", "compute ms", "memory ms",
                   "links ms"):  # fmt: skip
        table.add_column(column, justify="right")

    def compiled(mesh: MeshShape, tokens: int, runs: int) -> Fit:
        shape = _shape(tokens, config, mesh)
        one = fit(spec, config.finetuning, slice_.chip, topology_mesh(slice_.topology, mesh), runs, shape)
        says = "yes" if one.fits else f"no: {one.why}"
        numbers = (one.peak_gb, one.compute_ms, one.memory_ms, one.link_ms)
        table.add_row(str(mesh), f"{runs} x {shape.rows} x {shape.length}", says, *(f"{n:.1f}" for n in numbers))
        return one

    counts = Counter(training.tokens for training in trainings)
    steps = {tokens: sum((t.steps or 0) * t.relative for t in trainings if t.tokens == tokens) for tokens in counts}
    found = [{tokens: compiled(mesh, tokens, 1) for tokens in counts} for mesh in tried]
    fitting = [one for one in found if all(fit.fits for fit in one.values())]
    chosen = min(fitting or found[:1], key=lambda one: sum(steps[t] * one[t].bound_ms for t in one))
    peaks = [one.peak_gb for one in chosen.values()]
    milliseconds, at_once = 0.0, 1
    for tokens, one in chosen.items():
        runs, best = min(counts[tokens], config.finetuning.runs_at_once or _MOST_RUNS, _MOST_RUNS), one.bound_ms
        if fitting and runs > 1:
            together = compiled(one.mesh, tokens, runs)
            if together.fits and together.bound_ms / runs < best:
                at_once, best = max(at_once, runs), together.bound_ms / runs
                peaks.append(together.peak_gb)
        milliseconds += steps[tokens] * best
    sampling_fits, peak = _sampling_fit(spec, slice_, sampling, table)
    console.print(table)
    sampling_ms = sum(_sampling_ms(spec, slice_, sampling, one) for one in sampled)
    return OnSlice(
        slice_,
        next(iter(chosen.values())).mesh if chosen else None,
        at_once,
        bool(fitting) or not trainings,
        milliseconds / 3.6e6 * slice_.chips,
        sampling,
        sampling_fits,
        sampling_ms / 3.6e6 * slice_.chips,
        max((p for p in (*peaks, peak) if not math.isnan(p)), default=math.nan),
    )


def _training_meshes(spec: ModelSpec, config: ExperimentConfig, slice_: Slice, every: bool) -> list[MeshShape]:
    own = config.finetuning.mesh
    if own == "auto":
        return list(meshes(spec, slice_.chips))
    given = _filled("finetuning.mesh", own, slice_)
    return [given, *(mesh for mesh in meshes(spec, slice_.chips) if every and mesh != given)]


def _sampling_mesh(spec: ModelSpec, own: MeshConfig | None, slice_: Slice) -> MeshShape:
    return resident_mesh(spec, slice_) if own is None else _filled("sampling_mesh", own, slice_)


def _filled(name: str, own: MeshConfig, slice_: Slice) -> MeshShape:
    mesh = own.shape(slice_.chips)
    if math.prod(mesh) != slice_.chips:
        raise InputError(f"{name} {mesh} needs {math.prod(mesh)} chips; {slice_.name} has {slice_.chips}")
    return mesh


def _shape(tokens: int, config: ExperimentConfig, mesh: MeshShape) -> PackedShape:
    """A step's shape by tokens of an example: as many rows as examples, rounded up to what the mesh divides."""
    divisor = mesh[0] * mesh[1]
    length = min(config.finetuning.max_length, 128 * -(-tokens // 128))
    rows = -(-config.finetuning.batch_examples // divisor) * divisor
    return PackedShape(rows, length, 8 if tokens >= Pairs.tokens_per_row else length)


def _sampling_fit(spec: ModelSpec, slice_: Slice, mesh: MeshShape, table: Table) -> tuple[bool, float]:
    """Whether decoding a batch fits, and its peak in GB; a line of the table."""
    rows = rows_at_once(slice_, mesh)
    compiled, why = compiled_or_why(
        lambda: compile_decode(spec, topology_mesh(slice_.topology, mesh), rows, _SLOTS), slice_.chip.memory_gb
    )
    peak = math.nan if compiled is None else peak_gb(compiled)
    token_ms = 1e3 * read_gb(spec, mesh, rows, _SLOTS) / slice_.chip.memory_gb_s
    says = f"no: {why}" if why else "yes"
    table.add_row(str(mesh), f"sampling: {rows} x {_SLOTS}", says, f"{peak:.1f}", "-", f"{token_ms:.1f}", "-")
    return not why, peak


def _sampling_ms(spec: ModelSpec, slice_: Slice, mesh: MeshShape, one: Sampled) -> float:
    """Prompts once at the chips' peak, then every token of a batch reads weights and half-filled cache."""
    prefill = prefill_ms(spec, slice_, one.prompts * one.prompt_tokens)
    rows = min(rows_at_once(slice_, mesh), one.answers)
    token = 1e3 * read_gb(spec, mesh, rows, one.prompt_tokens + one.answer_tokens // 2) / slice_.chip.memory_gb_s
    return prefill + (one.answer_tokens - 1) * one.answers / rows * token
