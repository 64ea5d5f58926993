"""Prompts in, rows of completions out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NotRequired, TypedDict

import jax

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError
from sgtr_jax.progress import Progress
from sgtr_jax.sample.config import SamplingParams
from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.model import Model
from sgtr_jax.sample.request import Completion, Request
from sgtr_jax.sample.steering import Steered


class TokenRow(TypedDict):
    """A token with its log-probability, and the likeliest ones with theirs."""

    token: int
    logprob: float
    top: list[list[float]]


class Row(TypedDict):
    """A completion as it is written; `tokens` is how many there are, the stop token not counted."""

    chain: NotRequired[str | None]  # where rows are of several chains
    id: str
    sample: NotRequired[int]  # models behind APIs are asked once
    scale: NotRequired[float]  # of steering, where rows of a prompt differ in it
    text: str
    tokens: NotRequired[int]  # not of models behind APIs
    finish_reason: str
    reasoning: NotRequired[str]  # where the model thought before it answered
    logprobs: NotRequired[list[TokenRow]]  # where they were asked for


def sample_prompts(
    model: Model,
    prompts: Sequence[Record],
    samples: int,
    draws: SamplingParams,
    chat: ChatFormat,
    label: str = "sample",
) -> list[Row]:
    """Sample every prompt `samples` times; rows in the order of prompts, then samples; see `to_row`."""
    requests = make_requests(prompts, samples, draws, chat)
    found: dict[int, Row] = {}
    run_requests(model.engine, requests, model.stop_ids, chat, label, lambda i, row: found.update({i: row}))
    return [found[i] for i in range(len(requests))]


def make_requests(
    prompts: Sequence[Record],
    samples: int,
    draws: SamplingParams,
    chat: ChatFormat,
    chains: Iterable[str | None] = (None,),
    steered: Sequence[Steered] = (None,),
) -> list[Request]:
    """A request for every chain, steering, prompt and sample, in that order. Raises InputError naming the prompt."""
    ids = [_ids_of(prompt, chat) for prompt in prompts]
    return [
        Request(
            prompt.id, tokens, draws.max_tokens, draws.temperature, draws.seed, sample, chain, draws.top_p,
            draws.top_k, draws.stop_ids, draws.stop, draws.logprobs, steering,
        )
        for chain in chains
        for steering in steered
        for prompt, tokens in zip(prompts, ids, strict=True)
        for sample in range(samples)
    ]  # fmt: skip


def _ids_of(prompt: Record, chat: ChatFormat) -> tuple[int, ...]:
    try:
        return tuple(chat.prompt_ids(prompt.messages))
    except InputError as error:
        raise InputError(f"{prompt.id}: {error}") from None


def run_requests(
    engine: Engine,
    requests: Sequence[Request],
    stop_ids: Sequence[int],
    chat: ChatFormat,
    label: str,
    on_row: Callable[[int, Row], None],
) -> None:
    """Sample with a progress bar; `on_row(i, row)` as soon as request i is done."""
    total = 0
    with Progress(label, len(requests), "rows", quiet=jax.process_index() != 0) as progress:

        def done(index: int, completion: Completion) -> None:
            nonlocal total
            total += len(completion.tokens)
            on_row(index, to_row(requests[index], completion, chat))
            progress.advance(1, f"{total / max(progress.seconds, 1e-3):.0f} tokens/s")

        engine.sample(requests, stop_ids, done)


def to_row(request: Request, completion: Completion, chat: ChatFormat) -> Row:
    """A completion as it is written.

    id, sample, text, tokens (how many, the stop token not counted) and finish_reason; reasoning where the model
    thought before it answered, and logprobs where they were asked for.
    """
    reasoning, answer = chat.separate(completion.tokens)
    for stop in request.stop:
        answer = answer.partition(stop)[0]
    row: Row = {
        "id": request.prompt_id,
        "sample": request.sample,
        "text": answer,
        "tokens": len(completion.tokens),
        "finish_reason": completion.finish,
    }
    if reasoning is not None:
        row["reasoning"] = reasoning
    if completion.logprobs is not None:
        row["logprobs"] = [
            {"token": one.token, "logprob": one.logprob, "top": [list(pair) for pair in one.top]}
            for one in completion.logprobs
        ]
    return row
