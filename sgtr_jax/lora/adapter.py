"""A LoRA adapter (arXiv 2106.09685) to the letter of PEFT: its settings, its start, its scale (rsLoRA: 2312.03732)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32

from sgtr_jax.lora.config import LoraConfig


class HasProjections(Protocol):
    """What an adapter must know of a model: how many layers, and the width of each projection, `(in, out)`."""

    @property
    def num_layers(self) -> int: ...

    @property
    def projections(self) -> Mapping[str, tuple[int, int]]: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Adapter:
    """One LoRA adapter: `params[projection] = {"a": [L, r, in], "b": [L, r, out]}`, float32, and its scale.

    Both factors have the rank in front, as their gradients come out; see `low_rank`.
    The scale (alpha/r or alpha/sqrt(r)) is an array, so that adapters of different scale share a program.
    In sampling, C chains share a batch: factors are `[L, C, r, ...]`, scale `[C]`, and row b is chain b % C's.
    """

    params: dict[str, dict[str, jax.Array]]
    scale: Float32[Array, "*C"]


# Adapters of one model; their updates add up. In training the last one is being trained, the others frozen.
Chain = tuple[Adapter, ...]


def init_adapter(spec: HasProjections, config: LoraConfig, key: jax.Array) -> Adapter:
    """A fresh adapter: A uniform in +-1/sqrt(fan_in), B zero, so that the model is unchanged at the start.

    PEFT reaches the same A by `kaiming_uniform_(a=sqrt(5))`: sqrt(6 / ((1 + 5) * fan_in)).
    """
    params = {}
    for i, name in enumerate(config.targets):
        into, out = spec.projections[name]
        bound = into**-0.5
        shape = (spec.num_layers, config.rank, into)
        a = jax.random.uniform(jax.random.fold_in(key, i), shape, jnp.float32, -bound, bound)
        if config.layers is not None:
            # Zeros in both factors stay zeros: the gradient of each is a product with the other.
            a = a * jnp.isin(jnp.arange(spec.num_layers), jnp.asarray(config.layers))[:, None, None]
        params[name] = {"a": a, "b": jnp.zeros((spec.num_layers, config.rank, out), jnp.float32)}
    return Adapter(params, jnp.float32(config.scale))
