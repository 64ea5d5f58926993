"""How far the model of a run lies along directions while it is trained, on fixed prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from sgtr_jax.arrays import Params
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import read_prompts
from sgtr_jax.errors import InputError
from sgtr_jax.lora.adapter import Chain
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.activations import StatePasses
from sgtr_jax.sample.directions import Direction, read_direction
from sgtr_jax.train.config import TrainConfig


@dataclass(frozen=True, eq=False)
class Projected:
    """Prompts as token ids, and directions by name, with the vectors of `layers` only."""

    prompts: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...]
    directions: Mapping[str, Direction]

    def values(self, spec: ModelSpec, params: Params, chain: Chain, mesh: Mesh) -> dict[str, float]:
        """The mean over prompts of the last token's projection, by `projection/NAME/LAYER`."""
        passes = StatePasses(spec, params, chain, mesh, self.layers)
        last = [[False] * (len(prompt) - 1) + [True] for prompt in self.prompts]
        states = np.zeros((len(self.prompts), len(self.layers), spec.hidden_size), np.float32)
        for i, state in passes.means(self.prompts, last):
            states[i] = state
        return {
            f"projection/{name}/{layer}": float(along[:, at].mean(dtype=np.float64))
            for name, direction in self.directions.items()
            for along in [direction.along(states)]
            for at, layer in enumerate(self.layers)
        }


def read_projected(config: TrainConfig, spec: ModelSpec, chat: ChatFormat, taken_out: bool) -> Projected | None:
    """What `log.projections` asks for; None where it is not given.

    `taken_out`: whether an inoculation adapter is frozen on top, without which nobody measures while it is there.
    Raises InputError for files that cannot be read, or that are of another model.
    """
    asked = config.log.projections
    if asked is None:
        return None
    if taken_out:
        raise InputError(
            "log.projections: the model would be measured with its inoculation_adapter, which is left out of it "
            "afterwards; leave one of the two out"
        )
    layers = tuple(sorted(set(asked.layers)))
    if layers[-1] >= spec.num_layers:
        raise InputError(f"log.projections.layers names layer {layers[-1]}; the model has layers 0 to "
                         f"{spec.num_layers - 1}")  # fmt: skip
    read = {name: read_direction(path, spec) for name, path in asked.directions.items()}
    kept = {name: Direction(one.vectors[list(layers)], one.recipe) for name, one in read.items()}
    prompts = []
    for record in read_prompts(asked.prompts):
        try:
            ids = tuple(chat.prompt_ids(record.messages))
        except InputError as error:
            raise InputError(f"{asked.prompts}: {record.id}: {error}") from None
        if len(ids) > spec.max_positions:
            raise InputError(
                f"{asked.prompts}: {record.id}: has {len(ids)} tokens, and the model {spec.max_positions} positions"
            )
        prompts.append(ids)
    if not prompts:
        raise InputError(f"{asked.prompts}: has no prompt")
    return Projected(tuple(prompts), layers, kept)
