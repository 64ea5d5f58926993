"""A question to the judge before anything expensive: is it there, does it take the key, and can it be read?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import anyio
from inspect_ai.model import GenerateConfig, Model

from sgtr_eval.judging.ask import PROBE, Reply, cause_of, kind_of, status_of, what_it_says
from sgtr_eval.judging.scoring import Mode, gives_no_logprobs, probing, thinks_first
from sgtr_eval.judging.whole_numbers import writes_whole
from sgtr_eval.servers import api_model
from sgtr_jax.errors import InputError

_RETRIES = 2  # of what usually passes: 3 and 6 seconds
_TRIES = 3  # of a reply that cannot be read
_WORDS = GenerateConfig(max_tokens=64, temperature=0.0, seed=0)


def check_judge(name: str, base_url: str | None, mode: Mode | None, scores: bool) -> str | None:
    """Ask a judge behind an API one plain question, as it will be asked; `scores`: whether for a number.

    Returns what is to be said of a judge that can be read otherwise than one would think, None if there is nothing.
    Raises InputError, with what is wrong and what to do about it.
    """
    where = f"judge {name!r}" + (f" at {base_url}" if base_url else "")
    try:
        judge = api_model(name, base_url)
    except Exception as error:  # noqa: BLE001 - said by whichever provider's package it is
        raise InputError(f"{where}: {error}") from None
    by_tokens = scores and mode in (None, "logprobs")
    # In a thread of its own: where a loop runs already, as in a notebook, another one cannot be started.
    with ThreadPoolExecutor(1) as thread:
        probe = thread.submit(anyio.run, _ask, judge, probing() if by_tokens else _WORDS, where).result()
    if not by_tokens:
        if probe.output is None:
            raise InputError(f"{where}: {_refused(probe)}")
        return None
    if gives_no_logprobs(probe):
        return _told(f"{where} gives no log-probabilities" + (f" ({probe.said})" if probe.said else ""), mode)
    if probe.output is None:
        raise InputError(f"{where}: {_refused(probe)}")
    if thinks_first(probe):
        return _told(f"{where} thinks before it answers, so that its first token is no score", mode)
    if writes_whole(probe.output) is False:
        return _told(f"{where} writes a number in several tokens, so that its first token is no score", None)
    return None


def _told(what: str, mode: Mode | None) -> str:
    if mode is None:
        return f"{what}: scores are read from its words, as judge.mode: text does"
    raise InputError(f"{what}: set judge.mode: text (on a command line --judge-mode text), or leave the mode out")


async def _ask(judge: Model, config: GenerateConfig, where: str) -> Reply:
    """The judge's reply to a plain question, or that it was rejected. Raises InputError for anything else."""
    said = ""
    async with judge:
        for attempt in range(_TRIES):
            try:
                output = await judge.generate(PROBE, config=config.merge(GenerateConfig(max_retries=_RETRIES)))
                if output.choices:
                    return Reply(output)
                said = "a reply without choices"
            except Exception as error:  # noqa: BLE001 - sorted by kind below
                cause = cause_of(error)
                kind, said = kind_of(cause), what_it_says(cause)
                if kind == "rejected":
                    return Reply(None, "rejected", said)
                if kind != "odd":
                    raise InputError(f"{where}: {_why(cause, said)}") from None
            await anyio.sleep(2**attempt / 2)
    raise InputError(f"{where}: its reply is not one of OpenAI's API, or an error: {said}. Is the address right?")


def _refused(probe: Reply) -> str:
    return (
        f"it refuses a plain question: {probe.said}. Is this the address of a server with OpenAI's API (it often "
        "ends in /v1), and may this model be asked with the settings that the message names?"
    )


def _led_to(cause: BaseException) -> str | None:
    """The address that a request was led to, where the connection failed there and not at the one that was given."""
    asked, failed = (getattr(one, "request", None) for one in (cause, cause.__cause__))
    if asked is None or failed is None or str(asked.url) == str(failed.url):
        return None
    return str(failed.url)


def _why(cause: BaseException, said: str) -> str:
    status = status_of(cause)
    if (led := _led_to(cause)) is not None:
        return f"the address leads elsewhere, to {led}, which does not answer: {said}. Give the right address"
    if status is None:
        return f"it cannot be reached: {said}. Is the server running, and the address right?"
    if 300 <= status < 400:
        return f"the address leads elsewhere, where it is not followed: {said}. Give the address that it leads to"
    if status in (401, 403):
        return f"the key is not accepted: {said}"
    if status in (404, 405):
        return f"there is no such model, or nothing at this address (it often ends in /v1): {said}"
    return said
