"""Hugging Face folders straight into sharded arrays.

For every device shard, only the bytes that shard needs are read from the memory-mapped files, cast, transposed
and stacked; host memory holds one shard of one parameter at a time, never the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sgtr_jax.arrays import Params
from sgtr_jax.distributed.collectives import all_gather_objects
from sgtr_jax.distributed.layout import Layout
from sgtr_jax.distributed.mesh import Rules, leaf_sharding
from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.weights.names import HEAD, Source, base_sources, embedding_name, may_be_absent, with_our_names
from sgtr_jax.weights.names import Path as TreePath
from sgtr_jax.weights.safetensors_file import StoredTensor, read_header

_CHECKED_AT_ONCE = 1 << 20  # values of a tensor that are looked at for NaN
# (path, parameter) -> what to store beside its siblings in its place.
LeafTransform = Callable[[TreePath, jax.Array], dict[str, jax.Array]]


def open_checkpoint(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a folder: those of its single file, or else those its index names, as transformers 5 chooses.

    Raises InputError for a missing or truncated shard, or an index that disagrees with the files.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.exists():
        return read_header(single)
    if not index.exists():
        other = sorted(path.name for path in folder.glob("*.bin")) if folder.is_dir() else []
        hint = f" (found {other[0]}: only safetensors is read)" if other else ""
        raise InputError(f"{folder}: no model.safetensors and no model.safetensors.index.json{hint}")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index}: expected JSON with a 'weight_map' of tensor: file")
    for name, file in weight_map.items():
        # A name of a file, and not a path: an index is another's, and may not name files outside of the folder.
        if not isinstance(file, str) or Path(file).name != file:
            raise InputError(f"{index}: weight_map gives {file!r:.60} for {name!r}; expected the name of a file")
    tensors: dict[str, StoredTensor] = {}
    for file in sorted(set(weight_map.values())):
        path = folder / file
        if not path.exists():
            raise InputError(f"{index}: the shard {file[:80]!r} that it names is missing")
        found = read_header(path)
        twice = sorted(tensors.keys() & found.keys())
        if twice:
            raise InputError(f"{path}: tensor {twice[0]!r} stands in {tensors[twice[0]].file.name}, too")
        tensors.update(found)
    lost = sorted(set(weight_map) - set(tensors))
    if lost:
        raise InputError(f"{folder / weight_map[lost[0]]}: tensor {lost[0]!r} is missing, but the index names it")
    return tensors


def check_tensors(
    tensors: dict[str, StoredTensor], sources: dict[TreePath, Source], spec: ModelSpec, where: str
) -> None:
    """Compare names and shapes with what the spec needs. Raises InputError naming file and tensor."""
    wanted = {name: source.shape for source in sources.values() for name in source.names}
    problems = [f"{where}: tensor {name!r} is missing" for name in wanted if name not in tensors]
    for name, tensor in tensors.items():
        if name not in wanted:
            if not may_be_absent(name, spec):
                problems.append(f"{tensor.file}: tensor {name!r} does not belong to this model")
        elif tensor.shape != wanted[name]:
            problems.append(
                f"{tensor.file}: tensor {name!r} has shape {list(tensor.shape)}, expected {list(wanted[name])}"
            )
    if problems:
        more = f"\n... and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError("\n".join(problems[:5]) + more)


def stores_another_head(folder: Path, spec: ModelSpec) -> bool:
    """Whether a folder holds a head that is not the embedding, which a config that ties them does not say.

    A merge after the head was trained leaves such a folder; transformers 5 uses the stored head.
    """
    if not any((folder / name).exists() for name in ("model.safetensors", "model.safetensors.index.json")):
        return False
    tensors = with_our_names(open_checkpoint(folder), spec)
    head, embedding = (tensors.get(name) for name in (HEAD, embedding_name(spec)))
    if head is None or embedding is None:
        return False
    if head.shape != embedding.shape or len(head.shape) != 2:
        return True
    # Rows at a time: of a large vocabulary each is more than a gigabyte.
    one, other = head.read(), embedding.read()
    return not all(np.array_equal(one[i : i + 4096], other[i : i + 4096]) for i in range(0, len(one), 4096))


def load_params(
    folder: Path,
    spec: ModelSpec,
    mesh: Mesh,
    rules: Rules,
    dtype: Any,
    each: LeafTransform | None = None,
    layout: Layout = "stacked",
) -> Params:
    """Load a Hugging Face folder as `dtype`, laid out on `mesh` by `rules`, with its layers in `layout`.

    `each` turns a parameter into those stored in its place before the next one is read (quantisation).
    """
    tensors = with_our_names(open_checkpoint(folder), spec)
    sources = base_sources(spec, layout)
    check_tensors(tensors, sources, spec, str(folder))
    return assemble(tensors, sources, mesh, rules, dtype, each)


def assemble(
    tensors: dict[str, StoredTensor],
    sources: dict[TreePath, Source],
    mesh: Mesh,
    rules: Rules,
    dtype: Any,
    each: LeafTransform | None = None,
) -> Params:
    """Build our tree from stored tensors, each device reading its own slices. Every process must call it.

    Raises InputError, in all processes, for tensors that hold NaN or infinite values.
    """
    tree: Params = {}
    damaged: set[str] = set()  # tensors, as far as this process reads them
    for path, source in sources.items():
        sharding = leaf_sharding(path, source.own_shape, mesh, rules)
        stored = [tensors[name].read() for name in source.names]
        leaf = jax.make_array_from_callback(
            source.own_shape, sharding, partial(_read_shard, stored, source, dtype, damaged)
        )
        # Else copies to the device still hold their host memory while the next parameters are being read.
        leaf.block_until_ready()
        put_leaf(tree, path, {str(path[-1]): leaf} if each is None else each(path, leaf))
    if found := sorted(set().union(*all_gather_objects(damaged))):
        raise _not_finite(str(tensors[found[0]].file), found[0])
    return with_layers_in_order(tree)


def put_leaf(tree: Params, path: TreePath, stored: dict[str, jax.Array]) -> None:
    """Put what is stored for the parameter at `path` into `tree`."""
    node: Any = tree
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node.update(stored)


def with_layers_in_order(tree: Params) -> Params:
    """The tree in which layers that lie apart are a tuple, not a dict by their numbers."""
    layers = tree.get("layers", {})
    return {**tree, "layers": tuple(layers[i] for i in sorted(layers))} if 0 in layers else tree


def _not_finite(where: str, name: str) -> InputError:
    return InputError(f"{where}: tensor {name!r} holds NaN or infinite values; the file is damaged, get it again")


def check_finite(leaf: jax.Array, source: Source, where: str) -> None:
    """Raise InputError naming the tensor if a restored parameter holds NaN or infinite values.

    On the devices, where Orbax has put it. Every process must call it.
    """
    whole = NamedSharding(leaf.sharding.mesh, PartitionSpec()) if isinstance(leaf.sharding, NamedSharding) else None
    good = np.atleast_1d(np.asarray(_finite(source.stacked, whole)(leaf)))
    if not good.all():
        raise _not_finite(where, source.names[int(np.argmin(good))])


@lru_cache(maxsize=64)
def _finite(stacked: bool, sharding: NamedSharding | None) -> Callable[[jax.Array], jax.Array]:
    def check(x: jax.Array) -> jax.Array:
        return jnp.isfinite(x).all(axis=tuple(range(int(stacked), x.ndim)))

    return jax.jit(check, out_shardings=sharding)


def _read_shard(
    stored: list[np.ndarray], source: Source, dtype: Any, damaged: set[str], index: tuple[slice, ...] | None
) -> np.ndarray:
    """One device's shard; names of tensors in which it holds NaN or infinite values go to `damaged`.

    Index `[0:2, 0:4, 8:16]` of a stacked transposed kernel reads `[8:16, 0:4]` twice.
    """
    assert index is not None
    inner = index[1:] if source.stacked else index
    as_stored = inner[::-1] if source.transpose else inner
    chosen = stored[index[0]] if source.stacked else stored
    parts = [tensor[as_stored].T if source.transpose else tensor[as_stored] for tensor in chosen]
    out = np.empty((len(parts), *parts[0].shape) if source.stacked else parts[0].shape, dtype)
    if source.stacked:
        for i, part in enumerate(parts):
            out[i] = part
    else:
        out[...] = parts[0]
    names = source.names[index[0]] if source.stacked else source.names
    damaged.update(
        name for name, part in zip(names, out if source.stacked else [out], strict=True) if not _finite_on_host(part)
    )
    return out


def _finite_on_host(part: np.ndarray) -> bool:
    """Whether all values are finite, some rows at a time: the answers of a whole vocabulary would be half its size."""
    rows = part.reshape(len(part), -1) if part.ndim else part.reshape(1, 1)
    step = max(1, _CHECKED_AT_ONCE // max(1, rows.shape[1]))
    return all(bool(np.isfinite(rows[i : i + step]).all()) for i in range(0, len(rows), step))
