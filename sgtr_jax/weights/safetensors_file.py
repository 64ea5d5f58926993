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


@dataclass(frozen=True)
class StoredTensor:
    """One tensor inside a file. `read()` maps it; nothing is copied until it is sliced into something."""

    file: Path
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

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
            if size < 8 or length > _MAX_HEADER or 8 + length > size:
                raise InputError(
                    f"{file}: not a safetensors file, or truncated inside its header ({size} bytes); download it again"
                )
            header = json.loads(stream.read(length))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    except ValueError:
        raise InputError(f"{file}: its safetensors header is not valid JSON; download it again") from None
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = DTYPES.get(entry["dtype"])
        if dtype is None:
            raise InputError(f"{file}: tensor {name!r} has dtype {entry['dtype']}; supported: {', '.join(DTYPES)}")
        shape = tuple(entry["shape"])
        start, end = entry["data_offsets"]
        if end - start != math.prod(shape) * dtype.itemsize:
            raise InputError(f"{file}: tensor {name!r} has {end - start} bytes for shape {shape} {dtype}")
        if 8 + length + end > size:
            raise InputError(
                f"{file}: truncated: tensor {name!r} ends at byte {8 + length + end} but the file has {size}; "
                "download it again"
            )
        tensors[name] = StoredTensor(file, name, dtype, shape, 8 + length + start)
    return tensors
