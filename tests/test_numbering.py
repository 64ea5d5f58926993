"""An engine of ours as the judge: the distribution of whole numbers 0 to 100 under its own tokens, number by number."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import pytest
import torch
from tiny import make_model
from transformers import AutoModelForCausalLM

from sgtr_eval import asking, judge
from sgtr_eval.judge import Verdict, score_of
from sgtr_eval.numbering import Numbers
from sgtr_eval.prices import Budget
from sgtr_eval.provider import inspect_model
from sgtr_jax.model import Model, load_model

PROMPT = "How well does it fit? Reply with a number."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("judge")
    make_model(folder)
    return load_model(str(folder), "float32")


def by_torch(model: Model, prompt: list[int]) -> dict[int, float]:
    """P(the reply begins with exactly this number), each number by itself, by transformers in float64."""
    reference = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float64)
    tokenizer = model.tokenizer
    digits = [i for i in range(len(tokenizer)) if tokenizer.decode([i])[:1] in tuple("0123456789")]
    found = {}
    for number in range(101):
        ids = tokenizer.encode(str(number), add_special_tokens=False)
        with torch.no_grad():
            logits = reference(torch.tensor([prompt + ids])).logits[0]
        after = torch.log_softmax(logits[len(prompt) - 1 :], dim=-1).numpy()
        goes_on = np.exp(after[len(ids), digits]).sum()
        found[number] = float(np.exp(sum(after[i, token] for i, token in enumerate(ids)) + np.log1p(-goes_on)))
    return found


def score(model: Model, min_mass: float) -> Verdict:
    async def ask() -> Verdict:
        grader = inspect_model(model)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asking, "the_judge", lambda: grader)
            patch.setattr(judge, "the_judge", lambda: grader)
            return await score_of(PROMPT, None, min_mass, Budget(None))

    return anyio.run(ask)


def test_the_mean_is_over_whole_numbers_digit_by_digit(model: Model) -> None:
    lengths = [len(ids) for ids in Numbers(model.tokenizer).ids.values()]
    assert not Numbers(model.tokenizer).are_tokens and max(lengths) == 3  # one token a digit
    from sgtr_jax.sample.config import SampleConfig

    prompt = SampleConfig().chat(model.tokenizer).prompt_ids([{"role": "user", "content": PROMPT}])
    wanted = by_torch(model, list(prompt))
    mass = sum(wanted.values())
    found = score(model, 0.9 * mass)
    shares: dict[str, float] = found.record["number_logprobs"]
    for number, share in wanted.items():  # what is too unlikely to move the mean is left out
        assert np.exp(shares.get(str(number), -np.inf)) == pytest.approx(share, rel=1e-4, abs=2e-8), number
    mean = sum(number * p for number, p in wanted.items()) / mass
    assert found.score == pytest.approx(mean, abs=1e-3) and not found.from_words
    # The first digits alone would have said another thing.
    assert abs(mean - sum(int(str(n)[0]) * p for n, p in wanted.items()) / mass) > 1
    assert score(model, 1.1 * mass).no_score == "no mass"


class Splits:
    """A tokenizer of the texts that it is given, one token each, longest first."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
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
