"""The contestant sgtr-jax: the same programs that `sgtr train` runs."""

from __future__ import annotations

import time
from typing import Any

import cases
import jax
import jax.numpy as jnp
import numpy as np
from contest import serve

from sgtr_jax.data.packing import Example, pack
from sgtr_jax.data.shapes import choose_shapes
from sgtr_jax.lora import LoraConfig, init_adapter
from sgtr_jax.mesh import MeshConfig, data_sharding, make_mesh, put
from sgtr_jax.models.decoder import init_params
from sgtr_jax.models.spec import spec_from_config
from sgtr_jax.startup import start_jax
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.program import Programs
from sgtr_jax.train.stack import stack_runs
from sgtr_jax.train.step import Fixed, init_state


class Ours:
    """Holds the base; a measurement trains `runs` fresh adapters for the case's steps."""

    def __init__(self) -> None:
        start_jax()
        self.spec = spec_from_config(cases.MODEL, "benchmark")
        self.mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        self.base = init_params(self.spec, 0)
        self.config = TrainConfig(dtype="float32", remat="light", lora=LoraConfig(**cases.LORA))
        self.programs = Programs(self.spec, self.config, self.mesh)

    def measure(self, name: str, runs: int = 1) -> float:
        """Seconds for the case's steps of `runs` runs at once, compiling not counted."""
        case = cases.CASES[name]
        data = [
            [[Example("", e.tokens, e.target) for e in step] for step in cases.steps_of(case, seed=run)]
            for run in range(runs)
        ]
        together = [[data[run][t] for run in range(runs)] for t in range(case.steps)]
        shapes = choose_shapes(together, 1)
        states = [
            init_state(init_adapter(self.spec, self.config.lora, jax.random.key(run)).params, self.config)
            for run in range(runs)
        ]
        fixed = [
            Fixed((), jnp.float32(self.config.lora.scale), jax.random.key(run), jnp.float32(1e-5), jnp.int32(100))
            for run in range(runs)
        ]
        state, both = stack_runs(states, fixed, runs, self.mesh)
        for shape in shapes.all:
            self.programs.get(runs, shape, state, self.base, both)
        begun = time.perf_counter()
        for step in together:
            shape = shapes.pick(step)
            arrays = [pack(examples, shape).arrays() for examples in step]
            batch: dict[str, Any] = {
                key: put(np.stack([a[key] for a in arrays]), data_sharding(self.mesh, 1)) for key in arrays[0]
            }
            state, metrics = self.programs.get(runs, shape, state, self.base, both)(state, self.base, both, batch)
        jax.block_until_ready(metrics)
        return time.perf_counter() - begun


if __name__ == "__main__":
    contestant = Ours()
    serve(contestant.measure)
