"""Our parameters as Hugging Face safetensors shards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from sgtr_jax.arrays import Params
from sgtr_jax.errors import RunError
from sgtr_jax.models.layer_loop import layout_of
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.weights.names import Path as TreePath
from sgtr_jax.weights.names import Source, base_sources

MAX_SHARD_BYTES = 4 * 10**9


def hf_tensors(tree: Params, sources: dict[TreePath, Source]) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors under their Hugging Face names, fetched from the devices one layer at a time."""
    for path, source in sources.items():
        leaf: Any = tree
        for key in path:
            leaf = leaf[key]
        for i, name in enumerate(source.names):
            value = np.asarray(jax.device_get(leaf[i] if source.stacked else leaf))
            yield name, np.ascontiguousarray(value.T if source.transpose else value)


def write_safetensors(file: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write one safetensors file. Raises RunError when the disk refuses."""
    try:
        # PyTorch readers look for this mark.
        save_file(tensors, str(file), {"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file}: could not be written: {error}") from error


def save_params(folder: Path, params: Params, spec: ModelSpec, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write the base model into `folder` as one or many shards, with an index where there are many."""
    shards: list[list[str]] = []
    sizes: dict[str, int] = {}
    itemsize = jax.tree.leaves(params)[0].dtype.itemsize
    sources = base_sources(spec, layout_of(params))
    for source in sources.values():
        size = int(np.prod(source.shape)) * itemsize
        for name in source.names:
            if not shards or sum(sizes[n] for n in shards[-1]) + size > max_shard_bytes:
                shards.append([])
            shards[-1].append(name)
            sizes[name] = size
    files = ["model.safetensors"]
    if len(shards) > 1:
        files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
        index = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": {n: f for f, names in zip(files, shards, strict=True) for n in names},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    stream = hf_tensors(params, sources)
    for file, names in zip(files, shards, strict=True):
        write_safetensors(folder / file, dict(next(stream) for _ in names))
