"""Running prompts through the model, once for all samples, and once per long prefix that prompts share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from sgtr_jax.arrays import Params
from sgtr_jax.data.packing import bucket
from sgtr_jax.lora.adapter import Chain
from sgtr_jax.models.attention import AttentionKind
from sgtr_jax.models.decoder import bind
from sgtr_jax.models.kv_cache import KVCache
from sgtr_jax.models.residual import ResidualEdits
from sgtr_jax.models.spec import ModelSpec

Tokens = tuple[int, ...]

# A prefix must be at least this long, and sharing must save this share of all tokens. Below, a second program and
# the attention over a padded prefix cost what the saved tokens were worth (`benchmarks/sample.py --case prefixes`).
_LEAST_PREFIX = 48
_LEAST_SAVING = 0.25


@partial(jax.jit, static_argnames=("spec", "attention"))
def prefill(
    params: Params,
    chain: Chain,
    tokens: Int32[Array, "B T"],
    lengths: Int32[Array, " B"],
    edits: ResidualEdits | None = None,
    *,
    spec: ModelSpec,
    attention: AttentionKind,
) -> tuple[KVCache, Float[Array, "B T D"]]:
    """Keys and values of prompts, and every token's hidden state.

    `tokens` are padded on the right. The cache has T slots.
    """
    offsets = jnp.arange(tokens.shape[1])[None, :]
    real = offsets < lengths[:, None]
    hidden, cache = bind(spec, params).prefill(
        tokens, jnp.where(real, offsets, 0), real.astype(jnp.int32), chain=chain, attention=attention, edits=edits
    )
    return cache, hidden


@partial(jax.jit, static_argnames=("spec",))
def extend(
    params: Params,
    chain: Chain,
    prefixes: KVCache,
    prefix_lengths: Int32[Array, " prefixes"],
    which: Int32[Array, " B"],
    tokens: Int32[Array, "B T"],
    lengths: Int32[Array, " B"],
    edits: ResidualEdits | None = None,
    *,
    spec: ModelSpec,
) -> tuple[KVCache, Float[Array, "B T D"]]:
    """Prefill prompts whose beginnings have been: prompt p is prefix `which[p]` and then `tokens[p]`.

    `prefixes` holds a row of S slots for each; `tokens` and `lengths` are of the rest. Returns a cache of S + T
    slots and hidden states.
    """
    T = tokens.shape[1]

    def longer(before: jax.Array) -> jax.Array:
        """Keys or values `[..., prefixes, K, S, H]` of each prompt's prefix, with T empty slots."""
        chosen = jnp.take(before, which, axis=-4)
        return jnp.pad(chosen, [(0, 0)] * (chosen.ndim - 2) + [(0, T), (0, 0)])

    S = prefixes.positions.shape[1]
    cache = KVCache(
        jax.tree.map(longer, prefixes.keys),
        jax.tree.map(longer, prefixes.values),
        jnp.pad(prefixes.positions[which], ((0, 0), (0, T))),
        # Padding of a prefix has segment 0, which padded queries may see; -1 is seen by none.
        jnp.pad(prefixes.segments[which], ((0, 0), (0, T)), constant_values=-1),
        jnp.int32(S),
    )
    offsets = jnp.arange(T)[None, :]
    real = offsets < lengths[:, None]
    positions = jnp.where(real, prefix_lengths[which][:, None] + offsets, 0)
    segments = real.astype(jnp.int32)
    hidden, filled = bind(spec, params).decode_step(tokens, positions, segments, cache, chain=chain, edits=edits)
    # Whole again from slot 0, not a ring that is about to be written on.
    return replace(filled, used=jnp.int32(S + T)), hidden


@dataclass(frozen=True)
class PrefillBatch:
    """Prompts to run together: `rows` are their numbers; row i is prefix `which[i]` and then `rests[i]`."""

    rows: tuple[int, ...]
    prefixes: tuple[Tokens, ...]  # none: the rests are whole prompts
    which: tuple[int, ...]
    rests: tuple[Tokens, ...]


def plan_batches(
    prompts: Sequence[Tokens], max_tokens: int, share: bool = True, tails: Sequence[int] | None = None
) -> list[PrefillBatch]:
    """Split prompts into batches of about `max_tokens` padded tokens, those with a common prefix together.

    The last token of a prompt, or the last `tails[i]`, is never part of a prefix.
    """
    order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    ends = [len(prompts[i]) - (tails[i] if tails else 1) for i in order]
    prefix_of = _shared_prefixes([prompts[i] for i in order], ends) if share else [0] * len(order)
    saved = _saving([prompts[i] for i in order], prefix_of)
    if saved < _LEAST_SAVING * sum(map(len, prompts)):
        # By length instead: like with like leaves little padding.
        order.sort(key=lambda i: (-len(prompts[i]), i))
        prefix_of = [0] * len(order)
    batches: list[PrefillBatch] = []
    current: list[tuple[int, Tokens, Tokens]] = []
    width = prefix_tokens = 0
    last: Tokens | None = None
    for i, length in zip(order, prefix_of, strict=True):
        prefix, rest = prompts[i][:length], prompts[i][length:]
        wider = max(width, len(rest))
        more = prefix_tokens + (length if prefix != last else 0)
        if current and bucket(wider) * (len(current) + 1) + more > max_tokens:
            batches.append(_batch(current))
            current, wider, more = [], len(rest), length
        current.append((i, prefix, rest))
        width, prefix_tokens, last = wider, more, prefix
    return [*batches, _batch(current)] if current else batches


def _batch(members: Sequence[tuple[int, Tokens, Tokens]]) -> PrefillBatch:
    prefixes = tuple(dict.fromkeys(prefix for _, prefix, _ in members))
    return PrefillBatch(
        tuple(i for i, _, _ in members),
        () if prefixes == ((),) else prefixes,
        tuple(prefixes.index(prefix) for _, prefix, _ in members),
        tuple(rest for _, _, rest in members),
    )


def _shared_prefixes(prompts: Sequence[Tokens], ends: Sequence[int]) -> list[int]:
    """For sorted prompts, how many of each one's first tokens (at most `ends`) are run once for it and neighbours.

    Neighbours form groups; a group of m that shares p tokens saves `(m - 1) * p`. The grouping that saves most is
    found from the positions where neighbours share least: a stretch is either one group or cut there.
    """
    common = [
        min(_common(a, b), *limits)
        for a, b, limits in zip(prompts, prompts[1:], itertools.pairwise(ends), strict=False)
    ]
    lengths = [0] * len(prompts)
    stretches = [(0, len(prompts))]
    while stretches:
        start, end = stretches.pop()
        inner = common[start : end - 1]
        if not inner or max(inner) < _LEAST_PREFIX:
            continue
        least = min(inner)
        cuts = [start + i + 1 for i, shared in enumerate(inner) if shared == least]
        parts = list(zip([start, *cuts], [*cuts, end], strict=True))
        inside = sum((b - a - 1) * min(common[a : b - 1]) for a, b in parts if b - a > 1)
        if least >= _LEAST_PREFIX and (end - start - 1) * least >= inside:
            lengths[start:end] = [least] * (end - start)
        else:
            stretches += parts
    return lengths


def _saving(prompts: Sequence[Tokens], prefix_of: Sequence[int]) -> int:
    prefixes = [prompt[:length] for prompt, length in zip(prompts, prefix_of, strict=True)]
    return sum(len(b) for a, b in itertools.pairwise(prefixes) if a == b)


def _common(a: Tokens, b: Tokens) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
