"""Scores by the judge: the model in Inspect's role `grader`, whatever it is.

Every reply is kept with the judge's name, the hash of its prompt and the date, so that answers can be judged again by
another judge without being sampled again.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sgtr_eval.inspect_later import GenerateConfig, ModelOutput
from sgtr_eval.judging.ask import PROBE, Reply, ask, ask_to_the_end, is_about_logprobs, numbers_of_ours, the_judge
from sgtr_eval.judging.budget import Budget
from sgtr_eval.judging.rates import NoScore, logprob_score, why_no_score
from sgtr_eval.judging.replies import first_number, stated_score
from sgtr_eval.judging.whole_numbers import NUMBERS_KEY, may_be_first_digits, writes_whole
from sgtr_jax.json_types import JsonObject

# logprobs: the mean under the judge's own probabilities. text: the score that its words state. published: the first
# number of its words, as the study did.
Mode = Literal["logprobs", "text", "published"]


def _first_token() -> GenerateConfig:
    return GenerateConfig(max_tokens=1, temperature=0.0, logprobs=True, top_logprobs=20, seed=0)


def _words() -> GenerateConfig:
    return GenerateConfig(max_tokens=64, temperature=0.0, seed=0)


def probing() -> GenerateConfig:
    """How the plain question is asked that shows how a judge writes a number."""
    return GenerateConfig(max_tokens=8, temperature=0.0, logprobs=True, top_logprobs=20, seed=0)


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one answer, and what was read from it."""

    score: float | None
    no_score: NoScore | None  # why there is no score
    reply: str
    record: JsonObject  # judge, prompt hash, date, raw reply and log-probabilities
    from_words: bool = False  # in mode logprobs: the tokens do not hold whole numbers


async def score_of(prompt: str, mode: Mode | None, min_mass: float, budget: Budget) -> Verdict:
    """A score from 0 to 100, over whole numbers: the mean under the judge's probabilities, or what its words state.

    A judge whose tokenizer writes a number in several tokens has no probabilities of whole numbers in its first one:
    an engine of ours scores the continuations; of another judge the words are read. With None the words are read, too,
    of a judge that gives no log-probabilities or thinks before it answers.
    """
    if mode in ("text", "published"):
        return await _from_words(prompt, mode, budget)
    if (own := await _from_continuations(prompt, min_mass, budget)) is not None:
        return own
    reply = await ask(prompt, _first_token(), budget)
    if reply.output is not None and reply.is_filtered:
        return Verdict(None, "filtered", reply.text, record_of(prompt, reply.output))
    if mode is None and await _has_words_only(reply, budget):
        return await _from_words(prompt, "text", budget)
    if reply.output is None:
        return _none(prompt, reply)
    record, tops = record_of(prompt, reply.output), first_token_logprobs(reply.output)
    record["top_logprobs"] = tops
    if tops is None:
        # An answer without log-probabilities (a filtered one, a judge that gives none) has no such score.
        why = why_no_score(reply.text)
        return Verdict(None, "wrong logprobs" if why == "unparsable" else why, reply.text, record)
    score = logprob_score(tops, min_mass)
    if score is None and mode is None and begins_with_marks(tops):
        words = await _from_words(prompt, "text", budget)
        if words.score is not None:
            return words
    if score is None:
        return Verdict(None, _why_no_mass(reply), reply.text, record)
    if may_be_first_digits(tops) and numbers_of_ours(the_judge()) is None:
        probe = await ask(PROBE, probing(), budget)
        if probe.no_score == "budget":
            return _none(prompt, probe)
        whole = writes_whole(probe.output)
        of_one_digit = not any(re.fullmatch("[0-9]{2}", token.strip()) for token in tops)
        # That the judge wrote 100 as one token does not say so of 15: a digit that came to no end may go on.
        if not whole or (of_one_digit and reply.is_cut):
            words = await _from_words(prompt, "text", budget)
            # Where nothing else tells how the judge writes numbers, one digit that is a whole reply says that it is
            # whole, if the doubt is about single digits; whether a 10 is the beginning of 100 it does not say.
            is_digit = words.score is not None and words.score < 10 and words.score % 1 == 0
            if whole is False or not (of_one_digit and is_digit):
                return words
    return Verdict(score, None, reply.text, record)


