"""What is done to the residual stream of a row while it is sampled: a direction added, or taken out.

The rows of one batch may differ in it, so that one batch holds a dose-response curve. Steering is that of arXiv
2507.21509, ablation that of arXiv 2406.11717, behind one layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypedDict, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32
from numpy.typing import ArrayLike

from sgtr_jax.arrays import HostOrDevice
from sgtr_jax.config import build_config
from sgtr_jax.errors import InputError
from sgtr_jax.json_types import JsonObject
from sgtr_jax.models.residual import ResidualEdits
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.directions import read_direction
from sgtr_jax.sample.steer_config import SteerConfig


class Steer(TypedDict, total=False):
    """`SteerConfig` as Python has it: the direction may also be an array, `[L, D]` or the layer's own `[D]`."""

    direction: str | Path | ArrayLike
    layer: int
    scale: float
    at: Literal["all", "answer"]
    project: Literal["out"] | None


@dataclass(frozen=True)
class Steering:
    """What is done to one row. Two are equal if they do the same."""

    layer: int
    scale: float  # 0 where the direction is taken out
    ablates: bool
    at_answer: bool
    digest: str  # of the vector
    vector: Float32[np.ndarray, " D"] = field(compare=False, repr=False)  # of length 1 where it is taken out

    def edits(self, layers: int) -> ResidualEdits:
        """The same for whole passes, whose rows are all of this kind."""
        placed = np.zeros((layers, len(self.vector)), np.float32)
        placed[self.layer] = self.vector if self.ablates else np.float32(self.scale) * self.vector
        whole = cast(jax.Array, placed)  # a host value: it may go to the devices of many processes
        return ResidualEdits(removed=whole) if self.ablates else ResidualEdits(added=whole)

    def of_prompt(self) -> Steering | None:
        """What is done to a prompt's tokens."""
        return None if self.at_answer else self


Steered: TypeAlias = Steering | None


def steering_of(steer: Steer | SteerConfig | None, spec: ModelSpec) -> Steered:
    """What Python asks for. Raises InputError for keys, layers or directions that the model does not have."""
    if steer is None:
        return None
    if isinstance(steer, SteerConfig):
        return _of_config(steer, spec)
    given = dict(steer)
    direction = given.get("direction")
    if direction is None or isinstance(direction, str | Path):
        config = build_config(SteerConfig, _json_of(given), "steer")
        return _of_config(config, spec)
    config = build_config(SteerConfig, _json_of({**given, "direction": "an array"}), "steer")
    return _steering(config, np.asarray(direction, np.float32), spec)


def steered_rows(steer: SteerConfig | None, doses: Sequence[float] | None, spec: ModelSpec) -> tuple[Steered, ...]:
    """What is done to the rows of each prompt, one after the other: the scale times each dose. Raises InputError."""
    alone = steering_of(steer, spec)
    return (alone,) if alone is None else tuple(replace(alone, scale=alone.scale * dose) for dose in doses or (1.0,))


def _of_config(config: SteerConfig, spec: ModelSpec) -> Steering:
    return _steering(config, read_direction(config.direction, spec).vectors, spec)


def _json_of(given: Mapping[str, object]) -> JsonObject:
    plain = {key: float(value) if isinstance(value, np.floating) else value for key, value in given.items()}
    return cast(JsonObject, {key: str(value) if isinstance(value, Path) else value for key, value in plain.items()})


def _steering(config: SteerConfig, vectors: np.ndarray, spec: ModelSpec) -> Steering:
    L, D = spec.num_layers, spec.hidden_size
    if not 0 <= config.layer < L:
        raise InputError(f"steer.layer is {config.layer}; the model has the layers 0 to {L - 1}")
    if vectors.shape not in ((L, D), (D,)):
        raise InputError(f"steer.direction has shape {list(vectors.shape)}; expected {[L, D]}, or {[D]} of the layer")
    vector = vectors if vectors.ndim == 1 else vectors[config.layer]
    ablates = config.project == "out"
    if ablates:
        length = float(np.linalg.norm(vector))
        if length == 0:
            raise InputError(f"steer.direction is 0 behind layer {config.layer}, so that nothing can be taken out")
        vector = vector / np.float32(length)
    vector = np.ascontiguousarray(vector, np.float32)
    digest = hashlib.sha256(vector.tobytes()).hexdigest()[:16]
    return Steering(config.layer, config.scale or 0.0, ablates, config.at == "answer", digest, vector)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RowSteering(Generic[HostOrDevice]):
    """What is done to the row in each of B slots; zeros do nothing."""

    which: Int32[HostOrDevice, " B"]  # vector of the table
    layer: Int32[HostOrDevice, " B"]
    added: Float32[HostOrDevice, " B"]  # how many times the vector
    removed: Float32[HostOrDevice, " B"]  # 1 where the part along the vector is taken out

    @classmethod
    def empty(cls, slots: int) -> RowSteering[np.ndarray]:
        """Host arrays to fill in."""
        zeros = partial(np.zeros, slots)
        return RowSteering(zeros(np.int32), zeros(np.int32), zeros(np.float32), zeros(np.float32))


class SteeringTable:
    """The vectors of all rows that are sampled together, each once."""

    def __init__(self, steered: Sequence[Steered], width: int) -> None:
        found = {one.digest: one.vector for one in steered if one is not None}
        self._numbers = {digest: number for number, digest in enumerate(found)}
        size = 1 << max(0, (len(found) - 1).bit_length())  # few sizes, so that few programs are compiled
        self.vectors: Float32[np.ndarray, "K D"] = np.zeros((size, width), np.float32)
        for digest, number in self._numbers.items():
            self.vectors[number] = found[digest]

    def enter(self, rows: RowSteering[np.ndarray], slot: int, steering: Steered) -> None:
        """A row takes a slot."""
        rows.added[slot], rows.removed[slot] = 0.0, 0.0
        if steering is not None:
            rows.which[slot], rows.layer[slot] = self._numbers[steering.digest], steering.layer
            rows.added[slot], rows.removed[slot] = steering.scale, float(steering.ablates)


def edits_of_rows(rows: RowSteering[jax.Array], vectors: Float32[Array, "K D"], layers: int) -> ResidualEdits:
    """Each row's edits, `[L, B, D]`."""
    behind = jnp.arange(layers)[:, None] == rows.layer  # [L, B]
    own = vectors[rows.which]  # [B, D]
    removed, added = (jnp.where(behind, one, 0)[..., None] * own for one in (rows.removed, rows.added))
    return ResidualEdits(removed, added)
