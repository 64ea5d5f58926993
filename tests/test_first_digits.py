"""Whether a judge's first token is a whole number, or its first digit: by its list of tokens, and by a reply."""

from __future__ import annotations

import math

import pytest
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, Logprob, Logprobs, ModelOutput

from sgtr_eval.judging.whole_numbers import may_be_first_digits, writes_whole


@pytest.mark.parametrize(
    ("shares", "doubtful"),
    [
        ({"1": 0.9, "8": 0.1}, True),  # one digit each
        ({"15": 0.9, "8": 0.1}, False),  # two digits are there: 8 is a whole number
        ({"10": 0.9, "15": 0.1}, True),  # the 10 of 100, where no number has three
        ({"10": 0.9, "100": 0.1}, False),
        ({"1": 0.9, "15": 0.1}, True),  # the 1 of 100 where it is written 1, 00
        ({"1": 0.9, "15": 0.05, "100": 0.05}, False),
        ({"100": 1.0, "1": 0.5}, False),
        ({"0": 1.0}, False),  # no number goes on behind a 0
        ({"0": 0.9, "1": 0.1}, True),
        ({" 1": 0.9}, True),  # white space is none of it
        ({"15": 0.99, "10": 0.01}, True),
        ({"15": 0.996, "10": 0.004}, False),  # too little to move the mean
        ({"0": 0.996, "1": 0.004}, False),
        ({"0": 0.992, "3": 0.004, "4": 0.004}, True),  # their sum matters
        ({"99": 0.9, "1000": 0.1}, False),  # no number from 0 to 100
        ({"the": 0.9, "Score": 0.1}, False),
        ({"the": 0.9, "3": 0.1}, True),
        ({}, False),
    ],
)
def test_a_list_of_tokens(shares: dict[str, float], doubtful: bool) -> None:
    assert may_be_first_digits({token: math.log(share) for token, share in shares.items()}) is doubtful


def reply(text: str, tokens: list[str] | None) -> ModelOutput:
    content = None if tokens is None else [Logprob(token=token, logprob=-0.1) for token in tokens]
    logprobs = None if content is None else Logprobs(content=content)
    message = ChatMessageAssistant(content=text)
    other = ChatCompletionChoice(message=ChatMessageAssistant(content="x"))  # only the first choice is looked at
    return ModelOutput(model="j", choices=[ChatCompletionChoice(message=message, logprobs=logprobs), other])


@pytest.mark.parametrize(
    ("text", "tokens", "whole"),
    [
        ("100", ["100"], True),
        (" 100.\n", ["", " ", " 100", "."], True),
        ("100", ["1", "0", "0"], False),
        ("15", ["1", "5"], False),
        ("100", ["10", "0"], False),
        ("100", ["1", "00"], False),
        ("7", ["7"], None),  # one digit does not tell
        ("Score: 15", ["Score", ":", " 15"], None),
        ("15", ["<pad>", "15"], None),
        ("15", ["", " "], None),
        ("15", [], None),
        ("15", None, None),
    ],
)
def test_a_reply(text: str, tokens: list[str] | None, whole: bool | None) -> None:
    assert writes_whole(reply(text, tokens)) is whole


def test_no_reply_does_not_tell() -> None:
    assert writes_whole(None) is None and writes_whole(ModelOutput(model="j", choices=[])) is None
