"""`mesh: auto`: the fastest mesh that fits, from the step compiled for each that divides the model."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax

from sgtr_jax.data.packed_shapes import choose_shapes
from sgtr_jax.distributed.mesh import make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import RunError
from sgtr_jax.estimate.fit import Fit, fit, meshes
from sgtr_jax.estimate.slices import chip_of
from sgtr_jax.finetune.jobs import Prepared
from sgtr_jax.json_types import JsonObject
from sgtr_jax.models.attention_choice import equal_cost_length
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.train.program import attention_kind


@dataclass(frozen=True)
class Candidate:
    """A mesh with as many runs at once as were tried on it."""

    fit: Fit
    runs: int

    @property
    def ms_per_run(self) -> float:
        """A step as scheduled, shared by the runs that take it together. Without known peaks: bytes moved."""
        return self.fit.scheduled_ms / self.runs

    def to_json(self) -> JsonObject:
        """For report.json and people."""
        found: JsonObject = {"mesh": list(self.fit.mesh), "runs_at_once": self.runs, "fits": self.fit.fits}
        if not self.fit.fits:
            return {**found, "why": self.fit.why}
        known = not math.isinf(self.fit.limit_gb)
        bound: JsonObject = {"scheduled_ms_per_run": self.ms_per_run, "bound_by": self.fit.bound_by} if known else {}
        return {**found, "peak_gb": self.fit.peak_gb, "gb_moved": self.fit.moved_gb, **bound}


def resolve_mesh(group: Sequence[Prepared], spec: ModelSpec) -> tuple[list[Prepared], list[Candidate]]:
    """The group with a mesh in the place of `auto`, and what was considered, the best first.

    Raises RunError if no mesh of these devices fits the step.
    """
    config, devices = group[0].config, jax.devices()
    if config.mesh != "auto":
        return list(group), []
    if len(devices) == 1:
        return _with_mesh(group, MeshConfig()), []
    chip = chip_of(devices[0].device_kind, [device.coords for device in devices if hasattr(device, "coords")])
    plans = [one.plan for one in group]
    steps = [[plan[t] for plan in plans if t < plan.num_steps] for t in range(max(plan.num_steps for plan in plans))]
    found: list[Candidate] = []
    length = equal_cost_length(attention_kind(config, make_mesh(MeshConfig())), devices[0].platform)
    for shape in meshes(spec, len(devices)):
        mesh = make_mesh(MeshConfig(replica=shape[0], fsdp=shape[1], tensor=shape[2]))
        largest = choose_shapes(steps, shape[0] * shape[1] * config.accumulate, length).all[-1]
        for runs in dict.fromkeys((min(len(group), config.runs_at_once or len(group)), 1)):
            one = Candidate(fit(spec, config, chip, mesh, runs, largest), runs)
            found.append(one)
            if one.fit.fits:
                break
    ranked = sorted(found, key=lambda one: (not one.fit.fits, one.ms_per_run, one.fit.mesh))
    if not ranked or not ranked[0].fit.fits:
        raise RunError(f"mesh: auto: no mesh of {len(devices)} devices fits: {[one.to_json() for one in ranked]}")
    if jax.process_index() == 0:
        shown = "; ".join(_in_words(one) for one in ranked[:3])
        print(f"mesh (replica, fsdp, tensor), fastest first: {shown}", file=sys.stderr)
    best = ranked[0].fit.mesh
    return _with_mesh(group, MeshConfig(replica=best[0], fsdp=best[1], tensor=best[2])), ranked


def _in_words(one: Candidate) -> str:
    if not one.fit.fits:
        return f"{one.fit.mesh} does not fit"
    if math.isinf(one.fit.limit_gb):
        return f"{one.fit.mesh} moves {one.fit.moved_gb / one.runs:.3g} GB a run and step"
    return f"{one.fit.mesh} {one.ms_per_run:.3g} ms a run and step at least, bound by {one.fit.bound_by}"


def _with_mesh(group: Sequence[Prepared], mesh: MeshConfig) -> list[Prepared]:
    return [replace(one, config=one.config.model_copy(update={"mesh": mesh})) for one in group]
