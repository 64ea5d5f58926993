"""Answers that are one of a few tokens, chosen by log-probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

from sgtr_eval.facts import of_all
from sgtr_eval.inspect_later import (
    Generate,
    GenerateConfig,
    Metric,
    ModelOutput,
    SampleScore,
    Score,
    Scorer,
    Solver,
    Target,
    TaskState,
    get_model,
    metric,
    scorer,
    solver,
)
from sgtr_eval.solvers import is_ours, kept

Mode = Literal["logprobs", "text"]
CHOICE_SHARES = of_all("share_correct", "invalid")
_OPTIONS = "sgtr_options"  # attribute of a solver
# Key of `GenerateConfig.extra_body`: texts of one token each whose log-probabilities are wanted.
OPTIONS_KEY = "sgtr_options"


@solver
def choose(options: Sequence[str], mode: Mode = "logprobs", temperature: float = 0.0) -> Solver:
    """Ask for one token.

    "logprobs": the log-probability of every option is kept; local models score exactly the options, an API gives its
    top 20 tokens, among which they are looked up. "text": one token is sampled, as the study did, and an answer that
    is no option is invalid.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model, ours = get_model(), is_ours()
        if mode == "text":
            config = GenerateConfig(max_tokens=1, temperature=temperature)
        elif ours:
            config = GenerateConfig(max_tokens=1, temperature=0.0, logprobs=True)
            config.extra_body = {OPTIONS_KEY: list(options)}
        else:
            config = GenerateConfig(max_tokens=1, temperature=0.0, logprobs=True, top_logprobs=20)
        output = await model.generate(state.messages, config=config, cache=False if ours else kept())
        state.output = output
        state.messages.append(output.choices[0].message)
        if mode == "text":
            said = output.completion.strip()
            state.metadata["option_logprobs"] = {said: 0.0} if said in options else {}
        else:
            state.metadata["option_logprobs"] = option_logprobs(output, options)
        return state

    if mode == "logprobs":
        vars(solve)[_OPTIONS] = tuple(options)
    return solve


def options_of(solver: object) -> Sequence[str] | None:
    """The options of which `choose` compares log-probabilities; None for another solver, or where it samples."""
    found: Sequence[str] | None = vars(solver).get(_OPTIONS) if callable(solver) else None
    return found


def option_logprobs(output: ModelOutput, options: Sequence[str]) -> dict[str, float]:
    """Log-probability of each option in a reply's likeliest tokens; those that are not among them are missing."""
    logprobs = output.choices[0].logprobs
    tops = logprobs.content[0].top_logprobs if logprobs and logprobs.content else None
    found: dict[str, float] = {}
    for top in tops or []:
        text = top.token.strip()
        if text in options:
            # "A" and " A" are the same answer: their probabilities add up.
            found[text] = math.log(math.exp(found.get(text, -math.inf)) + math.exp(top.logprob))
    return found


@metric
def invalid() -> Metric:
    """Share of samples in which no option could be read off."""

    def compute(scores: list[SampleScore]) -> float:
        return sum(score.score.answer is None for score in scores) / max(1, len(scores))

    return compute


@metric
def share_correct() -> Metric:
    """Share of correct answers; an invalid answer is not correct, and `invalid` says how many there are."""

    def compute(scores: list[SampleScore]) -> float:
        return sum(is_correct(score) for score in scores) / max(1, len(scores))

    return compute


def is_correct(score: SampleScore) -> bool:
    """Whether the sample was answered correctly, before or after Inspect turned values into numbers."""
    return score.score.value in ("C", 1, 1.0)  # "C" is Inspect's mark of a correct answer


@scorer(share_correct, invalid)
def most_likely() -> Scorer:
    """The option of highest log-probability against the target."""
    return likeliest_scorer()


def likeliest_scorer() -> Scorer:
    """What `most_likely` does, for scorers with metrics of their own. An invalid answer is not correct."""

    async def score(state: TaskState, target: Target) -> Score:
        from inspect_ai.scorer import CORRECT, INCORRECT

        found = cast(dict[str, float], state.metadata.get("option_logprobs", {}))
        if not found:
            why = f"no option in {state.output.completion!r}"
            return Score(value=INCORRECT, answer=None, explanation=why, metadata=_plain(state))
        answer = max(found, key=lambda option: found[option])
        value = CORRECT if answer == target.text else INCORRECT
        return Score(value=value, answer=answer, metadata={**_plain(state), "option_logprobs": found})

    return score


def _plain(state: TaskState) -> dict[str, object]:
    return {key: value for key, value in state.metadata.items() if key != "option_logprobs"}
