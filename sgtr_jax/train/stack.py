"""Runs as a batch axis: states of single runs stacked into one, taken out again, and closed up when runs end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sgtr_jax.mesh import TRAINING, shardings
from sgtr_jax.train.step import Fixed, TrainState

Tree = TypeVar("Tree")


def slots_for(total: int, active: int) -> int:
    """Places in the batch for `active` of `total` runs: total, half of it, a quarter, ... whichever still suffices.

    Every number of places is a program to compile, every empty place arithmetic for nothing; halving bounds both.
    For 5 runs: 5, 5, 3, 2, 1 places when 5, 4, 3, 2, 1 are active.
    """
    slots = total
    while (half := -(-slots // 2)) >= active and half < slots:
        slots = half
    return slots


def stack_runs(
    states: Sequence[TrainState], fixed: Sequence[Fixed], total: int, mesh: Mesh
) -> tuple[TrainState, Fixed]:
    """Leaves `[...]` of each run as `[slots, ...]`. Places without a run repeat the last one and never move."""
    slots = slots_for(total, len(states))
    filler = slots - len(states)
    state = _stack([*states, *[states[-1]] * filler], mesh)
    return _without_run(state, len(states), slots), _stack([*fixed, *[fixed[-1]] * filler], mesh)


def restack(
    state: TrainState, fixed: Fixed, staying: Sequence[int], slots: int, mesh: Mesh
) -> tuple[TrainState, Fixed]:
    """The runs at places `staying`, in order, in `slots` places."""
    places = np.asarray([*staying, *[staying[-1]] * (slots - len(staying))])
    return _without_run(_take(state, places, mesh), len(staying), slots), _take(fixed, places, mesh)


def pick_run(tree: Tree, place: int, mesh: Mesh) -> Tree:
    """One run's leaves, without the axis of runs."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tree)
    picked: Tree = _jitted(_pick, shardings(shapes, mesh, TRAINING))(tree, place)
    return picked


def _stack(trees: Sequence[Tree], mesh: Mesh) -> Tree:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(trees), *x.shape), x.dtype), trees[0])
    stacked: Tree = _jitted(_stacked, shardings(shapes, mesh, TRAINING, leading=1))(trees)
    return stacked


def _take(tree: Tree, places: np.ndarray, mesh: Mesh) -> Tree:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(places), *x.shape[1:]), x.dtype), tree)
    taken: Tree = _jitted(_taken, shardings(shapes, mesh, TRAINING, leading=1))(tree, places)
    return taken


def _without_run(state: TrainState, runs: int, slots: int) -> TrainState:
    """Mark the places behind the runs as not alive."""
    if runs == slots:
        return state
    return replace(state, alive=_jitted(_first, state.alive.sharding)(state.alive, runs))


def _jitted(function: Callable[..., Any], out: Any) -> Any:
    leaves, structure = jax.tree.flatten(out)
    return _jitted_once(function, tuple(leaves), structure)


@lru_cache(maxsize=64)
def _jitted_once(function: Callable[..., Any], leaves: tuple[Any, ...], structure: Any) -> Any:
    return jax.jit(function, out_shardings=jax.tree.unflatten(structure, leaves))


def _first(alive: jax.Array, runs: jax.Array) -> jax.Array:
    return alive & (jnp.arange(alive.size) < runs)


def _pick(tree: Any, place: jax.Array) -> Any:
    return jax.tree.map(lambda x: x[place], tree)


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _taken(tree: Any, places: jax.Array) -> Any:
    return jax.tree.map(lambda x: x[places], tree)
