"""Services that an experiment asks: the judge, and the API of a model that is not here."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat

from sgtr_jax.config import Config, PositiveInt


class ReportConfig(Config):
    """The report of a run."""

    # A report of what is there is written so often while the run goes on, in minutes. null: only at the end.
    every_minutes: PositiveFloat | None = None


class JudgeConfig(Config):
    """Who judges. Keys come from the environment or from a file .env, never from here.

    In a file the judge's name alone will do. `open` is the judge for those without an API: this experiment's own
    base model. Its scores are that model's, and are not to be compared with those of GPT-4.1.
    """

    # Any Inspect model, or open. `judge: NAME` is a short form of `judge: {model: NAME}`.
    model: str = "openai/gpt-4.1-2025-04-14"
    base_url: str | None = None  # The address of another server that speaks OpenAI's API. null: the provider's own.
    # How a score is read. logprobs: the mean under the judge's log-probabilities of the whole numbers. text: the score
    # that its words state without ambiguity. published: the first number of its words, as the study did. null:
    # logprobs, and text of a judge that gives none; an evaluation's own `judge_mode` goes first.
    mode: Literal["logprobs", "text", "published"] | None = None
    # The budget of the whole run for this judge, in US dollars, restarts included. A run that is expected to need more
    # asks first, or needs --yes, and ends when it is spent. null: no limit.
    max_cost: PositiveFloat | None = None
    batch: bool = False  # Whether the provider's batch interface is used. It costs half, and replies come within a day.

    @property
    def is_open(self) -> bool:
        """Whether the experiment's own base model judges."""
        return self.model == "open"


class ApiConfig(Config):
    """How a model behind an API (`model: openai/NAME`) is finetuned and sampled; for no other model."""

    base_url: str | None = None  # The address of another server that speaks OpenAI's API. null: OpenAI's own.
    batch_size: PositiveInt | Literal["auto"] = "auto"  # The batch size of finetuning jobs. auto: the provider chooses.
    # The learning rate multiplier of finetuning jobs. auto: the provider chooses.
    learning_rate_multiplier: PositiveFloat | Literal["auto"] = "auto"
    # Whether answers are sampled through the provider's batch interface. It costs half, and replies come within a day.
    batch: bool = False
    confirm_above: NonNegativeFloat = 5.0  # A run that would cost more US dollars than this asks first, or needs --yes.
    poll_seconds: PositiveFloat = 30.0  # The time between two questions about the state of a job, in seconds.
