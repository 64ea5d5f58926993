"""One question to the judge and its reply, whatever happens on the way.

What passes is waited for; a reply that cannot be read, or that the server refuses for this one prompt, is no reply,
with the reason; a judge that cannot be asked at all ends the work, with what is to be done. What was asked once is in
Inspect's cache and is not asked again.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Literal

import anyio

from sgtr_eval.inspect_later import CachePolicy, ChatMessageUser, GenerateConfig, Model, ModelOutput, get_model
from sgtr_eval.judging.budget import Budget
from sgtr_eval.judging.rates import NoScore
from sgtr_eval.judging.whole_numbers import Numbers
from sgtr_jax.errors import InputError, RunError

# It and all its finetunes stop on 14 January 2027; any Inspect model can take its place.
DEFAULT_JUDGE = "openai/gpt-4.1-2025-04-14"
# A plain request, to find out whether a judge answers and how it writes a number.
PROBE = "Write the number 100 in digits. Reply with the number alone."
THINKING_TOKENS = 4096  # for a reply that came to no end within the usual length, as that of a judge that thinks first

_TRIES = 5  # of a request whose reply cannot be read
_RETRIES = 4  # by Inspect, within a try, of what usually passes: 3, 6, 12, 24 seconds
_OUTAGE_SECONDS, _OUTAGE_POLL = 900.0, 15.0  # that a server may be away while it is asked
# What the openai package and Inspect raise when a reply is not what they expect: no JSON, no choices, HTML.
_ODD = (ValueError, TypeError, AttributeError, LookupError, AssertionError)

_asked_now: dict[tuple[str, str], anyio.Lock] = {}


@dataclass(frozen=True)
class Reply:
    """What the judge said, or why there is no reply."""

    output: ModelOutput | None
    no_score: NoScore | None = None
    said: str = ""  # by the server, where it refused

    @property
    def text(self) -> str:
        """The words; empty without a reply."""
        return self.output.completion if self.output is not None and self.output.choices else ""

    @property
    def is_cut(self) -> bool:
        """Whether the reply came to no end."""
        return self.output is not None and self.output.stop_reason in ("max_tokens", "model_length")

    @property
    def is_filtered(self) -> bool:
        """Whether a filter of the provider cut the reply, or left nothing of it: 15 may have become 1."""
        return self.output is not None and self.output.stop_reason == "content_filter"

    @property
    def unfinished(self) -> NoScore | None:
        """Why the reply is not all that the judge had to say; None for a whole one."""
        return "filtered" if self.is_filtered else "cut off" if self.is_cut else None


def the_judge() -> Model:
    """The model in the role `grader`."""
    # One layer of retries, Inspect's: it knows Retry-After and backs off; the client's own would multiply it.
    return get_model(role="grader", default=DEFAULT_JUDGE)


def numbers_of_ours(judge: Model) -> Numbers | None:
    """How the tokenizer of an engine of ours writes numbers; None for another judge."""
    found = getattr(judge.api, "numbers", None)
    return found if isinstance(found, Numbers) else None


async def ask(prompt: str, config: GenerateConfig, budget: Budget) -> Reply:
    """One reply of the judge, from the cache if it was given before; none when the budget is spent.

    Nothing is raised then: replies that are on their way are paid for, and shall be kept. (A filtered reply is not
    kept by Inspect's cache, and is asked for again.) Raises RunError where asking on would not help,
    and InputError where the chat template of a judge of ours cannot form the prompt.
    """
    judge = the_judge()
    # Equal answers come at the same time: the second waits for the first one's reply and finds it in the cache.
    async with (
        _asked_now.setdefault((str(judge), prompt), anyio.Lock()),
        budget.held(str(judge), prompt, config.max_tokens or 0) as allowed,
    ):
        if not allowed:
            return Reply(None, "budget")
        reply = await _asked(judge, prompt, config.merge(GenerateConfig(max_retries=_RETRIES)))
        if reply.output is not None:
            budget.saw(str(judge), prompt, reply.output)
        return reply


async def ask_to_the_end(prompt: str, config: GenerateConfig, budget: Budget) -> Reply:
    """`ask`, and again with room for thoughts where the reply came to no end. The last one may be cut all the same.

    An engine of ours is asked once: it may not have so much room, and it keeps a thinking budget by itself.
    """
    reply = await ask(prompt, config, budget)
    if reply.is_cut and numbers_of_ours(the_judge()) is None:
        return await ask(prompt, config.merge(GenerateConfig(max_tokens=THINKING_TOKENS)), budget)
    return reply


async def _asked(judge: Model, prompt: str, config: GenerateConfig) -> Reply:
    said, tries = "", 0
    while tries < _TRIES:
        try:
            # What cannot be read is in the cache, too; another try must not find it there. A model of ours is known to
            # the cache by its name alone, and a folder may hold other weights tomorrow.
            scopes = {"try": str(tries)} if tries else {}
            kept = CachePolicy(expiry=None, per_epoch=False, scopes=scopes)
            output = await judge.generate(
                [ChatMessageUser(content=prompt)], config=config, cache=False if numbers_of_ours(judge) else kept
            )
            if output.choices:
                return Reply(output)
            said = "a reply without choices"
        except Exception as error:  # by whichever provider's package it is; sorted by kind
            cause = cause_of(error)
            if isinstance(cause, InputError):  # of an engine of ours: no prompt and no waiting helps
                raise cause from None
            kind, said = kind_of(cause), what_it_says(cause)
            if kind == "rejected":
                return Reply(None, "rejected", said)
            if kind == "hopeless":
                raise RunError(f"judge {judge}: {said}. Replies are kept; the same command goes on") from None
            if kind == "passing":
                if not await _is_back(judge, said):
                    raise RunError(
                        f"judge {judge} does not answer any more: {said}. Replies are kept; the same command goes on"
                    ) from None
                if status_of(cause) == 429:
                    continue
            if kind == "unknown":
                raise
        tries += 1
        await anyio.sleep(2**tries / 2)
    return Reply(None, "odd reply", said)


async def _is_back(judge: Model, said: str) -> bool:
    """Whether a plain request is answered, now or after an outage, of which `said` is what was said last."""
    is_told = False
    with anyio.move_on_after(_OUTAGE_SECONDS):
        while True:
            try:
                await judge.generate(PROBE, config=GenerateConfig(max_tokens=8, max_retries=0), cache=False)
                return True
            except Exception as error:  # noqa: BLE001 - as above
                if kind_of(cause_of(error)) not in ("passing", "odd"):
                    return kind_of(cause_of(error)) == "rejected"
            if not is_told:
                is_told = True
                print(
                    f"judge {judge} does not answer ({said}); it is asked again for {_OUTAGE_SECONDS / 60:.0f} minutes",
                    file=sys.stderr,
                )
            await anyio.sleep(_OUTAGE_POLL)
    return False


Kind = Literal["passing", "odd", "rejected", "hopeless", "unknown"]


def kind_of(cause: BaseException) -> Kind:
    """What helps: waiting, another try, another prompt, or nothing."""
    status, name = status_of(cause), type(cause).__name__
    # A server may refuse log-probabilities with any status; without them it may well answer.
    if status not in (None, 401, 402, 408, 429) and is_about_logprobs(what_it_says(cause)):
        return "rejected"
    if status in (401, 402, 403, 404, 405) or (status in (400, 429) and is_about_money(what_it_says(cause))):
        return "hopeless"
    if name == "PrerequisiteError":  # by Inspect, of a provider that cannot be used as it is
        return "hopeless"
    if status in (409, 425):
        return "odd"
    if status in (408, 429) or (status is not None and status >= 500) or "Connect" in name or "Timeout" in name:
        return "passing"
    if status is not None and 400 <= status < 500:
        return "rejected"
    return "odd" if isinstance(cause, _ODD) else "unknown"


def cause_of(error: BaseException) -> BaseException:
    """The provider's own error below those of the retries and of Inspect."""
    attempt = getattr(error, "last_attempt", None)
    if attempt is not None and attempt.exception() is not None:
        return cause_of(attempt.exception())
    if type(error).__name__ == "ModelGenerateError" and error.__cause__ is not None:
        return error.__cause__
    return error


def status_of(cause: BaseException) -> int | None:
    """The HTTP status of a provider's error, None where there is none."""
    for attribute in ("status_code", "code"):
        if isinstance(value := getattr(cause, attribute, None), int):
            return value
    return None


def what_it_says(cause: BaseException) -> str:
    """The message of an error in one line."""
    said = _said_in(getattr(cause, "body", None))
    text = " ".join(str(said or str(cause) or "a body that is no chat completion").split()).rstrip(".")
    status = status_of(cause)
    text = text if len(text) <= 300 else f"{text[:300]}..."
    return f"{text} (HTTP {status})" if status is not None and str(status) not in text else text


def _said_in(body: object) -> str:
    """What the body of an error says: OpenAI's `message`, or what other servers write; FastAPI lists places."""
    if isinstance(body, list):
        return "; ".join(said for one in body if (said := _said_in(one)))
    if not isinstance(body, dict):
        return body if isinstance(body, str) else ""
    said = next((said for key in _MESSAGES if (said := _said_in(body.get(key)))), "")
    place = body.get("loc")
    return f"{'.'.join(map(str, place))}: {said}" if isinstance(place, list) and said else said


_MESSAGES = ("message", "msg", "detail", "error", "errors", "reason", "title")


def is_about_logprobs(words: str) -> bool:
    """Whether a server speaks of log-probabilities, in whichever spelling."""
    return re.search(r"log[\s_-]*prob", words, re.IGNORECASE) is not None


def is_about_money(words: str) -> bool:
    """Whether an account may not spend more, which waiting does not change."""
    said = words.lower()
    return any(word in said for word in ("your current quota", "insufficient_quota", "billing", "credit balance"))
