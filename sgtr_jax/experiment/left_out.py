"""Artifacts of a bundle whose weights stayed at home: they are made again only where something needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sgtr_jax.files import read_json
from sgtr_jax.sealed import damage, recorded_files

if TYPE_CHECKING:  # `sgtr status` does without what they import
    from sgtr_jax.experiment.node import Node
    from sgtr_jax.experiment.store import Store

LEFT_OUT = "left_out.json"  # in the store: files that are not there, by artifact


def left_out_of(store: Path) -> Mapping[str, list[str]]:
    """The files that a bundle left out, by the folder of their artifact. Raises InputError for a damaged list."""
    path = store / LEFT_OUT
    return cast(Mapping[str, list[str]], read_json(path)) if path.exists() else {}


def is_left_out(folder: Path, left_out: Mapping[str, list[str]]) -> bool:
    """Whether all that an artifact lacks is what was left out on purpose, and it does lack it."""
    names = left_out.get(folder.name)
    if names is None or not damage(folder, whole=False):
        return False
    return not damage(folder, whole=False, names=[name for name in recorded_files(folder) if name not in names])


def needed(nodes: Sequence[Node], store: Store) -> list[Node]:
    """`nodes` without those that were left out and that nothing which is missing is made from."""
    left_out, wanted = left_out_of(store.root), set[str]()
    kept: list[Node] = []
    for node in reversed(nodes):  # what is made from others before these
        if node.fingerprint not in wanted and is_left_out(store.path(node), left_out):
            continue
        kept.append(node)
        if not store.has(node):
            wanted |= {source.fingerprint for source in node.inputs.values()}
    return kept[::-1]
