"""Directions of the residual stream: their files, and how rows lie along them.

A direction is one vector a layer, float32 `[L, D]`: the mean of some rows' states minus that of others (arXiv
2507.21509). Its file is a safetensors file with the tensor `direction`, whose metadata say what it was made from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sgtr_jax.errors import InputError
from sgtr_jax.files import write_bytes
from sgtr_jax.json_types import JsonObject
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.weights.safetensors_file import read_header

TENSOR = "direction"
_RECIPE = "recipe"  # the key of the metadata: JSON


@dataclass(frozen=True, eq=False)
class Direction:
    """One vector for the residual stream behind each layer, and what it was made from."""

    vectors: Float32[np.ndarray, "L D"]
    recipe: JsonObject

    def write(self, target: Path) -> None:
        """Write the file through a temporary name. Raises RunError."""
        metadata = {"format": "np", _RECIPE: json.dumps(self.recipe, sort_keys=True)}
        write_bytes(target, save({TENSOR: np.ascontiguousarray(self.vectors)}, metadata))

    def check_fits(self, spec: ModelSpec, where: str) -> None:
        """Raise InputError where it is of a model with other layers."""
        wanted = (spec.num_layers, spec.hidden_size)
        if self.vectors.shape != wanted:
            raise InputError(
                f"{where}: the direction has shape {list(self.vectors.shape)}, and the model {list(wanted)} (layers, "
                "hidden size); take one that was extracted from this model"
            )

    def along(self, states: Float32[np.ndarray, "N L D"]) -> Float32[np.ndarray, "N L"]:
        """Projection of states on it, layer by layer: their length along it, in the residual stream's own unit."""
        length = np.maximum(np.linalg.norm(self.vectors, axis=-1), np.finfo(np.float32).tiny)
        return cast(np.ndarray, np.einsum("nld,ld->nl", states, self.vectors) / length).astype(np.float32)


def read_direction(path: Path, spec: ModelSpec | None = None) -> Direction:
    """The direction of a file. Raises InputError for another file, and for one that does not fit the model."""
    stored = read_header(path).get(TENSOR)
    if stored is None or stored.dtype != np.float32 or len(stored.shape) != 2:
        raise InputError(
            f"{path}: expected a float32 tensor 'direction' of shape [layers, hidden size], as `sgtr directions "
            "extract` writes it"
        )
    vectors = np.array(stored.read())
    if not np.isfinite(vectors).all():
        raise InputError(f"{path}: the direction holds numbers that are not finite; extract it again")
    try:
        with safe_open(path, "np") as opened:
            metadata = opened.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    found = Direction(vectors, cast(JsonObject, json.loads(metadata.get(_RECIPE, "{}"))))
    if spec is not None:
        found.check_fits(spec, str(path))
    return found


def cosines(one: Direction, other: Direction) -> Float32[np.ndarray, " L"]:
    """Cosine of two directions in each layer; 0 where one of them is 0. Raises InputError for other shapes."""
    a, b = one.vectors, other.vectors
    if a.shape != b.shape:
        raise InputError(f"directions of shape {list(a.shape)} and {list(b.shape)} are of different models")
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray(np.sum(a * b, axis=-1) / np.where(lengths == 0, 1, lengths), np.float32)
