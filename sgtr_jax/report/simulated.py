"""Contrasts on data with known effects: how often what the report says is right, and with what power."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy

from sgtr_eval.statistics import Difference
from sgtr_jax.report.contrasts import Scores, difference_of


@dataclass(frozen=True)
class Size:
    """How much is asked: of each of `seeds` runs, `draws` answers to each of `questions`."""

    seeds: int
    questions: int
    draws: int

    @property
    def answers(self) -> int:
        """Answers of one seed."""
        return self.questions * self.draws


@dataclass(frozen=True)
class Condition:
    """The share that runs of a recipe have on average, and its standard deviation between them."""

    share: float
    between: float
    trained: bool = True  # False: the base model, one run that does not vary


@dataclass(frozen=True)
class Questions:
    """How much of an answer is decided by the question alone, and by the question and the condition together."""

    alone: float
    with_condition: float


def simulated(
    one: Condition, other: Condition, size: Size, questions: Questions, paired: bool, trials: int, seed: int
) -> Iterator[Difference]:
    """What the report finds of two conditions whose shares are known, once for each trial.

    The shares of seeds have a beta distribution. Of each question a part of the answers is the same in all, right
    where a number of the question's own is below the share: the mean over questions is the share. `paired`: seeds go
    together, as where both conditions continue the same model, and half of what they vary by is common.
    """
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        common = rng.normal(size=size.seeds) if paired else None
        levels = rng.random(size.questions)
        both = [_drawn(rng, condition, size, questions, levels, common) for condition in (one, other)]
        yield difference_of(both[0], both[1], size.answers, paired)[0]


def _drawn(
    rng: np.random.Generator,
    condition: Condition,
    size: Size,
    questions: Questions,
    levels: np.ndarray,
    common: np.ndarray | None,
) -> Scores:
    runs = size.seeds if condition.trained else 1
    normal = rng.normal(size=runs)
    if common is not None and condition.trained:
        normal = (normal + common) / math.sqrt(2)
    shares = _shares(condition, scipy.stats.norm.cdf(normal))[:, None]
    own = rng.random(size.questions)
    if size.questions == 1:  # no question differs from another
        chances = shares
    else:
        rest = 1 - questions.alone - questions.with_condition
        chances = questions.alone * (levels < shares) + questions.with_condition * (own < shares) + rest * shares
    table = rng.binomial(size.draws, np.clip(chances, 0, 1)) / size.draws
    values = {seed: float(row.mean()) for seed, row in enumerate(table)}
    by_question = {seed: dict(enumerate(row.tolist())) for seed, row in enumerate(table)}
    named = {seed: {str(question): value for question, value in row.items()} for seed, row in by_question.items()}
    return Scores(values, named, condition.trained)


def _shares(condition: Condition, quantiles: np.ndarray) -> np.ndarray:
    """The shares of seeds; a spread that no distribution of shares has is taken as the largest that one has."""
    share, variance = condition.share, condition.between**2
    if not condition.trained or variance == 0 or share in (0, 1):
        return np.full(len(quantiles), share)
    concentration = max(share * (1 - share) / variance - 1, 0.1)
    return np.asarray(scipy.stats.beta.ppf(quantiles, share * concentration, (1 - share) * concentration), float)
