"""Evaluations of your own: an Inspect task of yours or of an installed package, or questions with a rubric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import Field, NonNegativeFloat, ValidationInfo, field_validator

from sgtr_eval.facts import Better, Facts, Judging, Workload, facts_of
from sgtr_eval.others import load_other
from sgtr_eval.tasks.questions import read_rubric, words_of
from sgtr_jax.config import Count, FilePath, NameOrFile, PositiveInt, from_folder
from sgtr_jax.data.questions import read_questions
from sgtr_jax.experiment.evaluation_node import evaluation_kind
from sgtr_jax.experiment.nodes.task_evaluation import WithJudge
from sgtr_jax.fingerprint import file_fingerprint
from sgtr_jax.json_types import Json, JsonObject


@evaluation_kind("task")
class OtherTaskEval(WithJudge):
    """Any Inspect task, with the engine as its model."""

    kind: Literal["task"]
    # The task: FILE.py@TASK, or PACKAGE/TASK of an installed package, such as inspect_evals/gsm8k.
    file: str
    # The arguments of the task. If it takes `seed` and none is given here, it gets the run's.
    settings: dict[str, bool | int | float | NameOrFile | list[str] | list[float] | None] = Field(default_factory=dict)
    metric: str  # The metric by which the evaluation is read, as the task's log names it.
    better: Better = "neither"  # Whether a higher or a lower value of the metric is better.
    # The least and the largest value of the metric. A metric from 0 to 1 is taken for a share of answers. null: without
    # bounds.
    range: tuple[float, float] | None = (0.0, 1.0)
    title: str | None = None  # What the metric counts, in words, for figures. null: the metric's name.
    # Whether the task's scorer asks a model in the role `grader`, which then is the experiment's judge.
    judged: bool = False
    answers: Count = 100  # The number of answers that `sgtr plan` counts with. How many it is, the task decides.

    @field_validator("file")
    @classmethod
    def _at_the_config(cls, file: str, info: ValidationInfo) -> str:
        return from_folder(file, info) if file.rpartition("@")[0].endswith(".py") else file

    @property
    def facts(self) -> Facts:
        """See `EvaluationConfig`."""
        other, title = load_other(self.file), self.title or self.metric
        return Facts(
            other.function, metric=self.metric, better=self.better, title=title, axis=title, extent=self.range,
            workload=lambda arguments: Workload(self.answers, 1, asked=300, answered=200), called=other.name,
            judging=Judging(reply_tokens=200, arguments=()) if self.judged else None,
        )  # fmt: skip

    @property
    def code(self) -> Mapping[str, Json]:
        """See `TaskConfig`."""
        other = load_other(self.file)
        parts: dict[str, Json] = {name: file_fingerprint(file) for name, file in other.files.items()}
        return {"code": parts if other.package is None else other.package}

    def arguments(self) -> JsonObject:
        """See `TaskConfig`."""
        return dict(self.settings)


@evaluation_kind("questions")
class QuestionsEval(WithJudge):
    """Questions of a file, whose answers a judge scores by a rubric of a file."""

    kind: Literal["questions"]
    # A JSONL file of questions: a prompt, or messages of which the last one is the user's, on each line; maybe with id,
    # system and reference.
    file: FilePath
    # A text file with the judge's instructions. {question} and {answer} are replaced, and {reference} by that of the
    # question. How the judge shall reply is added at the end.
    rubric: FilePath
    # What the judge gives: a number from 0 to 100, or one of `choices`.
    scale: Literal["0-100", "choices"] = "0-100"
    # The verdicts, with the value of each, as {misaligned: 1, aligned: 0}. A list means 1 for the first one and 0 for
    # the others.
    choices: dict[str, float] | list[str] | None = None
    better: Better = "neither"  # Whether a higher or a lower mean score is better.
    title: str | None = None  # What the score says, in words, for figures. null: mean score.
    samples: Count = 10  # How many answers are sampled for each question.
    temperature: NonNegativeFloat = 1.0  # The temperature at which answers are sampled.
    max_tokens: PositiveInt = 600  # The largest number of tokens of an answer.
    system: str | None = None  # A system prompt for every question that has none of its own.

    @property
    def facts(self) -> Facts:
        """See `EvaluationConfig`."""
        words, title = words_of(self.scale, self.choices), self.title or "mean score"
        extent = (0.0, 100.0) if words is None else (min(words.values()), max(words.values()))
        return replace(facts_of("questions"), better=self.better, title=title, axis=title, extent=extent)

    def arguments(self) -> JsonObject:
        """See `TaskConfig`. Raises InputError for files that cannot be asked or judged by."""
        read_rubric(self.rubric, read_questions(self.file))
        return self.model_dump(mode="json", exclude={"kind", "better", "title", "judge"})
