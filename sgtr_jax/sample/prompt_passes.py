"""Forward passes over prompts: whose caches fill slots of the sampler, or for log-probabilities alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32, Int32

from sgtr_jax.arrays import Params
from sgtr_jax.data.packing import bucket
from sgtr_jax.distributed.mesh import data_sharding, data_size, put
from sgtr_jax.lora.adapter import Chain
from sgtr_jax.models.attention_choice import attention_for
from sgtr_jax.models.decoder import bind
from sgtr_jax.models.flash import FLASH_LENGTH
from sgtr_jax.models.kv_cache import KVCache
from sgtr_jax.models.residual import ResidualEdits
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.decode import Prompts
from sgtr_jax.sample.prefill import PrefillBatch, Tokens, extend, plan_batches, prefill
from sgtr_jax.sample.steering import Steered

# Padded tokens of one pass. More would not be faster, and takes memory that the cache wants.
_MAX_TOKENS = 8192


@dataclass(frozen=True, eq=False)
class PrefilledBatch:
    """Prompts that were prefilled together."""

    prompts: Prompts[np.ndarray]


class PromptPasses:
    """Forward passes of one base model. `share_prefixes`: whether long common beginnings are run once."""

    def __init__(self, spec: ModelSpec, params: Params, mesh: Mesh, share_prefixes: bool) -> None:
        self._spec, self._params, self._mesh, self._share = spec, params, mesh, share_prefixes
        self._kind = attention_for(mesh.devices.flat[0].platform)

    def prefill(
        self, chain: Chain, prompts: Sequence[Tokens], steering: Steered = None
    ) -> list[tuple[PrefilledBatch, int]]:
        """For each prompt where its keys, values and last hidden state are: (pass, row)."""
        where: dict[int, tuple[PrefilledBatch, int]] = {}
        for batch in plan_batches(prompts, _MAX_TOKENS, self._share):
            run = self._run(chain, batch, steering)
            last = _take_last(run.hidden, run.lengths)
            filled = PrefilledBatch(
                Prompts(run.cache, last, run.whole_lengths, run.prefix_lengths, np.asarray(run.rest, np.int32))
            )
            where.update({i: (filled, row) for row, i in enumerate(batch.rows)})
        return [where[i] for i in range(len(prompts))]

    def next_token_logprobs(
        self, chain: Chain, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]],
        steering: Steered = None,
    ) -> list[np.ndarray]:  # fmt: skip
        """See `Engine.next_token_logprobs`."""
        width = _power_of_two(max(map(len, options), default=1))

        def ask(run: _Run, batch: PrefillBatch) -> np.ndarray:
            ids = np.zeros((run.lengths.shape[0], width), np.int32)
            for row, i in enumerate(batch.rows):
                ids[row, : len(options[i])] = options[i]
            return self._host(_option_logprobs, run, ids)

        return self._score(chain, [tuple(p) for p in prompts], ask, [len(o) for o in options], steering)

    def score(
        self, chain: Chain, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]],
        steering: Steered = None,
    ) -> list[np.ndarray]:  # fmt: skip
        """See `Engine.score`."""
        width = max(map(len, continuations), default=1)

        def ask(run: _Run, batch: PrefillBatch) -> np.ndarray:
            rows = run.lengths.shape[0]
            positions, ids = np.zeros((rows, width), np.int32), np.zeros((rows, width), np.int32)
            for row, i in enumerate(batch.rows):
                n = len(continuations[i])
                # The state before a token predicts it; the whole row without its last token was run.
                positions[row, :n] = int(run.lengths[row]) - n + np.arange(n)
                ids[row, :n] = continuations[i]
            return self._host(_continuation_logprobs, run, positions, ids)

        whole = [(*p, *c[:-1]) for p, c in zip(prompts, continuations, strict=True)]
        sizes = [len(c) for c in continuations]
        return self._score(chain, whole, ask, sizes, steering, sizes)

    def _score(
        self,
        chain: Chain,
        prompts: Sequence[Tokens],
        ask: Callable[[_Run, PrefillBatch], np.ndarray],
        sizes: Sequence[int],
        steering: Steered,
        tails: Sequence[int] | None = None,
    ) -> list[np.ndarray]:
        """`tails[i]`: how many of the last hidden states of row i are asked for; they are never in a prefix."""
        found: dict[int, np.ndarray] = {}
        for batch in plan_batches(prompts, _MAX_TOKENS, self._share, tails):
            values = ask(self._run(chain, batch, steering), batch)
            found.update({i: values[row, : sizes[i]] for row, i in enumerate(batch.rows)})
        return [found[i] for i in range(len(prompts))]

    def _run(self, chain: Chain, batch: PrefillBatch, steering: Steered) -> _Run:
        edits: ResidualEdits | None = None if steering is None else steering.edits(self._spec.num_layers)
        with jax.set_mesh(self._mesh):
            rests, lengths = self._padded(batch.rests)
            args = (self._params, chain)
            if not batch.prefixes:
                cache, hidden = prefill(
                    *args, self._put(rests), self._put(lengths), edits, spec=self._spec, attention=self._kind
                )
                return _Run(cache, hidden, lengths, lengths, np.zeros_like(lengths), 0)
            prefixes, prefix_lengths = self._padded(batch.prefixes)
            begun, _ = prefill(
                *args, self._put(prefixes), self._put(prefix_lengths), edits, spec=self._spec, attention=self._kind
            )
            which = np.zeros(len(lengths), np.int32)
            which[: len(batch.which)] = batch.which
            cache, hidden = extend(
                *args, begun, put(prefix_lengths, _whole(self._mesh)), self._put(which), self._put(rests),
                self._put(lengths), edits, spec=self._spec,
            )  # fmt: skip
            own = prefix_lengths[which]
            return _Run(cache, hidden, lengths, own + lengths, own, prefixes.shape[1])

    def _padded(self, prompts: Sequence[Tokens]) -> tuple[np.ndarray, np.ndarray]:
        """Prompts as `[B, T]` and their lengths; B and T are rounded up so that few programs are compiled."""
        multiple = data_size(self._mesh)
        B = -(-bucket(len(prompts)) // multiple) * multiple
        T = max(16, bucket(max(map(len, prompts))))
        if T > 128:
            step = FLASH_LENGTH if self._kind == "flash" and T > 256 else 32
            T = -(-T // step) * step
        tokens, lengths = np.zeros((B, T), np.int32), np.ones(B, np.int32)
        for i, prompt in enumerate(prompts):
            tokens[i, : len(prompt)], lengths[i] = prompt, len(prompt)
        return tokens, lengths

    def _put(self, array: np.ndarray) -> jax.Array:
        return put(array, data_sharding(self._mesh))

    def _host(self, ask: Callable[..., jax.Array], run: _Run, *arrays: np.ndarray) -> np.ndarray:
        with jax.set_mesh(self._mesh):
            found = ask(self._params, run.hidden, self._put(run.lengths), *map(self._put, arrays), spec=self._spec)
        return np.asarray(found)


@dataclass(frozen=True, eq=False)
class _Run:
    """A pass over a batch: B rows of T tokens behind prefixes (in `rest` slots of the cache)."""

    cache: KVCache
    hidden: jax.Array  # [B, T, D]
    lengths: np.ndarray  # int32 [B], of what was run behind the prefix
    whole_lengths: np.ndarray  # int32 [B]
    prefix_lengths: np.ndarray  # int32 [B]
    rest: int


def _whole(mesh: Mesh) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def _power_of_two(size: int) -> int:
    return 1 << max(0, (size - 1).bit_length())


@jax.jit
def _take_last(hidden: Float[Array, "B T D"], lengths: Int32[Array, " B"]) -> Float[Array, "B D"]:
    return jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]


@partial(jax.jit, static_argnames="spec")
def _option_logprobs(
    params: Params,
    hidden: Float[Array, "B T D"],
    lengths: Int32[Array, " B"],
    ids: Int32[Array, "B options"],
    *,
    spec: ModelSpec,
) -> Float32[Array, "B options"]:
    """Log-probabilities of `ids` after each row; only its last state meets the head."""
    logits = bind(spec, params).logits(_take_last(hidden, lengths))
    found = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), ids, axis=1)
    return _on_every_device(found)


@partial(jax.jit, static_argnames="spec")
def _continuation_logprobs(
    params: Params,
    hidden: Float[Array, "B T D"],
    lengths: Int32[Array, " B"],
    positions: Int32[Array, "B P"],
    ids: Int32[Array, "B P"],
    *,
    spec: ModelSpec,
) -> Float32[Array, "B P"]:
    """Log-probabilities of `ids` predicted from `positions`, one column at a time."""
    decoder = bind(spec, params)

    def column(column: tuple[jax.Array, jax.Array]) -> jax.Array:
        position, wanted = column
        state = jnp.take_along_axis(hidden, position[:, None, None], axis=1)[:, 0]
        every = jax.nn.log_softmax(decoder.logits(state), axis=-1)
        return jnp.take_along_axis(every, wanted[:, None], axis=1)[:, 0]

    return _on_every_device(jax.lax.map(column, (positions.T, ids.T)).T)


def _on_every_device(x: jax.Array) -> jax.Array:
    """Whole everywhere, so that each process of a job can read it."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    whole: jax.Array = jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec())
    return whole


@partial(jax.jit, static_argnames=("spec",))
def all_logits(
    params: Params, chain: Chain, tokens: Int32[Array, "B T"], mask: Bool[Array, "B T"], *, spec: ModelSpec
) -> Float32[Array, "B T V"]:
    """Logits at every position. `mask` marks real tokens, padded on either side.

    Positions count real tokens only, as `transformers` does when `position_ids` follow the attention mask.
    """
    decoder = bind(spec, params)
    positions = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
    return decoder.logits(decoder.forward(tokens, positions, mask.astype(jnp.int32), chain=chain))
