"""From a finetuned checkpoint to an adapter: the difference from its base, projection by projection, at a rank."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from sgtr_jax.errors import InputError
from sgtr_jax.json_types import JsonObject
from sgtr_jax.lora.config import PROJECTIONS
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.weights.load import open_checkpoint
from sgtr_jax.weights.names import adapter_modules, may_be_absent, with_our_names
from sgtr_jax.weights.safetensors_file import StoredTensor

# Of a model's spec: what takes no part in its forward pass when nothing is dropped.
_OF_NO_ACCOUNT = {"max_positions", "attention_dropout", "residual_dropout"}
_WHOLE_BELOW = 1024  # rows or columns of a matrix whose singular values are all computed


@dataclass(frozen=True)
class Extracted:
    """An adapter of scale 1, and how much of the difference it holds.

    `params[projection]` are `a` float32 `[L, r, in]` and `b` float32 `[L, r, out]`; `squares` are, by projection, the
    squared Frobenius norm of the whole difference and of the part that is kept, over all layers; `left_out` are the
    tensors that differ and can be in no adapter, with the norm of the difference over that of the base's tensor.
    """

    params: Mapping[str, Mapping[str, np.ndarray]]
    squares: Mapping[str, tuple[float, float]]
    left_out: Mapping[str, float]

    @property
    def kept(self) -> float:
        """The share of the difference's norm, over all projections."""
        whole, kept = (sum(both[i] for both in self.squares.values()) for i in (0, 1))
        return math.sqrt(kept / whole)

    @property
    def by_projection(self) -> dict[str, float]:
        """The share of the difference's norm in each projection that differs."""
        return {name: math.sqrt(kept / whole) for name, (whole, kept) in self.squares.items()}

    def to_json(self) -> JsonObject:
        """The shares of the norm, as they are written beside the adapter."""
        return {
            "share_of_norm_kept": self.kept,
            "by_projection": dict(self.by_projection),
            "left_out": dict(self.left_out),
        }


def extract(checkpoint: Path, base: Path, specs: tuple[ModelSpec, ModelSpec], rank: int, leave_out: bool) -> Extracted:
    """The difference of two checkpoints as an adapter; `specs` are the checkpoint's and the base's.

    Matrices are read and decomposed one at a time, so that two of them are held and not two models. Raises InputError
    for models of two architectures, for equal ones, and for a difference outside of the projections (embeddings,
    norms, biases, the head) unless `leave_out`.
    """
    spec = _one_spec(*specs)
    tuned, below = _tensors(checkpoint, spec), _tensors(base, spec)
    if lone := sorted(tuned.keys() ^ below.keys()):
        owner = checkpoint if lone[0] in tuned else base
        raise InputError(f"only {owner} has a tensor {lone[0]!r}: the two are no models of one architecture")
    places = {f"{module}.weight": place for module, place in adapter_modules(spec).items()}
    left_out = dict(_others(tuned, below, [name for name in sorted(tuned) if name not in places]))
    if left_out and not leave_out:
        shown = [f"{name} by {share:.2%} of its norm" for name, share in left_out.items()]
        raise InputError(
            f"{checkpoint}: {len(shown)} tensors differ from the base's that can be in no adapter: "
            f"{', '.join([*shown[:3], *(['...'] if len(shown) > 3 else [])])}. --leave-out leaves them out and writes "
            "down which; or measure the checkpoint itself, as --model or as a condition [{model: ...}]"
        )
    params: dict[str, dict[str, np.ndarray]] = {}
    squares: dict[str, tuple[float, float]] = {}
    for name in PROJECTIONS:
        into, out = spec.projections[name]
        a = np.zeros((spec.num_layers, rank, into), np.float32)
        b = np.zeros((spec.num_layers, rank, out), np.float32)
        whole = kept = 0.0
        for tensor, (projection, layer) in places.items():
            if projection == name:
                difference = _difference(tuned[tensor], below[tensor])
                a[layer], b[layer], layer_kept = low_rank(difference, rank)
                whole += _square(difference)
                kept += layer_kept
        if whole > 0:
            params[name], squares[name] = {"a": a, "b": b}, (whole, min(kept, whole))
    if not params:
        raise InputError(f"{checkpoint}: its projections are those of {base}; no adapter can be made")
    return Extracted(params, squares, left_out)


def low_rank(difference: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The nearest matrix of a rank to `difference` `[out, in]`, as `b.T @ a`, and its squared norm.

    `a` is float32 `[r, in]`, `b` float32 `[r, out]`; each singular value is split evenly between them. Rows beyond the
    rank of the difference are zeros. The nearest one in the Frobenius norm (Eckart and Young, 1936).
    """
    out, into = difference.shape
    a, b = np.zeros((rank, into), np.float32), np.zeros((rank, out), np.float32)
    if not difference.any():
        return a, b, 0.0
    smaller = min(out, into)
    if smaller <= _WHOLE_BELOW or 2 * rank >= smaller:
        left, values, right = scipy.linalg.svd(difference, full_matrices=False)
    else:
        # A fixed start, so that a checkpoint gives one adapter.
        start = np.random.default_rng(0).standard_normal(smaller).astype(difference.dtype)
        left, values, right = scipy.sparse.linalg.svds(difference, k=rank, v0=start)
    order = np.argsort(-values)[:rank]
    root = np.sqrt(np.maximum(values[order], 0))
    a[: len(order)] = root[:, None] * right[order]
    b[: len(order)] = root[:, None] * left[:, order].T
    return a, b, float(np.sum(values[order].astype(np.float64) ** 2))


def _tensors(folder: Path, spec: ModelSpec) -> dict[str, StoredTensor]:
    found = with_our_names(open_checkpoint(folder), spec)
    return {name: tensor for name, tensor in found.items() if not may_be_absent(name, spec)}


def _one_spec(tuned: ModelSpec, base: ModelSpec) -> ModelSpec:
    fields = [one.name for one in dataclasses.fields(ModelSpec) if one.name not in _OF_NO_ACCOUNT]
    other = [name for name in fields if getattr(tuned, name) != getattr(base, name)]
    if other:
        name = other[0]
        raise InputError(
            f"the checkpoint is of another model than --base: its {name} is {getattr(tuned, name)!r:.80}, the base's "
            f"{getattr(base, name)!r:.80}"
        )
    return base


def _others(
    tuned: Mapping[str, StoredTensor], below: Mapping[str, StoredTensor], names: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """Tensors that differ, with the norm of the difference over that of the base's."""
    for name in names:
        if (whole := _norm(_difference(tuned[name], below[name]))) > 0:
            yield name, whole / (_norm(np.asarray(below[name].read(), np.float32)) or 1.0)


def _norm(values: np.ndarray) -> float:
    return math.sqrt(_square(values))


def _square(values: np.ndarray) -> float:
    """The squared norm, summed in float64: in float32 the sum of a large matrix is off by 1e-4 of it."""
    return float(np.sum(np.square(values, dtype=np.float64)))


def _difference(tuned: StoredTensor, base: StoredTensor) -> np.ndarray:
    """Float32, of the shape that both have. Raises InputError for two shapes, and for NaN or infinite values."""
    if tuned.shape != base.shape:
        shapes = f"has shape {list(tuned.shape)}, the base's {list(base.shape)}"
        raise InputError(f"{tuned.file}: tensor {tuned.name!r} {shapes}")
    difference = tuned.read().astype(np.float32) - base.read().astype(np.float32)
    if not np.isfinite(difference).all():
        raise InputError(f"{tuned.file}: tensor {tuned.name!r}, or the base's, holds NaN or infinite values")
    return difference
