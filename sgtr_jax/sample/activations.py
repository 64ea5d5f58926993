"""The residual stream behind each layer: every token's, or its mean over some tokens of each row.

Rows run in chunks whose results fit beside the model; a chunk leaves the devices before the next one begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Float32, Int32

from sgtr_jax.arrays import Params
from sgtr_jax.data.packing import bucket
from sgtr_jax.distributed.collectives import is_first_process
from sgtr_jax.distributed.mesh import data_sharding, data_size, put
from sgtr_jax.errors import InputError
from sgtr_jax.lora.adapter import Chain
from sgtr_jax.models.decoder import bind
from sgtr_jax.models.residual import ResidualEdits
from sgtr_jax.models.spec import ModelSpec

_MOST_BYTES = 1 << 29  # of the states of one chunk, float32
_MOST_TOKENS = 8192  # of one chunk, padding included


class StatePasses:
    """Forward passes of one model that keep the residual stream behind `layers` (from 0)."""

    def __init__(
        self, spec: ModelSpec, params: Params, chain: Chain, mesh: Mesh, layers: Sequence[int] | None = None,
        edits: ResidualEdits | None = None,
    ) -> None:  # fmt: skip
        """`layers`: None for all. `edits` are part of the model. Raises InputError for a layer that it does not have.

        A negative layer counts from the last one, as an index does.
        """
        asked = range(spec.num_layers) if layers is None else layers
        for layer in asked:
            if not -spec.num_layers <= layer < spec.num_layers:
                raise InputError(f"layer {layer}: the model has the layers 0 to {spec.num_layers - 1}")
        self.layers = tuple(layer % spec.num_layers for layer in asked)
        self._spec, self._mesh, self._given = spec, mesh, (params, chain, edits)

    def every_token(
        self, tokens: np.ndarray, mask: np.ndarray, out: Path | None = None
    ) -> Float32[np.ndarray, "B kept T D"]:
        """States of `tokens` int `[B, T]`; `mask` bool `[B, T]` marks real tokens, and the others' are 0.

        With `out`, a file that NumPy reads (`.npy`), they are written there chunk by chunk, and the result is a map of
        it: a set may be larger than memory. Of several processes the first writes, and `out` is read by all.
        """
        B, T = tokens.shape
        shape = (B, len(self.layers), T, self._spec.hidden_size)
        if out is None:
            made = np.zeros(shape, np.float32)
        elif is_first_process():
            made = np.lib.format.open_memmap(out, "w+", np.float32, shape)
        size = self._rows_of_chunk(T, B)
        for begin in range(0, B, size):
            rows = slice(begin, min(begin + size, B))
            states = self._run(_states, size, tokens[rows], mask[rows])
            if out is None or is_first_process():
                made[rows] = states[: rows.stop - begin]
        return made if out is None else np.load(out, mmap_mode="r")

    def means(
        self, rows: Sequence[Sequence[int]], chosen: Sequence[Sequence[bool]]
    ) -> Iterator[tuple[int, Float32[np.ndarray, "kept D"]]]:
        """(number of the row, mean of its states over its chosen tokens), the longest rows first.

        Rows are padded to a few lengths, so that few programs are compiled.
        """
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        while order:
            T = max(16, bucket(len(rows[order[0]])))
            size = self._rows_of_chunk(T, len(order))
            now, order = order[:size], order[size:]
            tokens, mask = np.zeros((len(now), T), np.int32), np.zeros((len(now), T), bool)
            weights = np.zeros((len(now), T), np.float32)
            for at, i in enumerate(now):
                length = len(rows[i])
                tokens[at, :length], mask[at, :length] = rows[i], True
                weights[at, :length] = np.asarray(chosen[i], np.float32) / max(1, sum(chosen[i]))
            yield from zip(now, self._run(_means, size, tokens, mask, weights), strict=False)

    def _rows_of_chunk(self, length: int, left: int) -> int:
        each = 4 * len(self.layers) * self._spec.hidden_size * length
        multiple = data_size(self._mesh)
        most = max(1, min(_MOST_TOKENS // length, _MOST_BYTES // each) // multiple)
        return min(most, -(-bucket(left) // multiple)) * multiple

    def _run(self, program: jax.stages.Wrapped, rows: int, *arrays: np.ndarray) -> np.ndarray:
        """The program's result on the host, for as many rows as every chunk has: those that are missing are padding."""
        with jax.set_mesh(self._mesh):
            sharding = data_sharding(self._mesh)
            padded = [np.pad(array, ((0, rows - len(array)), (0, 0))) for array in arrays]
            placed = [put(array, sharding) for array in padded]
            return np.asarray(program(*self._given, *placed, spec=self._spec, layers=self.layers))


def _kept(
    params: Params, chain: Chain, edits: ResidualEdits | None, tokens: jax.Array, mask: jax.Array, spec: ModelSpec,
    layers: tuple[int, ...],
) -> Float[Array, "kept B T D"]:  # fmt: skip
    """Positions count real tokens only, as `transformers` does when `position_ids` follow the attention mask."""
    positions = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
    decoder = bind(spec, params)
    segments = mask.astype(jnp.int32)
    return decoder.forward_keeping(tokens, positions, segments, keep=layers, chain=chain, edits=edits)[1]


@partial(jax.jit, static_argnames=("spec", "layers"))
def _states(
    params: Params, chain: Chain, edits: ResidualEdits | None, tokens: Int32[Array, "B T"], mask: Bool[Array, "B T"],
    *, spec: ModelSpec, layers: tuple[int, ...],
) -> Float32[Array, "B kept T D"]:  # fmt: skip
    kept = _kept(params, chain, edits, tokens, mask, spec, layers)
    found = jnp.where(mask[:, None, :, None], kept.swapaxes(0, 1).astype(jnp.float32), 0)
    return _whole(found)


@partial(jax.jit, static_argnames=("spec", "layers"))
def _means(
    params: Params, chain: Chain, edits: ResidualEdits | None, tokens: Int32[Array, "B T"], mask: Bool[Array, "B T"],
    weights: Float32[Array, "B T"], *, spec: ModelSpec, layers: tuple[int, ...],
) -> Float32[Array, "B kept D"]:  # fmt: skip
    kept = _kept(params, chain, edits, tokens, mask, spec, layers).astype(jnp.float32)
    found = jnp.einsum("lbtd,bt->bld", kept, weights, precision=jax.lax.Precision.HIGHEST)
    return _whole(found)


def _whole(x: jax.Array) -> jax.Array:
    """On every device, so that each process of a job can read it."""
    found: jax.Array = jax.lax.with_sharding_constraint(x, PartitionSpec())
    return found
