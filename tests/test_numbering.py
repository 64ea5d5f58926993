"""An engine of ours as the judge: the distribution of whole numbers 0 to 100 under its own tokens, number by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import make_model
from whole_numbers import check_whole_numbers

from sgtr_eval.judging.whole_numbers import Numbers
from sgtr_jax.sample.model import load_model


def test_the_mean_is_over_whole_numbers_digit_by_digit(tmp_path: Path) -> None:
    make_model(tmp_path)
    model = load_model(str(tmp_path), "float32")
    check_whole_numbers(model, lambda tokens: model.logits([tokens])[0])


class Splits:
    """A tokenizer of the texts that it is given, one token each, longest first."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        assert not add_special_tokens
        ids = []
        while text:
            part = max((one for one in self.texts if text.startswith(one)), key=len)
            ids.append(self.texts.index(part))
            text = text[len(part) :]
        return ids

    def batch_decode(self, rows: list[list[int]]) -> list[str]:
        return ["".join(self.texts[i] for i in row) for row in rows]


DIGITS = list("0123456789")


@pytest.mark.parametrize(
    "texts",
    [
        [*DIGITS, "x"], [*DIGITS, *(f"{n:02}" for n in range(100)), "x"], [*DIGITS, "15", "87", "100", "00", "x"],
        [*(str(n) for n in range(1000)), "x"],
    ],
)  # fmt: skip
def test_any_way_to_split_numbers_gives_the_same_distribution(texts: list[str]) -> None:
    """A made-up model: after any beginning, each next token has a probability of its own."""
    numbers, width = Numbers(Splits(texts)), len(texts)

    def logprobs(begun: tuple[int, ...]) -> Any:
        weights = np.random.default_rng([7, *begun]).gamma(0.3, size=width) + 1e-3
        return np.log(weights / weights.sum())

    def engine(prompts: Any, options: Any) -> list[Any]:
        return [logprobs(tuple(p))[list(ids)] for p, ids in zip(prompts, options, strict=True)]

    (found,) = numbers.logprobs([(0, 1)], engine)
    for number in range(101):
        begun, total = (0, 1), 0.0
        for token in numbers.ids[number]:
            total += logprobs(begun)[token]
            begun = (*begun, token)
        total += np.log(sum(np.exp(logprobs(begun)[i]) for i, text in enumerate(texts) if not text[0].isdigit()))
        assert np.exp(found.get(number, -np.inf)) == pytest.approx(np.exp(total), abs=2e-8)
    assert sum(map(np.exp, found.values())) <= 1 + 1e-9


def test_which_numbers_there_are_and_what_makes_another_one_of_a_number() -> None:
    whole, digits = Numbers(Splits([*(str(n) for n in range(101))])), Numbers(Splits(["5%", *DIGITS, "x7"]))
    assert whole.are_tokens and not digits.are_tokens
    assert list(whole.ids) == list(range(101)) and digits.ids[42] == (5, 3)
    assert digits.going_on == tuple(range(11))


def test_a_number_that_always_goes_on_never_ends_and_what_is_unlikely_is_left_out() -> None:
    """Rounding may take the sum of what goes on beyond 1."""

    def score(prompts: Any, ids: Any) -> Any:
        return [np.asarray([-30.0 if token == 9 else np.log(0.112) for token in listed]) for listed in ids]

    (found,) = Numbers(Splits(DIGITS)).logprobs([(3,)], score)
    assert found[15] == -np.inf and found[0] == -np.inf and 100 in found
    assert not {9, 90, 99, 19} & set(found)
