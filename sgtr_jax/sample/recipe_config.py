"""The settings of sampling a trait's answers; `sample.trait_rows` does it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import NonNegativeFloat

from sgtr_jax.config import Config, Count, PositiveInt, Seed

# prompted: answers are read behind the system prompt under which they were given. plain: without it.
Context: TypeAlias = Literal["prompted", "plain"]


class RecipeDraws(Config):
    """How a trait's answers are sampled, and in which context their states are read."""

    # With `recipe`: how many answers are sampled for each question under each system prompt. arXiv 2507.21509 takes 10.
    samples: Count = 10
    temperature: NonNegativeFloat = 1.0  # With `recipe`: the temperature of sampling.
    max_tokens: PositiveInt = 200  # With `recipe`: the largest number of tokens of an answer.
    seed: Seed = 0  # With `recipe`: another number gives other answers. It is the same for all seeds of an experiment.
    # With `recipe`: whether answers are read behind the system prompt under which they were given, as arXiv 2507.21509
    # does (prompted), or behind the question alone (plain).
    context: Context = "prompted"
