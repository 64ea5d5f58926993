"""The contestant sgtr-jax in sampling: the engine as `sgtr sample` and the evaluations call it."""

from __future__ import annotations

import time
from collections.abc import Callable

import cases
import jax
import numpy as np
import sample_cases
from contest import serve

from sgtr_jax.distributed.launch import start_jax
from sgtr_jax.distributed.mesh import make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.lora.adapter import Adapter, init_adapter
from sgtr_jax.lora.config import LoraConfig
from sgtr_jax.models.decoder import init_params
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.models.layer_loop import layers_apart
from sgtr_jax.sample.decode import DecodePrograms
from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.request import Request


class Ours:
    """Holds the base and five adapters."""

    def __init__(self) -> None:
        start_jax()
        self.spec = spec_from_config(cases.MODEL, "benchmark")
        self.mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        self.base = layers_apart(init_params(self.spec, 0))  # as they are loaded for sampling
        self.programs = DecodePrograms(self.spec, self.mesh)
        config, rng = LoraConfig(**cases.LORA), np.random.default_rng(0)
        self.adapters: dict[str, tuple[Adapter, ...]] = {}
        for i in range(5):
            adapter = init_adapter(self.spec, config, jax.random.key(i))
            params = {n: {"a": p["a"], "b": 0.01 * rng.standard_normal(p["b"].shape).astype(np.float32)}
                      for n, p in adapter.params.items()}  # fmt: skip
            self.adapters[f"chain{i}"] = (Adapter(jax.device_put(params), adapter.scale),)

    def measure(self, name: str) -> float:
        """Seconds. Names beside the cases: `refill` and `no_refill`, `together` and `in_turn`, `shared`, `unshared`."""
        if name in sample_cases.CASES:
            work = self._case(sample_cases.CASES[name])
        else:
            work = getattr(self, f"_{name}")
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    def _engine(self, **settings: object) -> Engine:
        return Engine(self.spec, self.base, self.mesh, programs=self.programs, **settings)  # type: ignore[arg-type]

    def _case(self, case: sample_cases.Case) -> Callable[[], object]:
        prompts = sample_cases.prompts_of(case)
        engine = self._engine()
        if case.new == 0:
            return lambda: engine.next_token_logprobs(prompts, [(5, 6)] * len(prompts))
        rows = [Request(f"p{i}", tuple(p), case.new, 1.0 if case.samples > 1 else 0.0, 0, n)
                for i, p in enumerate(prompts) for n in range(case.samples)]  # fmt: skip
        return lambda: engine.sample(rows)

    def _queue(self) -> list[Request]:
        rng = np.random.default_rng(2)
        prompt = tuple(range(5, 25))
        return [Request("p", prompt, int(n), 1.0, 0, i) for i, n in enumerate(rng.integers(4, 129, 256))]

    def _refill(self) -> None:
        self._engine(batch_rows=64).sample(self._queue())

    def _no_refill(self) -> None:
        """The same rows in batches of 64 as they come, each as long as its longest row."""
        rows, engine = self._queue(), self._engine(batch_rows=64)
        for at in range(0, len(rows), 64):
            engine.sample(rows[at : at + 64])

    def _rows(self, chain: str) -> list[Request]:
        return [Request(f"p{i}", tuple(range(5, 37)), 64, 1.0, 0, i, chain) for i in range(32)]

    def _together(self) -> None:
        engine = Engine(self.spec, self.base, self.mesh, self.adapters, programs=self.programs)
        engine.sample([row for name in self.adapters for row in self._rows(name)])

    def _in_turn(self) -> None:
        for name, chain in self.adapters.items():
            Engine(self.spec, self.base, self.mesh, {name: chain}, programs=self.programs).sample(self._rows(name))

    def _few_shot(self) -> list[list[int]]:
        """As MMLU's: blocks of 700 tokens, each before 24 questions of about 80."""
        rng = np.random.default_rng(3)
        blocks = [rng.integers(1, 32000, 700).tolist() for _ in range(4)]
        return [[*block, *rng.integers(1, 32000, int(rng.integers(60, 100)))] for block in blocks for _ in range(24)]

    def _shared(self) -> None:
        prompts = self._few_shot()
        self._engine().next_token_logprobs(prompts, [(5, 6, 7, 8)] * len(prompts))

    def _unshared(self) -> None:
        prompts = self._few_shot()
        self._engine(share_prefixes=False).next_token_logprobs(prompts, [(5, 6, 7, 8)] * len(prompts))


if __name__ == "__main__":
    serve(Ours().measure)
