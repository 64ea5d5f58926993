"""The project's side of `accelerator.py`: checks, ceilings and cases on one device, a JSON line each as it is known."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import accelerator_cases as ac
import jax
import jax.numpy as jnp
import numpy as np
from accelerator_checks import check_all
from cases import LORA

from sgtr_jax.data.packed_shapes import choose_shapes
from sgtr_jax.data.packing import Example, pack
from sgtr_jax.distributed.launch import start_jax
from sgtr_jax.distributed.layout import layer_layout
from sgtr_jax.distributed.mesh import SAMPLING, MeshConfig, data_sharding, make_mesh, put
from sgtr_jax.distributed.rates import copy_bandwidth, least_seconds, matrix_rate
from sgtr_jax.lora.adapter import Adapter, LoraConfig, init_adapter
from sgtr_jax.models.decoder import abstract_params
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.sample.decode import DecodePrograms
from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.request import Request
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.program import Programs
from sgtr_jax.train.stack import stack_runs
from sgtr_jax.train.step import RunConstants, init_state

Measured = tuple[float, float, float]  # amount in the case's unit, seconds, floor in seconds


class Ours:
    """A base of random weights in bfloat16, laid out as it is loaded for this device."""

    def __init__(self, shape: ac.Shape) -> None:
        self.shape = shape
        self.spec = spec_from_config(shape.config, "benchmark")
        self.mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        layout = layer_layout(self.mesh, SAMPLING)
        paths, structure = jax.tree.flatten_with_path(abstract_params(self.spec, jnp.bfloat16, layout=layout))
        leaves = [_random(i, leaf.shape, path[-1].key) for i, (path, leaf) in enumerate(paths)]
        self.base = jax.block_until_ready(jax.tree.unflatten(structure, leaves))
        self.programs = DecodePrograms(self.spec, self.mesh)
        tiny = shape.tiny
        self.flops, self.bandwidth = matrix_rate(256 if tiny else 8192), copy_bandwidth(1 << 16 if tiny else 1 << 30)

    def measure(self, case: str) -> Measured:
        """Run a case; compiling is not counted."""
        kind, _, rest = case.partition("_")
        if kind == "train":
            name, _, how = rest.partition("_")
            return self._train(name, 5 if how == "x5" else 1, "xla" if how == "xla" else "auto")
        if case == "score_shared_prefix":
            return self._score(96, 780, 700)
        if case == "score":
            return self._score(512, 300, 0)
        if case == "decode_5x32":
            return self._decode(32, 5)
        if kind == "decode":
            return self._decode(int(rest.split("_")[0]), 1 if rest.endswith("adapter") else 0)
        return self._generate(*((64, 128, 1) if rest == "64" else (1, 512, 100)))

    def _train(self, kind: str, runs: int, attention: Any, steps: int = 4) -> Measured:
        data = [[[Example("", e.tokens, e.target) for e in ac.examples(self.shape, kind, 100 * run + t)]
                 for run in range(runs)] for t in range(steps)]  # fmt: skip
        config = TrainConfig(remat="light", attention=attention, lora=LoraConfig(**LORA))
        programs = Programs(self.spec, config, self.mesh)
        shapes = choose_shapes(data, 1, programs.attention_length)
        states = [
            init_state(init_adapter(self.spec, config.lora, jax.random.key(r)).params, config) for r in range(runs)
        ]
        numbers = (jnp.float32(config.lora.scale), jnp.float32(1e-5), jnp.int32(100))
        constants = [RunConstants((), numbers[0], np.asarray([0, r], np.uint32), *numbers[1:]) for r in range(runs)]
        state, both = stack_runs(states, constants, runs, self.mesh)
        for shape in shapes.all:
            programs.get(runs, shape, state, self.base, both)

        def all_steps(state: Any) -> Any:
            for step in data:
                shape = shapes.pick(step)
                arrays = [pack(examples, shape).arrays() for examples in step]
                batch: dict[str, Any] = {
                    key: put(np.stack([a[key] for a in arrays]), data_sharding(self.mesh, 1)) for key in arrays[0]
                }
                state, metrics = programs.get(runs, shape, state, self.base, both)(state, self.base, both, batch)
            jax.block_until_ready(metrics)
            return state

        state = all_steps(state)
        begun = time.perf_counter()
        all_steps(state)
        seconds = time.perf_counter() - begun
        every = [example for step in data for run in step for example in run]
        flops = self.shape.training_flops([len(e.tokens) for e in every], [e.num_targets for e in every])
        amount = sum(len(e.tokens) for e in every) if kind == "full" else len(every)
        return amount, seconds, flops / self.flops

    def _chains(self, count: int) -> dict[str, tuple[Adapter, ...]]:
        return {f"chain{i}": (adapter_of(self.spec, i),) for i in range(count)}

    def _sample(self, count: int, length: int, new: int, samples: int, chains: int) -> float:
        """Seconds; the least of three."""
        made = self._chains(chains)
        rows = [Request(f"p{i}", prompt, new, float(samples > 1), 0, n, chain)
                for chain in made or [None] for i, prompt in enumerate(ac.prompts(self.shape, count, length))
                for n in range(samples)]  # fmt: skip
        engine = Engine(self.spec, self.base, self.mesh, made or None, programs=self.programs)
        return least_seconds(lambda: engine.sample(rows), 3)

    def _decode(self, rows: int, chains: int) -> Measured:
        """Tokens alone: two lengths in caches of the same slots, and the difference."""
        count, length = self.shape.part(rows), self.shape.part(128)
        few, many = self.shape.part(72), self.shape.part(128)
        seconds = self._sample(count, length, many, 1, chains) - self._sample(count, length, few, 1, chains)
        if seconds <= 0:
            raise RuntimeError("the longer rows took no longer: too little work to measure")
        in_all = count * max(1, chains)
        filled = length + (few + many) / 2
        floor = (many - few) * self.shape.token_bytes(in_all, filled, chains) / self.bandwidth
        return in_all * (many - few), seconds, floor

    def _generate(self, count: int, length: int, samples: int) -> Measured:
        count, samples = (self.shape.part(n) if n > 1 else 1 for n in (count, samples))
        length, new = self.shape.part(length), self.shape.part(128)
        rows = count * samples
        floor = self.shape.prompt_flops(count, length) / self.flops
        floor += new * self.shape.token_bytes(rows, length + new / 2) / self.bandwidth
        return rows * new, self._sample(count, length, new, samples, 0), floor

    def _score(self, count: int, length: int, shared: int) -> Measured:
        """With `shared` tokens in common in each group of 24. The floor counts those once."""
        count, length, shared = (
            self.shape.part(count),
            self.shape.part(length),
            self.shape.part(shared) if shared else 0,
        )
        asked = ac.prompts(self.shape, count, length)
        if shared:
            asked = [(*asked[i - i % 24][:shared], *prompt[shared:]) for i, prompt in enumerate(asked)]
        engine = Engine(self.spec, self.base, self.mesh, programs=self.programs)
        seconds = least_seconds(lambda: engine.next_token_logprobs(asked, [(5, 6)] * count), 2)
        whole, groups = self.shape.prompt_flops(count, length), -(-count // 24)
        saved = self.shape.prompt_flops(count - groups, shared) if shared else 0.0
        return count, seconds, (whole - saved) / self.flops


def adapter_of(spec: Any, seed: int) -> Adapter:
    """An adapter whose B is not zero."""
    adapter = init_adapter(spec, LoraConfig(**LORA), jax.random.key(seed))
    fill = partial(jax.random.normal, jax.random.key(100 + seed))
    params = {name: {"a": pair["a"], "b": 0.01 * fill(pair["b"].shape)} for name, pair in adapter.params.items()}
    return Adapter(params, adapter.scale)


def _random(number: int, shape: tuple[int, ...], name: str) -> jax.Array:
    if name == "scale":
        return jnp.ones(shape, jnp.bfloat16)
    if name == "bias":
        return jnp.zeros(shape, jnp.bfloat16)
    return _normal(shape)(jax.random.key(number))


@lru_cache(maxsize=64)
def _normal(shape: tuple[int, ...]) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda key: (0.02 * jax.random.normal(key, shape, jnp.bfloat16)).astype(jnp.bfloat16))


def main() -> int:
    """Check, then measure; exit code 3 if a check fails, before anything is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    out, sys.stdout = sys.stdout, sys.stderr

    def say(**line: Any) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    start_jax()
    device = jax.devices()[0]
    say(device=device.device_kind, jax=jax.__version__, python=sys.version.split()[0])
    problems = check_all(lambda name, value, limit: say(check=name, value=value, limit=limit))
    if problems:
        return 3
    ours = Ours(ac.Shape.read(args.model, args.tiny))
    say(matrix_tflops=ours.flops / 1e12, copy_tb_s=ours.bandwidth / 1e12)
    for name in args.cases:
        try:
            amount, seconds, floor = ours.measure(name)
        except Exception as error:  # noqa: BLE001 - a case that fails leaves the others
            say(case=name, error=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")
            continue
        stats = device.memory_stats() or {}
        peak = stats.get("peak_bytes_in_use")
        say(case=name, rate=amount / seconds, share=floor / seconds, peak_gb=peak and peak / 1e9)
    return 0


if __name__ == "__main__":
    sys.exit(main())
