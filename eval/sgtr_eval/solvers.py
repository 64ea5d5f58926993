"""Sampling an answer, as draw so-and-so of its question."""

from __future__ import annotations

import hashlib

from sgtr_eval.inspect_later import CachePolicy, Generate, Solver, TaskState, get_model, solver


def kept() -> CachePolicy:
    """Replies of an API are kept for good: what was answered once, before a kill, is not asked and paid for again."""
    return CachePolicy(expiry=None, per_epoch=False)


@solver
def draw(seed: int = 0) -> Solver:
    """Sample an answer under `seed`.

    Our engine counts the draws of a prompt by itself. An API takes its seed per request, and the same one would give
    the same answer a hundred times: there every sample has a seed of its own, made from `seed` and its id.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if is_ours():
            return await generate(state, seed=seed)
        text = f"{seed}/{state.sample_id}/{state.epoch}"
        own = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
        return await generate(state, seed=own, cache=kept())

    return solve


def is_ours() -> bool:
    """Whether the model being evaluated is one of this project's engine."""
    return get_model().api.__class__.__name__ == "SgtrAPI"
