"""Runs as a batch axis: states of single runs stacked into one, taken out again, and closed up when runs end."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sgtr_jax.arrays import Tree
from sgtr_jax.distributed.mesh import TRAINING, shardings
from sgtr_jax.train.step import RunConstants, TrainState

T = TypeVar("T")


def slots_for(total: int, active: int) -> int:
    """Places in the batch for `active` of `total` runs: total, half of it, a quarter, ... whichever still suffices.

    Every number of slots is a program to compile, every empty slot arithmetic for nothing; halving bounds both.
    For 5 runs: 5, 5, 3, 2, 1 slots when 5, 4, 3, 2, 1 are active.
    """
    slots = total
    while (half := -(-slots // 2)) >= active and half < slots:
        slots = half
    return slots


def stack_runs(
    states: Sequence[TrainState], constants: Sequence[RunConstants], total: int, mesh: Mesh
) -> tuple[TrainState, RunConstants]:
    """Leaves `[...]` of each run as `[slots, ...]`. Places without a run repeat the last one and never move."""
    slots = slots_for(total, len(states))
    filler = slots - len(states)
    state = _stack([*states, *[states[-1]] * filler], mesh)
    return _without_run(state, len(states), slots), _stack([*constants, *[constants[-1]] * filler], mesh)


def restack(
    state: TrainState, constants: RunConstants, staying: Sequence[int], slots: int, mesh: Mesh
) -> tuple[TrainState, RunConstants]:
    """The runs at indices `staying`, in order, in `slots` slots."""
    indices = np.asarray([*staying, *[staying[-1]] * (slots - len(staying))])
    return _without_run(_take(state, indices, mesh), len(staying), slots), _take(constants, indices, mesh)


def pick_run(tree: Tree, index: int, mesh: Mesh) -> Tree:
    """One run's leaves, without the axis of runs."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tree)
    picked: Tree = _jitted(_pick, shardings(shapes, mesh, TRAINING))(tree, index)
    return picked


def _stack(trees: Sequence[Tree], mesh: Mesh) -> Tree:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(trees), *x.shape), x.dtype), trees[0])
    stacked: Tree = _jitted(_stacked, shardings(shapes, mesh, TRAINING, leading=1))(trees)
    return stacked


def _take(tree: Tree, indices: np.ndarray, mesh: Mesh) -> Tree:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(indices), *x.shape[1:]), x.dtype), tree)
    taken: Tree = _jitted(_taken, shardings(shapes, mesh, TRAINING, leading=1))(tree, indices)
    return taken


def _without_run(state: TrainState, runs: int, slots: int) -> TrainState:
    """Mark the slots behind the runs as not active."""
    if runs == slots:
        return state
    return replace(state, active=_jitted(_first, state.active.sharding)(state.active, runs))


def _jitted(function: Callable[..., T], out: object) -> Callable[..., T]:
    leaves, structure = jax.tree.flatten(out)
    return _jitted_once(function, tuple(leaves), structure)


@lru_cache(maxsize=64)
def _jitted_once(
    function: Callable[..., T], leaves: tuple[Hashable, ...], structure: jax.tree_util.PyTreeDef
) -> Callable[..., T]:
    return jax.jit(function, out_shardings=jax.tree.unflatten(structure, leaves))


def _first(active: jax.Array, runs: jax.Array) -> jax.Array:
    return active & (jnp.arange(active.size) < runs)


def _pick(tree: Tree, index: jax.Array) -> Tree:
    found: Tree = jax.tree.map(lambda x: x[index], tree)
    return found


def _stacked(trees: Sequence[Tree]) -> Tree:
    found: Tree = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return found


def _taken(tree: Tree, indices: jax.Array) -> Tree:
    found: Tree = jax.tree.map(lambda x: x[indices], tree)
    return found
