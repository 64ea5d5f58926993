"""Prompts in, rows of completions out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.model import Model
from sgtr_jax.progress import Progress
from sgtr_jax.sample.engine import Request


def sample_prompts(
    model: Model,
    prompts: Sequence[Record],
    samples: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    chat: ChatFormat,
    label: str = "sample",
) -> list[dict[str, Any]]:
    """Sample every prompt `samples` times; rows in the order of prompts, then samples.

    A row holds id, sample, text, tokens (how many, the stop token not counted) and finish_reason.
    """
    ids = [tuple(chat.prompt_ids(prompt.messages)) for prompt in prompts]
    requests = [
        Request(prompt.id, tokens, max_tokens, temperature, seed, sample)
        for prompt, tokens in zip(prompts, ids, strict=True)
        for sample in range(samples)
    ]
    total_tokens = 0
    with Progress(label, len(requests), "rows") as progress:

        def done(rows: int, tokens: int) -> None:
            nonlocal total_tokens
            total_tokens += tokens
            progress.advance(rows, f"{total_tokens} tokens")

        completions = model.engine.sample(requests, model.stop_ids, done)
    return [
        {
            "id": request.prompt_id,
            "sample": request.sample,
            "text": model.tokenizer.decode(completion.tokens, skip_special_tokens=True),
            "tokens": len(completion.tokens),
            "finish_reason": completion.finish,
        }
        for request, completion in zip(requests, completions, strict=True)
    ]
