"""An experiment on a TPU slice: whether training and sampling fit, on which mesh, and how long they take.

Two times stand side by side: what the work takes at least, at the chips' peaks, and what it is expected to take.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rich.console import Console
from rich.table import Table

from sgtr_jax.data.lengths import Lengths, shapes_of_steps
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.estimate.decode_bounds import prefill_ms, read_gb, resident_mesh
from sgtr_jax.estimate.expected import OF_BANDWIDTH, OF_PRODUCTS, expected_step_ms, host_ms, start_ms
from sgtr_jax.estimate.fit import Fit, MeshShape, arithmetic_ms, compiled_or_why, fit, meshes, peak_gb
from sgtr_jax.estimate.slices import Slice
from sgtr_jax.estimate.topology import compile_decode, topology_mesh
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.cost import Training
from sgtr_jax.experiment.node import Sampled
from sgtr_jax.json_types import JsonObject
from sgtr_jax.models.attention_choice import equal_cost_length
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.engine import MAX_PLACES, whole_cache_slots

_SLOTS = 2048  # tokens of a row, for which sampling is to fit where nothing is to be sampled


@dataclass(frozen=True)
class Hours:
    """Chip hours: what work takes at least, and what is expected."""

    least: float = 0.0
    expected: float = 0.0


@dataclass(frozen=True)
class Steps:
    """Steps of some runs at once: the program of their largest shape, and the mean milliseconds of one run's step."""

    largest: Fit
    runs: int
    least_ms: float
    expected_ms: float


@dataclass(frozen=True)
class Sampling:
    """Whether a batch of rows fits, and how many do."""

    mesh: MeshShape
    rows: int
    fits: bool
    peak_gb: float


@dataclass(frozen=True)
class OnSlice:
    """What was found for one slice."""

    slice_: Slice
    mesh: MeshShape | None  # of training; None: there is nothing to train
    runs_at_once: int
    training_fits: bool
    training: Hours
    sampling: Sampling
    sampled: Hours  # without the host's work
    host_hours: float  # in which the slice waits for the host: preparing and writing answers, loading, compiling
    peak_gb: float  # of a chip, in training or sampling

    @property
    def fits(self) -> bool:
        """Both do."""
        return self.training_fits and self.sampling.fits

    @property
    def hours(self) -> Hours | None:
        """Chip hours of all of it; None where something does not fit."""
        if not self.fits:
            return None
        expected = self.training.expected + self.sampled.expected + self.host_hours
        return Hours(self.training.least + self.sampled.least, expected)

    def to_json(self) -> JsonObject:
        """What `sgtr plan --json` says of a slice."""
        hours = self.hours
        return {
            "topology": self.slice_.name, "chips": self.slice_.chips, "fits": self.fits,
            "mesh": list(self.mesh) if self.mesh else None, "runs_at_once": self.runs_at_once,
            "sampling_mesh": list(self.sampling.mesh), "sampling_fits": self.sampling.fits,
            "sampling_rows": self.sampling.rows,
            "peak_gb_per_chip": None if math.isnan(self.peak_gb) else round(self.peak_gb, 2),
            "limit_gb_per_chip": round(self.slice_.chip.memory_gb, 2),
            "training_hours_at_least": self.training.least if self.training_fits else None,
            "sampling_hours_at_least": self.sampled.least if self.sampling.fits else None,
            "accelerator_hours_at_least": hours.least if hours else None,
            "training_hours_expected": self.training.expected if self.training_fits else None,
            "sampling_hours_expected": self.sampled.expected if self.sampling.fits else None,
            "waiting_hours_expected": self.host_hours,
            "accelerator_hours_expected": hours.expected if hours else None,
        }  # fmt: skip


