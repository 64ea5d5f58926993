"""Running the layers: one compiled body in a scan, or one layer after the other.

Weights lie stacked, `[L, ...]`, or apart: a tuple of one tree for each layer. A scan compiles one body for all layers;
where a matrix product is a call of a library (GPU), it copies each layer's weights out of the stack first, and on CPU
it reads a slice of a loop's array five times slower than an array. Which of the two a program gets is decided where
the weights are loaded (`distributed/layout.py`); here the form of the weights says it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import jax

from sgtr_jax.arrays import Params, Tree
from sgtr_jax.distributed.layout import Layout
from sgtr_jax.models.layers import KEPT
from sgtr_jax.models.residual import ResidualEdits

# What the backward pass finds stored per layer: everything, enough to repeat no product with a weight matrix, or
# the layer's input only.
Remat = Literal["none", "light", "full"]


class LayerInputs(NamedTuple):
    """What a layer reads besides the activations; stacked, of all layers, with the axis of layers in front."""

    number: jax.Array  # int32 []
    weights: Params
    adapters: list[dict[str, dict[str, jax.Array]]]  # of each adapter of the chain
    edits: ResidualEdits | None  # of the residual stream behind the layer


# Stacked, or each layer's own.
Layers: TypeAlias = LayerInputs | list[LayerInputs]
LayerNumber: TypeAlias = jax.Array | int  # int32 [] in a scan
Carry = TypeVar("Carry")
LayerBody = Callable[[LayerNumber, Carry, LayerInputs], tuple[Carry, Any]]


def over_layers(
    body: LayerBody[Carry], carry: Carry, layers: Layers, remat: Remat = "none", period: int | None = None
) -> tuple[Carry, Any]:
    """`carry` after `body(number, carry, inputs)` of every layer, and what each layer gave besides.

    That is stacked for stacked layers, and a list where they lie apart. `remat`: what the backward pass computes again.
    With `period`, layers whose numbers differ by a multiple of it differ in their inputs alone: where they lie apart,
    `number` is then that of the first one alike, and the body is traced for that one only.
    """
    if isinstance(layers, LayerInputs):
        # Inside of a scan nothing is computed once for two uses, so that no barrier is needed against it.
        repeated = _rematerialised(lambda carry, x: body(x.number, carry, x), remat, barrier=False)
        found: tuple[Carry, Any] = jax.lax.scan(repeated, carry, layers)
        return found
    given = []
    bodies: dict[int, Callable[..., Any]] = {}
    for i, inputs in enumerate(layers):
        number = i if period is None else i % period
        if number not in bodies:
            one = _rematerialised(partial(body, number), remat, barrier=True)
            bodies[number] = one if period is None else jax.jit(one)
        carry, more = bodies[number](carry, inputs)
        given.append(more)
    return carry, given


def take_apart(tree: Tree, layers: int) -> list[Tree]:
    """The slices of a stacked tree's leaves `[L, ...]`. Their gradient is joined in one piece, not padded L times."""
    leaves, structure = jax.tree.flatten(tree)
    parts = [jax.lax.split(leaf, (1,) * layers) for leaf in leaves]
    return [jax.tree.unflatten(structure, [part[i][0] for part in parts]) for i in range(layers)]


def layers_apart(params: Params) -> Params:
    """Parameters with a tree for each layer: a second copy of those that are stacked."""
    if layout_of(params) == "apart":
        return params
    (layers, *_) = {leaf.shape[0] for leaf in jax.tree.leaves(params["layers"])}
    return {**params, "layers": tuple(take_apart(params["layers"], layers))}


def layout_of(params: Params) -> Layout:
    """How the layers of these parameters lie."""
    return "stacked" if isinstance(params["layers"], dict) else "apart"


def each_layer(layers: Params | Sequence[Params]) -> Sequence[Params]:
    """Each layer's weights, where they lie apart; the stack as the only one otherwise."""
    return [layers] if isinstance(layers, dict) else layers


def _rematerialised(body: Callable[..., Any], remat: Remat, barrier: bool) -> Callable[..., Any]:
    if remat == "none":
        return body
    policy = jax.checkpoint_policies.save_only_these_names(KEPT) if remat == "light" else None
    return jax.checkpoint(body, prevent_cse=barrier, policy=policy)
