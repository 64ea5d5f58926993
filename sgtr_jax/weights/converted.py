"""Converted folders: the same parameters as an Orbax checkpoint, restorable on any mesh.

Each parameter is an Orbax checkpoint of its own, so that converting and restoring stream: one stacked parameter
is in memory at a time. `config.json` and the tokenizer files lie beside them, which makes the folder a model.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import new_folder
from sgtr_jax.mesh import TRAINING, Rules, leaf_sharding
from sgtr_jax.models.decoder import Params
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.tokenizer import TOKENIZER_FILES
from sgtr_jax.weights.load import LeafTransform, assemble, check_tensors, open_checkpoint
from sgtr_jax.weights.names import base_sources

_MARK = "sgtr_converted.json"


def is_converted(folder: Path) -> bool:
    """Whether `folder` was made by `convert`."""
    return (folder / _MARK).exists()


def converted_dtype(folder: Path) -> str:
    """The dtype `convert` wrote."""
    name: str = json.loads((folder / _MARK).read_text())["dtype"]
    return name


def convert(source: Path, spec: ModelSpec, target: Path, mesh: Mesh, dtype: Any) -> None:
    """Write the Hugging Face folder `source` as a converted folder `target`. The folder appears when complete."""
    tensors = open_checkpoint(source)
    sources = base_sources(spec)
    check_tensors(tensors, sources, spec, str(source))
    with new_folder(target) as folder, ocp.StandardCheckpointer() as checkpointer:
        for path, place in sources.items():
            value = assemble(tensors, {path: place}, mesh, TRAINING, dtype)
            try:
                checkpointer.save((folder / "params" / ".".join(path)).absolute(), value)
                checkpointer.wait_until_finished()
            except ValueError as error:  # what a full disk is to Orbax
                raise RunError(f"{target}: could not be written: {str(error)[-200:]}") from error
        copy_model_files(source, folder)
        (folder / _MARK).write_text(json.dumps({"dtype": np.dtype(dtype).name}) + "\n")


def copy_model_files(source: Path, target: Path) -> None:
    """Copy config and tokenizer files."""
    for name in ("config.json", *TOKENIZER_FILES):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def load_converted(
    folder: Path, spec: ModelSpec, mesh: Mesh, rules: Rules, dtype: Any, each: LeafTransform | None = None
) -> Params:
    """Restore a converted folder as `dtype`, laid out on `mesh` by `rules`, whatever mesh wrote it."""
    tree: Params = {}
    with ocp.StandardCheckpointer() as checkpointer:
        for path, source in base_sources(spec).items():
            place = (folder / "params" / ".".join(path)).absolute()
            if not place.is_dir():
                raise InputError(f"{place}: the parameter is missing; convert the model again")
            sharding = leaf_sharding(path, source.own_shape, mesh, rules)
            leaf: Any = jax.ShapeDtypeStruct(source.own_shape, dtype, sharding=sharding)
            abstract = leaf
            for key in reversed(path):
                abstract = {key: abstract}
            try:
                restored = checkpointer.restore(place, abstract)
            except ValueError as error:
                raise InputError(f"{place}: does not fit config.json: {error}") from None
            node, inner = tree, restored
            for key in path[:-1]:
                node, inner = node.setdefault(key, {}), inner[key]
            leaf = inner[path[-1]]
            node.update({path[-1]: leaf} if each is None else each(path, leaf))
    return tree
