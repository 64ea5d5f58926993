"""A judge that is a model of ours, and each number's probability by itself, from any model's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import numpy as np
import pytest
from scipy.special import log_softmax

from sgtr_eval.judging import ask as asking
from sgtr_eval.judging import scoring as judge
from sgtr_eval.judging.budget import Budget
from sgtr_eval.judging.scoring import Verdict, score_of
from sgtr_eval.judging.whole_numbers import Numbers
from sgtr_eval.provider import inspect_model
from sgtr_jax.sample.config import SampleConfig
from sgtr_jax.sample.model import Model

PROMPT = "How well does it fit? Reply with a number."


def number_by_number(logits_of: Callable[[list[int]], Any], tokenizer: Any, prompt: list[int]) -> dict[int, float]:
    """P(the reply begins with exactly this number), for 0 to 100; `logits_of(tokens)` is [T, V]."""
    digits = [i for i in range(len(tokenizer)) if tokenizer.decode([i])[:1] in tuple("0123456789")]
    found = {}
    for number in range(101):
        ids = tokenizer.encode(str(number), add_special_tokens=False)
        after = log_softmax(np.float64(logits_of(prompt + ids)[len(prompt) - 1 :]), axis=-1)
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


def check_whole_numbers(model: Model, logits_of: Callable[[list[int]], Any]) -> None:
    """The judge's distribution is that of whole numbers, not of their first digits."""
    lengths = [len(ids) for ids in Numbers(model.tokenizer).ids.values()]
    assert not Numbers(model.tokenizer).are_tokens and max(lengths) == 3  # one token a digit
    prompt = SampleConfig().chat(model.tokenizer).prompt_ids([{"role": "user", "content": PROMPT}])
    wanted = number_by_number(logits_of, model.tokenizer, list(prompt))
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
