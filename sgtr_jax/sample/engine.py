"""The sampling engine: requests in, completions out, in order, batched by prompt length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sgtr_jax.data.packing import bucket
from sgtr_jax.errors import InputError
from sgtr_jax.lora import concatenate
from sgtr_jax.mesh import data_sharding
from sgtr_jax.models.decoder import Params
from sgtr_jax.models.layers import Adapter
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.draw import row_key_data
from sgtr_jax.sample.generate import generate
from sgtr_jax.sample.score import next_token_logprobs


@dataclass(frozen=True)
class Request:
    """One row to sample. (prompt_id, sample) with the engine's chain and the seed decides the draw."""

    prompt_id: str
    tokens: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    sample: int = 0


@dataclass(frozen=True)
class Completion:
    """Generated ids without the stop token; `finish` is "stop" or "length"."""

    tokens: tuple[int, ...]
    finish: str


class Engine:
    """One base model under one adapter chain. Several engines may share the base's parameters.

    `chain_id` names the chain in the draws ("base" for none).
    """

    def __init__(
        self,
        spec: ModelSpec,
        params: Params,
        mesh: Mesh,
        chain: Sequence[Adapter] = (),
        chain_id: str = "base",
        batch_rows: int = 64,
    ) -> None:
        self.spec, self.params, self.mesh, self.chain_id = spec, params, mesh, chain_id
        self.chain = concatenate(chain)
        data = mesh.shape["replica"] * mesh.shape["fsdp"]
        self.batch_rows = -(-batch_rows // data) * data
        self._row_multiple = data

    def sample(
        self,
        requests: Sequence[Request],
        stop_ids: Sequence[int],
        on_done: Callable[[int, int], None] | None = None,
    ) -> list[Completion]:
        """Sample every request; results in the order of `requests`.

        `on_done(rows, tokens)` is called after each batch. Raises InputError for a prompt that is empty or too
        long for the model.
        """
        for request in requests:
            self._check(request.tokens, request.max_tokens, request.prompt_id)
        results: list[Completion | None] = [None] * len(requests)
        for rows in self._batches([(len(r.tokens), r.max_tokens) for r in requests]):
            batch = [requests[i] for i in rows]
            ids, counts = self._generate(batch, stop_ids)
            for i, request, row, count in zip(rows, batch, ids, counts, strict=False):
                tokens = tuple(int(token) for token in row[:count])
                stopped = bool(tokens) and tokens[-1] in stop_ids
                results[i] = Completion(tokens[:-1] if stopped else tokens, "stop" if stopped else "length")
                assert stopped or count == request.max_tokens
            if on_done is not None:
                on_done(len(rows), int(counts[: len(rows)].sum()))
        return [result for result in results if result is not None]

    def next_token_logprobs(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Log-probabilities float32 `[len(prompts), V]` of the token after each prompt."""
        for i, prompt in enumerate(prompts):
            self._check(prompt, 1, f"prompt {i}")
        out = np.empty((len(prompts), self.spec.vocab_size), np.float32)
        for rows in self._batches([(len(prompt), 0) for prompt in prompts]):
            tokens, lengths = self._pad([prompts[i] for i in rows])
            with jax.set_mesh(self.mesh):
                scored = next_token_logprobs(self.params, self.chain, tokens, lengths, spec=self.spec)
            out[rows] = np.asarray(scored)[: len(rows)]
        return out

    def _check(self, tokens: Sequence[int], max_tokens: int, name: str) -> None:
        if not tokens:
            raise InputError(f"{name}: the prompt has no tokens")
        if len(tokens) + max_tokens > self.spec.max_positions:
            raise InputError(
                f"{name}: {len(tokens)} prompt tokens and {max_tokens} to generate exceed the model's "
                f"{self.spec.max_positions} positions"
            )

    def _batches(self, sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Row indices of each batch: rows of like prompt length together, longest first."""
        order = sorted(range(len(sizes)), key=lambda i: (-sizes[i][0], -sizes[i][1], i))
        return [order[at : at + self.batch_rows] for at in range(0, len(order), self.batch_rows)]

    def _pad(self, prompts: Sequence[Sequence[int]]) -> tuple[jax.Array, jax.Array]:
        """Prompts as `[B, T]` and their lengths; B and T are rounded up so that few programs are compiled."""
        rows = min(self.batch_rows, _power_of_two(len(prompts)))
        B = -(-rows // self._row_multiple) * self._row_multiple
        T = min(self.spec.max_positions, max(16, bucket(max(map(len, prompts)))))
        tokens = np.zeros((B, T), np.int32)
        lengths = np.ones(B, np.int32)
        for i, prompt in enumerate(prompts):
            tokens[i, : len(prompt)] = prompt
            lengths[i] = len(prompt)
        sharding = data_sharding(self.mesh)
        return jax.device_put(tokens, sharding), jax.device_put(lengths, sharding)

    def _generate(self, batch: Sequence[Request], stop_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        tokens, lengths = self._pad([request.tokens for request in batch])
        B = tokens.shape[0]
        keys = np.zeros((B, 2), np.uint32)
        temperature, budgets = np.zeros(B, np.float32), np.zeros(B, np.int32)
        for i, request in enumerate(batch):
            keys[i] = row_key_data(request.seed, self.chain_id, request.prompt_id, request.sample)
            temperature[i], budgets[i] = request.temperature, request.max_tokens
        # The number of stop ids is a shape; pad it so that one program serves 0 to 4 of them.
        stops = np.full(-(-max(1, len(stop_ids)) // 4) * 4, -1, np.int32)
        stops[: len(stop_ids)] = stop_ids
        place: Any = lambda x: jax.device_put(x, data_sharding(self.mesh))  # noqa: E731
        with jax.set_mesh(self.mesh):
            out, count = generate(
                self.params,
                self.chain,
                tokens,
                lengths,
                place(keys),
                place(temperature),
                place(budgets),
                jnp.asarray(stops),
                spec=self.spec,
                max_tokens=bucket(int(budgets.max())),
            )
        return np.asarray(out), np.asarray(count)


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
