"""Converted folders: the same parameters as an Orbax checkpoint, restorable on any mesh.

Each parameter is an Orbax checkpoint of its own, so that converting and restoring stream: one stacked parameter
is in memory at a time. `config.json` and the tokenizer files lie beside them, which makes the folder a model.

The folder may be in a bucket. What is small is then copied from there, and `params.address` beside it says where
each process restores its part of the parameters from.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh

from sgtr_jax.arrays import Params
from sgtr_jax.buckets import copy_once, is_address, translate_storage_errors
from sgtr_jax.data.tokenizer import TOKENIZER_FILES
from sgtr_jax.distributed.layout import Layout
from sgtr_jax.distributed.mesh import TRAINING, Rules, leaf_sharding
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import new_folder, read_json, user_cache, write_text
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.models.config_json import read_config_json
from sgtr_jax.models.families import config_of_family, spec_from_config
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.weights.load import (
    LeafTransform,
    assemble,
    check_finite,
    check_tensors,
    open_checkpoint,
    put_leaf,
    with_layers_in_order,
)
from sgtr_jax.weights.names import Path as TreePath
from sgtr_jax.weights.names import Source, base_sources, with_our_names

_MARK = "sgtr_converted.json"
_ADDRESS = "params.address"  # not part of the fingerprint: the same model may lie elsewhere


def is_converted(folder: Path) -> bool:
    """Whether `folder` was made by `convert`."""
    return (folder / _MARK).exists()


def converted_dtype(folder: Path) -> str:
    """The dtype `convert` wrote. Raises InputError for a mark that names none."""
    name = read_json(folder / _MARK).get("dtype")
    if name not in ("float32", "bfloat16"):
        raise InputError(f"{folder / _MARK}: dtype is {name!r:.40}; the file is damaged, convert the model again")
    return str(name)


def convert(source: Path, spec: ModelSpec, target: str, mesh: Mesh, dtype: Any) -> None:
    """Write the Hugging Face folder `source` as a converted folder `target`, a path or an address (gs://).

    A folder appears when complete. In a bucket the mark comes last: what has none is no model, and is written over.
    Raises InputError for an address that has a model already.
    """
    tensors = with_our_names(open_checkpoint(source), spec)
    sources = base_sources(spec)
    check_tensors(tensors, sources, spec, str(source))

    def write(folder: epath.Path) -> None:
        with ocp.StandardCheckpointer() as checkpointer:
            for path, tensor in sources.items():
                value = assemble(tensors, {path: tensor}, mesh, TRAINING, dtype)
                checkpointer.save(folder / "params" / _file_of(path), value, force=True)
                checkpointer.wait_until_finished()
        copy_model_files(source, folder, spec)
        mark = {"dtype": np.dtype(dtype).name, "source": model_fingerprint(source)}
        (folder / _MARK).write_text(json.dumps(mark) + "\n")

    if is_address(target):
        with translate_storage_errors(target):
            root = epath.Path(target)
            if (root / _MARK).exists():
                raise InputError(f"{target}: has a converted model already; delete it or choose another folder")
            write(root)
        return
    with new_folder(Path(target)) as folder:
        try:
            write(epath.Path(folder.absolute()))
        except ValueError as error:  # what a full disk is to Orbax
            raise RunError(f"{target}: could not be written: {str(error)[-200:]}") from error


def _file_of(path: TreePath) -> str:
    return ".".join(map(str, path))


def described(address: str) -> Path:
    """A folder of this machine that stands for a converted folder in a bucket: all but its parameters.

    Raises InputError for an address that has no converted model.
    """
    with translate_storage_errors(address):
        root = epath.Path(address)
        if not (root / _MARK).exists():
            raise InputError(
                f"{address}: no converted model here; `sgtr convert --model FOLDER --out {address}` makes one"
            )
        digest = hashlib.sha256(f"{address} {(root / _MARK).read_text()}".encode()).hexdigest()[:32]
        folder = user_cache() / "models" / digest
        for file in root.iterdir():
            if not file.is_dir():
                copy_once(file, folder / file.name)
    write_text(folder / _ADDRESS, str(root / "params"))
    return folder


def copy_model_files(source: Path, target: epath.Path | Path, spec: ModelSpec) -> None:
    """Copy config and tokenizer files. A config that ties a head which the model has of its own is set right.

    Of a model with other parts the config is its text decoder's where `spec` is.
    """
    stored = read_config_json(source)
    config = config_of_family(stored, spec.family)
    if spec_from_config(config, str(source / "config.json")).tie_embeddings and not spec.tie_embeddings:
        config = {**config, "tie_word_embeddings": False}
    if config == stored:
        (target / "config.json").write_bytes((source / "config.json").read_bytes())
    else:
        (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            (target / name).write_bytes((source / name).read_bytes())


def load_converted(
    folder: Path,
    spec: ModelSpec,
    mesh: Mesh,
    rules: Rules,
    dtype: Any,
    each: LeafTransform | None = None,
    layout: Layout = "stacked",
) -> Params:
    """Restore a converted folder as `dtype`, laid out on `mesh` by `rules`, whatever mesh wrote it.

    What is stored is stacked. Where the layers are to lie apart, a parameter is taken apart before the next one is
    read, the largest first, so that the two forms of it fit beside what has been read.
    """
    tree: Params = {}
    root = epath.Path((folder / "params").absolute())
    if (folder / _ADDRESS).exists():
        root = epath.Path((folder / _ADDRESS).read_text())
    with translate_storage_errors(str(root)), ocp.StandardCheckpointer() as checkpointer:
        sources = sorted(base_sources(spec).items(), key=lambda item: -math.prod(item[1].own_shape))
        for path, source in sources:
            parameter = root / _file_of(path)
            if not parameter.is_dir():
                raise InputError(f"{parameter}: the parameter is missing; convert the model again")
            sharding = leaf_sharding(path, source.own_shape, mesh, rules)
            leaf: Any = jax.ShapeDtypeStruct(source.own_shape, dtype, sharding=sharding)
            abstract = leaf
            for key in reversed(path):
                abstract = {key: abstract}
            leaf = _restored(checkpointer, parameter, abstract)
            for key in path:
                leaf = leaf[key]
            check_finite(leaf, source, str(root))
            for own_path, own in _in_layout(path, leaf, source, layout):
                put_leaf(tree, own_path, {str(path[-1]): own} if each is None else each(own_path, own))
    return with_layers_in_order(tree)


def _in_layout(path: TreePath, leaf: jax.Array, source: Source, layout: Layout) -> list[tuple[TreePath, jax.Array]]:
    if layout == "stacked" or not source.stacked:
        return [(path, leaf)]
    parts = [(("layers", i, *path[1:]), leaf[i]) for i in range(len(source.names))]
    jax.block_until_ready(parts)
    return parts


def _restored(checkpointer: ocp.StandardCheckpointer, parameter: epath.Path, abstract: Any) -> Any:
    try:
        return checkpointer.restore(parameter, abstract)
    except ValueError as error:
        raise InputError(f"{parameter}: does not fit config.json, or is damaged: {error!s:.300}") from error
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise  # no memory on the devices or here
    except Exception as error:  # Orbax raises Exception itself for files it cannot read
        if is_address(str(parameter)):
            raise  # of the connection, perhaps
        raise InputError(f"{parameter}: cannot be read; convert the model again: {error!s:.200}") from error
