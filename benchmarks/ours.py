"""The contestant sgtr-jax: the same programs that `sgtr train` runs."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import cases
import jax
import jax.numpy as jnp
import numpy as np
from contest import serve

from sgtr_jax import nano
from sgtr_jax.data.packed_shapes import choose_shapes
from sgtr_jax.data.packing import Example, PackedShape, pack
from sgtr_jax.data.tokenizer import TOKENIZER_FILES
from sgtr_jax.distributed.launch import start_jax
from sgtr_jax.distributed.mesh import data_sharding, make_mesh, put
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.lora.adapter import init_adapter
from sgtr_jax.lora.config import LoraConfig
from sgtr_jax.models.decoder import init_params
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.program import Programs
from sgtr_jax.train.stack import stack_runs
from sgtr_jax.train.step import RunConstants, init_state
from sgtr_jax.weights.save import save_params


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
        """Seconds for the case's steps of `runs` runs at once, compiling not counted; see also `matrix_rate`."""
        if name == "matrix_rate":
            return matrix_rate()
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
        constants = [
            RunConstants(
                (),
                jnp.float32(self.config.lora.scale),
                np.asarray([0, run], np.uint32),
                jnp.float32(1e-5),
                jnp.int32(100),
            )
            for run in range(runs)
        ]
        state, both = stack_runs(states, constants, runs, self.mesh)
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


def matrix_rate() -> float:
    """FLOP/s of the model's largest float32 matrix product, alone, best of five."""
    tokens, into, out = 2048, cases.MODEL["hidden_size"], cases.MODEL["intermediate_size"]
    product = jax.jit(lambda x, w: jnp.matmul(x, w, precision="highest"))
    x, w = jnp.ones((tokens, into)), jnp.ones((into, out))
    product(x, w).block_until_ready()
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(20):
            result = product(x, w)
        result.block_until_ready()
        seconds.append((time.perf_counter() - begun) / 20)
    return 2 * tokens * into * out / min(seconds)


def write_model(folder: Path) -> None:
    """The benchmark's model as a Hugging Face folder, with the demo model's tokenizer."""
    folder.mkdir()
    config = {**cases.MODEL, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    spec = spec_from_config(config, "benchmark")
    save_params(folder, init_params(spec, 0), spec)
    for name in TOKENIZER_FILES:
        if (nano.FOLDER / name).exists():
            shutil.copyfile(nano.FOLDER / name, folder / name)


def collectives() -> tuple[float, float]:
    """Bytes that collectives give each chip, per run and step: one run alone, and one of five at once.

    Qwen2.5-32B's shape, fsdp over v5e 4x4, steps of 16 short examples.
    """
    from sgtr_jax.estimate.communication import collective_bytes
    from sgtr_jax.estimate.topology import compile_step, topology_mesh

    config = {
        **cases.MODEL, "vocab_size": 152064, "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64,
        "num_attention_heads": 40, "num_key_value_heads": 8,
    }  # fmt: skip
    spec, mesh = spec_from_config(config, "Qwen2.5-32B"), topology_mesh("v5e:4x4", (1, 16, 1))
    alone, five = (
        sum(collective_bytes(compile_step(spec, TrainConfig(), mesh, runs, PackedShape(16, 64, 24))).values()) / runs
        for runs in (1, 5)
    )
    return alone, five


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--write-model", folder]:
            write_model(Path(folder))
        case ["--collectives"]:
            print(json.dumps(collectives()))
        case _:
            serve(Ours().measure)