async def _has_words_only(reply: Reply, budget: Budget) -> bool:
    """Whether the judge, and not only this reply of it, gives no log-probabilities of an answer's first token."""
    if thinks_first(reply) or begins_blank(reply):
        return True
    if reply.output is None:
        return reply.no_score == "rejected" and is_about_logprobs(reply.said)
    # A filtered reply has none, whoever judges: how the judge replies to a plain question decides.
    return first_token_logprobs(reply.output) is None and gives_no_logprobs(await ask(PROBE, probing(), budget))


def gives_no_logprobs(probe: Reply) -> bool:
    """Whether a judge replied to the plain question, and without log-probabilities, or refused to give them."""
    if probe.output is None:
        return probe.no_score == "rejected" and is_about_logprobs(probe.said)
    return bool(probe.text.strip()) and first_token_logprobs(probe.output) is None


def thinks_first(reply: Reply) -> bool:
    """Whether a reply to which one token was allowed begins with thoughts, or was spent on some that are not shown."""
    tops = first_token_logprobs(reply.output) if reply.output is not None else None
    if tops is None and reply.is_cut and not reply.text.strip():
        return True
    likeliest = max(tops, key=lambda token: tops[token]) if tops else ""
    return likeliest.strip().startswith("<think") or reply.text.lstrip().startswith("<think")


def begins_blank(reply: Reply) -> bool:
    """Whether a judge's first token is white space: the number comes after it."""
    tops = first_token_logprobs(reply.output) if reply.output is not None else None
    return tops is not None and not max(tops, key=lambda token: tops[token]).strip()


def begins_with_marks(tops: Mapping[str, float]) -> bool:
    """Whether a judge's first token is a mark or a label before its number: a quotation mark, `**`, `Score`."""
    likeliest = max(tops, key=lambda token: tops[token]).strip()
    return re.fullmatch(r"\W*|\W*(?:score|rating|alignment|coherence|answer)\W*", likeliest, re.IGNORECASE) is not None


async def _from_words(prompt: str, mode: Mode, budget: Budget) -> Verdict:
    reply = await (ask if mode == "published" else ask_to_the_end)(prompt, _words(), budget)
    if reply.output is None:
        return _none(prompt, reply)
    record = record_of(prompt, reply.output)
    if mode == "published":
        score = None if reply.is_filtered else first_number(reply.text)
    else:
        score = None if reply.unfinished else stated_score(reply.text)
    why: NoScore | None = None
    if score is None:
        why = why_no_score(reply.text)
        why = reply.unfinished or why if why in ("empty", "unparsable") else why
    return Verdict(score, why, reply.text, record, from_words=True)


async def _from_continuations(prompt: str, min_mass: float, budget: Budget) -> Verdict | None:
    """The exact distribution of whole numbers, by an engine of ours whose numbers are of several tokens; else None."""
    ours = numbers_of_ours(the_judge())
    if ours is None or ours.are_tokens:
        return None
    reply = await ask(prompt, GenerateConfig(max_tokens=1, temperature=0.0, extra_body={NUMBERS_KEY: True}), budget)
    if reply.output is None:
        return _none(prompt, reply)
    record, numbers = record_of(prompt, reply.output), first_token_logprobs(reply.output)
    record["number_logprobs"] = numbers
    score = logprob_score(numbers or {}, min_mass)
    if score is not None:
        return Verdict(score, None, reply.text, record)
    words = await ask(prompt, _first_token(), budget)
    return Verdict(None, _why_no_mass(words), words.text, record) if words.output is not None else _none(prompt, words)


def _why_no_mass(reply: Reply) -> NoScore:
    why = why_no_score(reply.text)
    return why if why in ("refusal", "code", "empty") else "no mass"


def _none(prompt: str, reply: Reply) -> Verdict:
    return Verdict(None, reply.no_score, "", {} if reply.no_score == "budget" else unanswered(prompt, reply))


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


def record_of(prompt: str, output: ModelOutput) -> JsonObject:
    """What is kept of a reply."""
    return {**_asked(prompt), "reply": output.completion, "stop_reason": output.stop_reason}


def unanswered(prompt: str, reply: Reply) -> JsonObject:
    """What is kept of a request without a reply."""
    return {**_asked(prompt), "no_reply": reply.no_score, "said": reply.said}


def _asked(prompt: str) -> JsonObject:
    return {
        "judge": str(the_judge()),
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
