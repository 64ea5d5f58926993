"""The sampling engine: requests for one base model and many adapter chains in, completions out, in order.

Rows of all chains share a batch. A row that is done leaves its slot to one that waits, so that no batch waits for
its slowest row. What happens next is decided on the host from gathered values alone, the same in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sgtr_jax.arrays import Params
from sgtr_jax.distributed.memory import peak_bytes, usable_memory
from sgtr_jax.distributed.mesh import SAMPLING, data_size, put, shardings
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.lora.adapter import Adapter, Chain
from sgtr_jax.lora.transforms import align
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.decode import DecodeProgram, DecodePrograms, DecodeShape
from sgtr_jax.sample.prompt_passes import PrefilledBatch, PromptPasses
from sgtr_jax.sample.request import Completion, Request
from sgtr_jax.sample.rows import RowReader
from sgtr_jax.sample.slots import SlotScheduler
from sgtr_jax.sample.steering import Steered, SteeringTable

MAX_PLACES = 256
_MAX_CHAINS = 8  # at once; each has adapters in memory for its own slots
_TOKENS_PER_CALL = 32
_REFILL_SHARE = 1 / 8  # of the slots: so many rows done are replaced together

_Prompt = tuple[str, Steered, tuple[int, ...]]  # chain, what is done to its tokens, tokens
OnDone = Callable[[int, Completion], None]


class Engine:
    """One base model under any number of adapter chains, by name; "base", without adapters, if none are given."""

    def __init__(
        self,
        spec: ModelSpec,
        params: Params,
        mesh: Mesh,
        chains: Mapping[str, Sequence[Adapter]] | None = None,
        *,
        decode: Callable[[Sequence[int]], str] | None = None,
        decode_whole: Callable[[Sequence[int]], str] | None = None,
        batch_rows: int | None = None,
        share_prefixes: bool = True,
        programs: DecodePrograms | None = None,
        steering: Steered = None,
    ) -> None:
        """`decode` turns ids into text, which stop texts need, and `decode_whole` into text with special tokens, which
        stop texts may name; None for the same. `batch_rows`: None for as many as memory holds. `steering` is done to
        all that is sampled or scored, but for requests with their own.
        """
        self.spec, self.params, self.mesh = spec, params, mesh
        named = dict(chains) if chains else {"base": ()}
        joined = dict(zip(named, align([tuple(chain) for chain in named.values()]), strict=True))
        self._chains: dict[str, Chain] = joined
        self._decode, self._batch_rows, self._steering = decode, batch_rows, steering
        self._decode_whole = decode_whole or decode
        self._programs = programs or DecodePrograms(spec, mesh)
        self._forward = PromptPasses(spec, params, mesh, share_prefixes)

    def sample(
        self, requests: Sequence[Request], stop_ids: Sequence[int] = (), on_done: OnDone | None = None
    ) -> list[Completion]:
        """Sample every request; results in the order of `requests`.

        `stop_ids` end every row, besides those of its request. `on_done(i, completion)` is called as soon as
        request i is done. Raises InputError for a request that cannot be honoured.
        """
        if self._steering is not None:
            requests = [one if one.steering else replace(one, steering=self._steering) for one in requests]
        chain_of = [self._chain_name(request.chain) for request in requests]
        for request in requests:
            request.check(self.spec.vocab_size, self.spec.max_positions)
            if request.stop and self._decode is None:
                raise InputError(f"{request.prompt_id}: stop texts need a tokenizer, and the engine was given none")
        results: list[Completion | None] = [None] * len(requests)

        def done(index: int, completion: Completion) -> None:
            results[index] = completion
            if on_done is not None:
                on_done(index, completion)

        for pool in self._pools(requests):
            self._sample_pool(requests, chain_of, pool, tuple(stop_ids), done)
        return [result for result in results if result is not None]

    def next_token_logprobs(
        self, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]], chain: str | None = None
    ) -> list[np.ndarray]:
        """Log-probability of each of `options[i]` (token ids) as the token after prompt i, float32 `[len]` each."""
        name = self._chain_name(chain)
        self._check_prompts(prompts, [1] * len(prompts))
        steering = None if self._steering is None else self._steering.of_prompt()
        return self._forward.next_token_logprobs(self._chains[name], prompts, options, steering)

    def score(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], chain: str | None = None
    ) -> list[np.ndarray]:
        """Log-probability of each token of continuation i after prompt i, float32 `[len(continuation)]` each.

        Raises InputError where the engine steers answers only: a continuation is run in one pass with its prompt.
        """
        name = self._chain_name(chain)
        if self._steering is not None and self._steering.at_answer:
            raise InputError("steer.at is answer, with which continuations cannot be scored; expected all")
        self._check_prompts(prompts, list(map(len, continuations)))
        return self._forward.score(self._chains[name], prompts, continuations, self._steering)

    def _chain_name(self, name: str | None) -> str:
        if name is None and len(self._chains) == 1:
            return next(iter(self._chains))
        if name not in self._chains:
            raise InputError(f"chain {name!r}: the engine has {', '.join(self._chains)}")
        return name

    def _check_prompts(self, prompts: Sequence[Sequence[int]], more: Sequence[int]) -> None:
        for i, (prompt, extra) in enumerate(zip(prompts, more, strict=True)):
            if not extra:
                raise InputError(f"prompt {i}: an empty continuation has no score")
            Request(f"prompt {i}", tuple(prompt), extra).check(self.spec.vocab_size, self.spec.max_positions)

    def _pools(self, requests: Sequence[Request]) -> list[list[int]]:
        """Requests that share a batch: those of like length, unless they are too few to fill one."""
        cap = self._batch_rows or MAX_PLACES
        by_size: dict[int, list[int]] = {}
        for i, request in enumerate(requests):
            by_size.setdefault(_power_of_two(_cache_slots(request)), []).append(i)
        pools: list[list[int]] = []
        for size in sorted(by_size, reverse=True):
            if pools and (len(pools[-1]) < cap or len(by_size[size]) < cap // 2):
                pools[-1] += by_size[size]
            else:
                pools.append(by_size[size])
        return pools

    def _sample_pool(
        self, requests: Sequence[Request], chain_of: Sequence[str], pool: list[int], stop_ids: tuple[int, ...],
        done: OnDone,
    ) -> None:  # fmt: skip
        waiting: dict[str, list[int]] = {}
        # Long rows first, so that the last ones to end are short; samples of a prompt stay side by side.
        for i in sorted(pool, key=lambda i: (-requests[i].max_tokens, -len(requests[i].tokens), requests[i].tokens, i)):
            waiting.setdefault(chain_of[i], []).append(i)
        groups = min(len(waiting), _MAX_CHAINS)
        most = max(map(len, waiting.values()))
        program, shape, adapters = self._program(
            [requests[i] for i in pool], groups, most, len(stop_ids), next(iter(waiting))
        )
        slots = SlotScheduler(waiting, groups, shape.slots // groups)
        table = _table([requests[i] for i in pool], self.spec.hidden_size)
        reader = RowReader(requests, chain_of, shape, stop_ids, self._decode, self._decode_whole, table)
        state = program.empty()
        filled = PrefillCache(self._forward, self._chains)
        while True:
            if slots.assign() and groups > 1:
                adapters = self._concatenated([self._chains[name] for name in slots.chains])
            entering = slots.fill()
            wanted = {b: _prompt_of(chain_of[i], requests[i]) for b, i in entering.items()}
            for batch, source in filled.sources(wanted, shape.slots):
                state = program.insert(state, batch.prompts, source)
            for b, i in entering.items():
                reader.enter(b, i)
            if not slots.busy:
                break
            filled.keep({_prompt_of(chain_of[i], requests[i]) for i in slots.waiting()})
            refill_threshold = max(1, int(_REFILL_SHARE * shape.slots)) if slots.any_waiting else shape.slots + 1
            vectors = None if table is None else table.vectors
            state, step = program(self.params, adapters, state, reader.rows, refill_threshold, vectors)
            for b, i, completion in reader.read(step, slots.rows):
                slots.free(b)
                done(i, completion)

    def _program(
        self, requests: Sequence[Request], groups: int, most: int, stops: int, first: str
    ) -> tuple[DecodeProgram, DecodeShape, Chain]:
        """The decode program for these requests with as many slots as are needed and memory holds."""
        multiple = groups * data_size(self.mesh)
        needed = groups * _batch_slots(most)
        wanted = min(-(-needed // multiple) * multiple, self._max_slots(multiple))
        adapters = self._concatenated([self._chains[first]] * groups) if groups > 1 else self._chains[first]
        longest = max(_cache_slots(request) for request in requests)
        table = _table(requests, self.spec.hidden_size)
        cache_slots = whole_cache_slots(longest)
        own_stops = max(len(request.stop_ids) for request in requests)
        limit = usable_memory(list(self.mesh.devices.flat))
        while True:
            shape = DecodeShape(
                slots=wanted,
                cache_slots=cache_slots,
                stop_ids=max(4, -(-(stops + own_stops) // 4) * 4),
                tokens=min(_TOKENS_PER_CALL, _power_of_two(max(request.max_tokens for request in requests))),
                draws=any(request.temperature > 0 for request in requests),
                truncates=any(request.top_p < 1 or request.top_k > 0 for request in requests),
                top_logprobs=_top_logprobs([request.logprobs for request in requests]),
                vectors=0 if table is None else len(table.vectors),
            )
            try:
                program = self._programs.get(self.params, adapters, shape)
                if limit is None or peak_bytes(program.compiled) <= limit:
                    return program, shape, adapters
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
            if wanted == multiple:
                raise RunError(
                    f"sampling {wanted} rows of {cache_slots} tokens does not fit into the memory of a device; "
                    "lower max_tokens, use dtype=bfloat16, or spread the model over more devices with mesh.tensor"
                )
            wanted = max(multiple, wanted // 2 // multiple * multiple)

    def _max_slots(self, multiple: int) -> int:
        cap = self._batch_rows or MAX_PLACES
        return max(multiple, cap // multiple * multiple if self._batch_rows is None else -(-cap // multiple) * multiple)

    def _concatenated(self, chains: Sequence[Chain]) -> Chain:
        """Chains (each of at most one adapter, all alike) as one with an axis of chains: `[L, C, r, ...]`."""
        if not chains[0]:
            return ()
        links = [chain[0] for chain in chains]
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *[link.params for link in links])
        alone = shardings(links[0].params, self.mesh, SAMPLING)
        placed = jax.tree.map(
            lambda leaf, sharding: jax.device_put(
                leaf, jax.sharding.NamedSharding(self.mesh, _with_axis(sharding.spec))
            ),
            params,
            alone,
        )
        scale = np.asarray([float(link.scale) for link in links], np.float32)
        return (Adapter(placed, put(scale, jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec()))),)


class PrefillCache:
    """Prompts of (chain, steering, tokens) that have been run, kept while a row of them waits."""

    def __init__(self, forward: PromptPasses, chains: Mapping[str, Chain]) -> None:
        self._forward, self._chains = forward, chains
        self._where: dict[_Prompt, tuple[PrefilledBatch, int]] = {}

    def sources(self, wanted: Mapping[int, _Prompt], slots: int) -> Iterator[tuple[PrefilledBatch, np.ndarray]]:
        """For each pass that holds some of the wanted prompts, which of its rows goes to each slot, or -1."""
        missing: dict[tuple[str, Steered], dict[tuple[int, ...], None]] = {}
        for name, steering, tokens in wanted.values():
            if (name, steering, tokens) not in self._where:
                missing.setdefault((name, steering), {})[tokens] = None
        for (name, steering), prompts in missing.items():
            made = self._forward.prefill(self._chains[name], list(prompts), steering)
            self._where.update({(name, steering, tokens): at for tokens, at in zip(prompts, made, strict=True)})
        sources: dict[PrefilledBatch, np.ndarray] = {}
        for slot, prompt in wanted.items():
            batch, row = self._where[prompt]
            sources.setdefault(batch, np.full(slots, -1))[slot] = row
        yield from sources.items()

    def keep(self, waiting: Set[_Prompt]) -> None:
        """Let go of all others."""
        self._where = {prompt: at for prompt, at in self._where.items() if prompt in waiting}


def _prompt_of(chain: str, request: Request) -> _Prompt:
    return chain, None if request.steering is None else request.steering.of_prompt(), request.tokens


def _table(requests: Sequence[Request], width: int) -> SteeringTable | None:
    """What the rows are steered by; None where none is."""
    steered = [request.steering for request in requests]
    return SteeringTable(steered, width) if any(one is not None for one in steered) else None


def _with_axis(spec: jax.sharding.PartitionSpec) -> jax.sharding.PartitionSpec:
    return jax.sharding.PartitionSpec(spec[0], None, *spec[1:])


def _top_logprobs(wanted: Sequence[int | None]) -> int | None:
    """How many likeliest tokens to report, rounded up to a power of two; None if nobody wants log-probabilities."""
    numbers = [number for number in wanted if number is not None]
    if not numbers:
        return None
    return _power_of_two(max(numbers)) if max(numbers) else 0


def _cache_slots(request: Request) -> int:
    return len(request.tokens) + request.max_tokens


def _batch_slots(rows: int) -> int:
    """Slots for so many rows of a chain: a power of two up to 32, then a multiple of 8."""
    return _power_of_two(rows) if rows <= 32 else -(-rows // 8) * 8


def whole_cache_slots(tokens: int) -> int:
    """Slots of the cache for rows of so many tokens: a power of two up to 128, then a multiple of 64.

    Every token reads all slots, and every number of them is a program.
    """
    return _power_of_two(tokens) if tokens <= 128 else -(-tokens // 64) * 64


def _power_of_two(size: int) -> int:
    return 1 << max(0, (size - 1).bit_length())