def on_slice(
    console: Console, spec: ModelSpec, config: ExperimentConfig, slice_: Slice, trainings: Sequence[Training],
    sampled: Sequence[Sampled], all_meshes: bool,
) -> OnSlice:  # fmt: skip
    """Compile for a slice and print what was found. Raises InputError for a mesh that is not the slice's."""
    tried = _training_meshes(spec, config, slice_, all_meshes)
    sampling_mesh = _sampling_mesh(spec, config.sampling_mesh, slice_)
    table = Table(title=f"{slice_.name}: {slice_.chips} chips of {slice_.chip.memory_gib} GiB")
    for column in ("mesh (replica, fsdp, tensor)", "runs x rows x tokens", "fits", "peak GB", "compute ms", "memory ms",
                   "links ms", "of which waited for"):  # fmt: skip
        table.add_column(column, justify="right")

    def compiled(mesh: MeshShape, lengths: Lengths, runs: int) -> Steps:
        one = _steps(spec, config, slice_, mesh, lengths, runs)
        fitted = one.largest
        says = "yes" if fitted.fits else f"no: {fitted.why}"
        numbers = (fitted.peak_gb, fitted.compute_ms, fitted.memory_ms, fitted.link_ms, fitted.exposed_ms)
        size = f"{runs} x {fitted.shape.rows} x {fitted.shape.length}"
        table.add_row(str(mesh), size, says, *(f"{n:.1f}" for n in numbers))
        return one

    counts = Counter(training.lengths for training in trainings)
    steps = {one: sum((t.steps or 0) * t.relative for t in trainings if t.lengths == one) for one in counts}
    found = [{lengths: compiled(mesh, lengths, 1) for lengths in counts} for mesh in tried]
    fitting = [one for one in found if all(of_set.largest.fits for of_set in one.values())]
    chosen = min(fitting or found[:1], key=lambda one: sum(steps[x] * one[x].expected_ms for x in one))
    if fitting:
        chosen = {
            lengths: _together(
                one,
                min(counts[lengths], config.finetuning.runs_at_once or counts[lengths]),
                partial(compiled, one.largest.mesh, lengths),
            )
            for lengths, one in chosen.items()
        }
    sampling = _sampling_fit(spec, slice_, sampling_mesh, sampled, table)
    console.print(table)
    hours_per_ms = slice_.chips / 3.6e6
    weights_gb = 2e-9 * spec.projection_parameters
    waiting = sum(host_ms(one.answers, one.answer_tokens) for one in sampled)
    waiting += start_ms(weights_gb, slice_.chips) * (bool(trainings) + bool(sampled))
    peaks = (*(one.largest.peak_gb for one in chosen.values()), sampling.peak_gb)
    return OnSlice(
        slice_,
        next(iter(chosen.values())).largest.mesh if chosen else None,
        max((one.runs for one in chosen.values()), default=1),
        bool(fitting) or not trainings,
        Hours(
            hours_per_ms * sum(steps[x] * one.least_ms for x, one in chosen.items()),
            hours_per_ms * sum(steps[x] * one.expected_ms for x, one in chosen.items()),
        ),
        sampling,
        _sampled(spec, slice_, sampling, sampled),
        hours_per_ms * waiting,
        max((p for p in peaks if not math.isnan(p)), default=math.nan),
    )


def _steps(
    spec: ModelSpec, config: ExperimentConfig, slice_: Slice, mesh: MeshShape, lengths: Lengths, runs: int
) -> Steps:
    """Compile the largest shape that the steps are packed into; the others move as much and compute less."""
    training = config.finetuning
    row_multiple = mesh[0] * mesh[1] * training.accumulate
    attention_length = equal_cost_length("splash", "tpu")
    shapes = shapes_of_steps(lengths, training.batch_examples, runs, row_multiple, attention_length)
    largest = max(shapes, key=lambda shape: shape.rows * shape.length)
    one = fit(spec, training, slice_.chip, topology_mesh(slice_.topology, mesh), runs, largest)
    resolved = training.remat_to_try()[-1]
    least = expected = 0.0
    for shape, often in shapes.items():
        compute, memory = arithmetic_ms(spec, resolved, slice_.chip, mesh, runs, shape)
        like = replace(one, shape=shape, compute_ms=compute, memory_ms=memory)
        least += often * like.bound_ms
        expected += often * expected_step_ms(like)
    each = runs * shapes.total()
    return Steps(one, runs, least / each, expected / each)


def _together(alone: Steps, wanted: int, compiled: Callable[[int], Steps]) -> Steps:
    """As many runs at once as fit, by the trainer's own search, where that is faster than one after another."""
    while wanted > 1:
        one = compiled(wanted)
        if one.largest.fits:
            return min(alone, one, key=lambda steps: steps.expected_ms)
        wanted = -(-wanted // 2)
    return alone


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


def _sampling_fit(
    spec: ModelSpec, slice_: Slice, mesh: MeshShape, sampled: Sequence[Sampled], table: Table
) -> Sampling:
    """How many rows of the longest task fit, of those that the engine would take; a line of the table for each try."""
    longest = max((one.prompt_tokens + one.answer_tokens for one in sampled), default=_SLOTS)
    slots, groups = whole_cache_slots(longest), slice_.chips // mesh[2]
    rows = max(groups, MAX_PLACES // groups * groups)
    while True:
        decode = partial(compile_decode, spec, topology_mesh(slice_.topology, mesh), rows, slots)
        compiled, why = compiled_or_why(decode, slice_.chip.memory_gb)
        peak = math.nan if compiled is None else peak_gb(compiled)
        token_ms = 1e3 * read_gb(spec, mesh, rows, slots) / slice_.chip.memory_gb_s
        says = f"no: {why}" if why else "yes"
        table.add_row(str(mesh), f"sampling: {rows} x {slots}", says, f"{peak:.1f}", "-", f"{token_ms:.1f}", "-", "-")
        if not why or rows <= groups:
            return Sampling(mesh, rows, not why, peak)
        rows = max(groups, rows // 2 // groups * groups)


def _sampled(spec: ModelSpec, slice_: Slice, sampling: Sampling, sampled: Sequence[Sampled]) -> Hours:
    """Prompts once at the chips' peak, then every token of a batch reads weights and half-filled cache."""
    least = expected = 0.0
    for one in sampled:
        prefill = prefill_ms(spec, slice_, one.prefilled)
        rows = min(sampling.rows, one.answers)
        read = read_gb(spec, sampling.mesh, rows, one.prompt_tokens + one.answer_tokens // 2)
        decode = (one.answer_tokens - 1) * one.answers / rows * 1e3 * read / slice_.chip.memory_gb_s
        least += prefill + decode
        expected += prefill / OF_PRODUCTS + decode / OF_BANDWIDTH
    return Hours(least * slice_.chips / 3.6e6, expected * slice_.chips / 3.6e6)
