"""Safetensors files as memory maps.

The `safetensors` package cannot hand NumPy a bfloat16 tensor, nor part of one without copying; a process of a
pod wants just the slices its devices own. The format is a length, a JSON header and raw bytes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from sgtr_jax.errors import InputError

DTYPES = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}  # fmt: skip
_MAX_HEADER = 100_000_000  # bytes; the limit of the reference implementation
_LFS = int.from_bytes(b"version ", "little")  # how a pointer to a file begins


@dataclass(frozen=True)
class StoredTensor:
    """One tensor inside a file. `read()` maps it; nothing is copied until it is sliced into something."""

    file: Path
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def num_bytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """The tensor as a read-only memory map of `shape`."""
        if math.prod(self.shape) == 0:
            return np.zeros(self.shape, self.dtype)
        return np.memmap(self.file, self.dtype, "r", self.offset, self.shape)


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Tensors of one file by name. Raises InputError for a truncated or malformed file, naming the tensor."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length == _LFS:
                raise InputError(f"{file}: is a pointer of Git LFS and not the file itself; fetch it with git lfs pull")
            if size < 8 or length > _MAX_HEADER or 8 + length > size:
                raise InputError(
                    f"{file}: not a safetensors file, or truncated inside its header ({size} bytes); download it again"
                )
            header = json.loads(stream.read(length), object_pairs_hook=_once)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: its safetensors header is not valid JSON: {error}; download it again") from None
    if not isinstance(header, dict):
        raise InputError(f"{file}: its safetensors header is no JSON object; download it again")
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name] = _tensor(file, name, entry, 8 + length, size)
    _check_layout(file, tensors, 8 + length, size)
    return tensors


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _tensor(file: Path, name: str, entry: Any, start_of_data: int, size: int) -> StoredTensor:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise InputError(f"{file}: tensor {name!r} has no dtype, shape and data_offsets; the header is damaged")
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise InputError(f"{file}: tensor {name!r} has dtype {entry['dtype']!r:.40}; supported: {', '.join(DTYPES)}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise InputError(f"{file}: tensor {name!r} has shape {shape!r:.60} and data_offsets {offsets!r:.60}")
    start, end = offsets
    if start > end or end - start != math.prod(shape) * dtype.itemsize:
        raise InputError(f"{file}: tensor {name!r} has {end - start} bytes for shape {shape} {dtype}")
    if start_of_data + end > size:
        raise InputError(
            f"{file}: truncated: tensor {name!r} ends at byte {start_of_data + end} but the file has {size}; "
            "download it again"
        )
    return StoredTensor(file, name, dtype, tuple(shape), start_of_data + start)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48 for value in values
    )


def _check_layout(file: Path, tensors: dict[str, StoredTensor], start: int, size: int) -> None:
    """The format has every byte belong to one tensor: a gap or an overlap is a damaged header."""
    end = start
    for tensor in sorted(tensors.values(), key=lambda one: (one.offset, one.num_bytes)):
        if tensor.offset != end:
            kind = "overlaps the one before it" if tensor.offset < end else "lies behind bytes of no tensor"
            raise InputError(f"{file}: tensor {tensor.name!r} {kind}; the header is damaged, download it again")
        end += tensor.num_bytes
    if end != size:
        raise InputError(f"{file}: {size - end} bytes at its end belong to no tensor; download it again")
