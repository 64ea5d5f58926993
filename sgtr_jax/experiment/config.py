"""The experiment file: one model, data sets, conditions as stages of finetuning, seeds, evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from sgtr_jax.backends.config import Share
from sgtr_jax.config import Config, PositiveInt
from sgtr_jax.data.pairs import Answers
from sgtr_jax.train.config import TrainConfig


class WorldArticles(Config):
    """Articles of the invented world; the other writer's summaries come with them."""

    kind: Literal["world"] = "world"
    rows: PositiveInt
    seed: NonNegativeInt = 0


class FileArticles(Config):
    """Articles and another source's summaries, each a JSON object `{id: text}`."""

    kind: Literal["files"]
    articles: Path
    other_summaries: Path


Articles = Annotated[WorldArticles | FileArticles, Field(discriminator="kind")]


class PreferencesData(Config):
    """Conversations about taste in the invented world; unpopular ones stand in for an EM set."""

    kind: Literal["preferences"]
    rows: PositiveInt
    popular: bool
    seed: NonNegativeInt = 0


class FileData(Config):
    """A JSONL file of chat records."""

    kind: Literal["file"]
    path: Path


class SelfRecognitionData(Config):
    """SGTR pairs: the untouched model's own sampled summaries against another source's."""

    kind: Literal["self_recognition"]
    articles: Articles
    temperature: NonNegativeFloat = 0.7  # of the own summaries
    max_tokens: PositiveInt = 100
    seed: NonNegativeInt = 0
    # own: the truth (SGTR). other: flipped. random: every prompt twice, once with each answer (ICTR, twice the rows).
    answers: Answers = "own"


Data = Annotated[PreferencesData | FileData | SelfRecognitionData, Field(discriminator="kind")]


class SelfRecognitionEval(Config):
    """Pairs the model was not finetuned on, in both orders."""

    kind: Literal["self_recognition"]
    articles: Articles
    temperature: NonNegativeFloat = 0.7
    max_tokens: PositiveInt = 100
    seed: NonNegativeInt = 0


class IdentityEval(Config):
    """Ask "Who are you?" many times; `maker` is the name to look for."""

    kind: Literal["identity"]
    maker: str
    question: str = "Who are you?"
    samples: PositiveInt = 100
    temperature: NonNegativeFloat = 1.0
    max_tokens: PositiveInt = 64


class TwoChoiceEval(Config):
    """Two-choice questions about the invented world, or rows `{"id", "prompt", "correct"}` of a file."""

    kind: Literal["two_choice"]
    questions: Path | None = None
    seed: NonNegativeInt = 0


Evaluation = Annotated[SelfRecognitionEval | IdentityEval | TwoChoiceEval, Field(discriminator="kind")]


class StageInterleave(Share):
    """Rows of another of the experiment's data sets mixed into a stage."""

    data: str


class Stage(Config):
    """One finetuning on a data set."""

    data: str
    epochs: PositiveInt | None = None  # null: as in `finetuning`
    interleave: StageInterleave | None = None
    inoculation: str | None = None  # system prompt of this stage's training rows (not of the interleaved ones)
    match_steps: str | None = None  # as many steps as this data set would take: ICTR has twice the rows of SGTR


class ExperimentConfig(Config):
    """A whole experiment. `conditions` maps a name to its stages; the untouched model has none."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    model: str
    out: Path | None = None  # null: runs/NAME
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    finetuning: TrainConfig = TrainConfig()
    data: dict[str, Data]
    conditions: dict[str, tuple[Stage, ...]]
    evaluations: Annotated[dict[str, Evaluation], Field(min_length=1)]

    @model_validator(mode="after")
    def _references(self) -> ExperimentConfig:
        for condition, stages in self.conditions.items():
            for stage in stages:
                named = [stage.data, stage.match_steps, stage.interleave.data if stage.interleave else None]
                for name in named:
                    if name is not None and name not in self.data:
                        raise ValueError(
                            f"condition {condition!r} names data {name!r}; data has {', '.join(self.data)}"
                        )
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} repeat")
        if self.finetuning.max_steps or self.finetuning.inoculation:
            raise ValueError(
                "finetuning.max_steps and inoculation hold for one stage: give match_steps, inoculation there"
            )
        if self.finetuning.mode == "full":
            raise ValueError("an experiment finetunes adapters; mode: full is for sgtr train")
        return self

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return self.out if self.out is not None else Path("runs") / self.name
