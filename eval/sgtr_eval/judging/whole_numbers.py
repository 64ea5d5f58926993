"""How a tokenizer writes the whole numbers 0 to 100: one token each, or several, as with one token a digit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from sgtr_eval.inspect_later import ModelOutput
from sgtr_jax.data.tokenizer import Tokenizer

# Key of `GenerateConfig.extra_body`: the log-probabilities of whole numbers are wanted, of an engine of ours.
NUMBERS_KEY = "sgtr_numbers"

HIGHEST = 100
_INTEGER = re.compile(r"[0-9]{1,3}")
# Beyond this share of a list's numbers it matters for the mean whether a token is a whole number.
_MATTERS = 0.005
_NEGLIGIBLE = math.log(1e-8)  # a beginning so unlikely moves the mean by less than a ten-thousandth, all together

# Of prompts, and token ids for each: log-probability of each as the next token.
Scorer = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], Sequence[np.ndarray]]


def may_be_first_digits(top_logprobs: Mapping[str, float]) -> bool:
    """Whether the first tokens of a reply may be first digits of numbers rather than whole ones.

    A number of two digits among them is whole, unless it is the 10 of 100, and so is one of one digit beside them,
    unless it is the 1 of 100 (1, 00); a 0 is whole in any case.
    """
    mass = dict.fromkeys(("one", "hundred", "any"), 0.0)
    digits = 0
    for token, logprob in top_logprobs.items():
        text = token.strip()
        if _INTEGER.fullmatch(text):
            digits = max(digits, len(text))
            mass["any"] += math.exp(logprob)
            mass["one"] += math.exp(logprob) * (len(text) == 1 and text != "0")
            mass["hundred"] += math.exp(logprob) * (text in ("1", "10"))
    doubtful = mass["one"] if digits == 1 else mass["hundred"] if digits == 2 else 0.0
    return doubtful > _MATTERS * mass["any"]


def writes_whole(output: ModelOutput | None) -> bool | None:
    """Whether a judge wrote a number of several digits as one token; None where its reply does not tell."""
    choice = output.choices[0] if output is not None and output.choices else None
    if choice is None or choice.logprobs is None or not choice.logprobs.content:
        return None
    number = re.match(r"[0-9]+", choice.message.text.strip())
    tokens = [one.token.strip() for one in choice.logprobs.content]
    first = next((token for token in tokens if token), "")
    if number is None or len(number.group()) < 2 or not re.match("[0-9]", first):
        return None
    return first.startswith(number.group())


class Numbers:
    """The whole numbers 0 to 100 in the tokens of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def ids(self) -> dict[int, tuple[int, ...]]:
        """Token ids by number."""
        return {n: tuple(self._tokenizer.encode(str(n), add_special_tokens=False)) for n in range(HIGHEST + 1)}

    @property
    def are_tokens(self) -> bool:
        """Whether each is one token."""
        return all(len(ids) == 1 for ids in self.ids.values())

    @cached_property
    def going_on(self) -> tuple[int, ...]:
        """Ids of the tokens that would make another number of a number: they begin with a digit."""
        vocabulary = range(len(self._tokenizer))
        texts = self._tokenizer.batch_decode([[token] for token in vocabulary])
        return tuple(token for token, text in zip(vocabulary, texts, strict=True) if text[:1].isdecimal())

    def logprobs(self, prompts: Sequence[Sequence[int]], score: Scorer) -> list[dict[int, float]]:
        """For each prompt the log-probability that the reply begins with each number, and that the number ends there.

        Numbers whose beginning is too unlikely to matter are left out.
        """
        beginnings: dict[tuple[int, tuple[int, ...]], float] = {(i, ()): 0.0 for i in range(len(prompts))}
        found: list[dict[int, float]] = [{} for _ in prompts]
        numbers = {ids: n for n, ids in self.ids.items()}
        longest = max(map(len, numbers))
        for length in range(longest + 1):
            level = {key: value for key, value in beginnings.items() if len(key[1]) == length}
            if not level:
                break
            following = {
                begun: sorted({ids[length] for ids in numbers if ids[:length] == begun and len(ids) > length})
                for begun in {begun for _, begun in level}
            }
            wanted = [sorted({*following[begun], *(self.going_on if begun in numbers else ())}) for _, begun in level]
            scored = score([(*prompts[i], *begun) for i, begun in level], wanted)
            for ((i, begun), before), ids, values in zip(level.items(), wanted, scored, strict=True):
                after = dict(zip(ids, map(float, values), strict=True))
                if begun in numbers:
                    goes_on = sum(math.exp(after[token]) for token in self.going_on)
                    found[i][numbers[begun]] = before + (math.log1p(-goes_on) if goes_on < 1 else -math.inf)
                for token in following[begun]:
                    if before + after[token] > _NEGLIGIBLE:
                        beginnings[i, (*begun, token)] = before + after[token]
        return found
