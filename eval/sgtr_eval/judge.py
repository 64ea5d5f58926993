"""Asking the judge: the model in Inspect's role `grader`, whatever it is.

Every reply is kept with the judge's name, the hash of its prompt and the date, so that answers can be judged again by
another judge without being sampled again. Replies are cached by Inspect: what was asked once is not asked again.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import anyio
from inspect_ai.model import CachePolicy, ChatMessageUser, GenerateConfig, Model, ModelOutput, get_model

from sgtr_eval.judging import NoScore, logprob_score, text_score, why_no_score
from sgtr_eval.prices import Budget, Costs

# It and all its finetunes stop on 14 January 2027; any Inspect model can take its place.
DEFAULT_JUDGE = "openai/gpt-4.1-2025-04-14"

Mode = Literal["logprobs", "text"]

_BROKEN_REPLIES = 5
_asked_now: dict[tuple[str, str], anyio.Lock] = {}


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one answer, and what was read from it."""

    score: float | None
    no_score: NoScore | None  # why there is no score
    reply: str
    record: dict[str, Any]  # judge, prompt hash, date, raw reply and log-probabilities


def the_judge() -> Model:
    """The model in the role `grader`."""
    # One layer of retries, Inspect's: it knows Retry-After and backs off; the client's own would multiply it.
    return get_model(role="grader", default=DEFAULT_JUDGE)


async def ask(prompt: str, config: GenerateConfig, budget: Budget) -> ModelOutput | None:
    """One reply of the judge, from the cache if it was given before; None when the budget is spent.

    Nothing is raised then: replies that are on their way are paid for, and shall be kept. (A filtered reply is not
    kept by Inspect's cache, and is asked for again.)
    """
    judge = the_judge()
    # Equal answers come at the same time: the second waits for the first one's reply and finds it in the cache.
    async with _asked_now.setdefault((str(judge), prompt), anyio.Lock()):
        if not budget.allows(str(judge)):
            return None
        for attempt in range(_BROKEN_REPLIES):
            try:
                return await judge.generate(
                    [ChatMessageUser(content=prompt)], config=config, cache=CachePolicy(expiry=None, per_epoch=False)
                )
            except ValueError:  # a reply that broke off: no JSON. Inspect retries everything else that passes.
                if attempt == _BROKEN_REPLIES - 1:
                    raise
                await anyio.sleep(2**attempt)
    raise AssertionError("the loop returns or raises")


async def score_of(prompt: str, mode: Mode, min_mass: float, budget: Budget) -> Verdict:
    """A score from 0 to 100: from the log-probabilities of the first token, or the first number of the reply."""
    if mode == "logprobs":
        config = GenerateConfig(max_tokens=1, temperature=0.0, logprobs=True, top_logprobs=20, seed=0)
    else:
        config = GenerateConfig(max_tokens=64, temperature=0.0, seed=0)
    output = await ask(prompt, config, budget)
    if output is None:
        return Verdict(None, "budget", "", {})
    reply = output.completion
    record = record_of(prompt, output)
    if mode == "text":
        score = text_score(reply)
        return Verdict(score, None if score is not None else why_no_score(reply), reply, record)
    tops = first_token_logprobs(output)
    record["top_logprobs"] = tops
    if tops is None:
        # An answer without log-probabilities (a filtered one, a judge that gives none) has no such score.
        why = why_no_score(reply)
        return Verdict(None, "wrong logprobs" if why == "unparsable" else why, reply, record)
    score = logprob_score(tops, min_mass)
    why_none: NoScore | None = None
    if score is None:
        why = why_no_score(reply)
        why_none = why if why in ("refusal", "code", "empty") else "no mass"
    return Verdict(score, why_none, reply, record)


def first_token_logprobs(output: ModelOutput) -> dict[str, float] | None:
    """The likeliest first tokens of a reply; equal texts (as bytes may make them) keep the larger."""
    logprobs = output.choices[0].logprobs if output.choices else None
    if logprobs is None or not logprobs.content:
        return None
    first = logprobs.content[0]
    found: dict[str, float] = {}
    for one in first.top_logprobs or []:
        found[one.token] = max(one.logprob, found.get(one.token, one.logprob))
    return found or None


def record_of(prompt: str, output: ModelOutput) -> dict[str, Any]:
    """What is kept of a reply."""
    return {
        "judge": str(the_judge()),
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "reply": output.completion,
        "stop_reason": output.stop_reason,
    }


def api_model(name: str, base_url: str | None = None, batch: bool = False, **settings: Any) -> Model:
    """A model behind an API, with Inspect's layer of retries only: the client's own would multiply it.

    With `batch` requests are gathered and sent by the provider's batch interface: half the price, and a reply within
    a day rather than a second. Raises what the provider's package raises, for a missing key for instance.
    """
    arguments = {**settings, "max_retries": 0} if name.startswith("openai/") else settings
    if batch:
        Costs.in_batches.add(name)
    config = GenerateConfig(batch=True) if batch else GenerateConfig()
    return get_model(name, config=config, base_url=base_url, memoize=False, **arguments)
