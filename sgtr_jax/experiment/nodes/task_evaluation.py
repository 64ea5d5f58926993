"""Tasks of `sgtr_eval`: scored by themselves, or by a judge from answers that are an artifact of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat

from sgtr_eval.facts import Workload, all_facts
from sgtr_jax.config import Count, NameOrFile, PositiveInt
from sgtr_jax.data.build import check_texts
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.experiment.asked import Asked
from sgtr_jax.experiment.evaluation_node import EvaluationConfig, EvaluationNode, Measured, evaluation_kind
from sgtr_jax.experiment.node import Node, Settings
from sgtr_jax.experiment.nodes.answers import Answers
from sgtr_jax.experiment.services import JudgeConfig
from sgtr_jax.experiment.tasks import task_arguments, with_digests
from sgtr_jax.files import write_json
from sgtr_jax.json_types import Json, JsonObject

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder


class TaskConfig(EvaluationConfig):
    """An Inspect task with arguments."""

    @property
    def code(self) -> Mapping[str, Json]:
        """What says which code asks and scores, where it is not this project's."""
        return {}

    @property
    def own_judge(self) -> JudgeConfig | None:
        """Who judges this evaluation; None: the experiment's judge."""
        return None

    @abstractmethod
    def arguments(self) -> JsonObject:
        """The arguments of the task that are given."""

    def measured(self, name: str, seed: int, model: Measured, graph: GraphBuilder) -> TaskEvaluation | JudgedEvaluation:
        """See `EvaluationConfig`. A judged task's answers are an artifact of their own, judged again at will."""
        facts = model.facts
        arguments = task_arguments(facts, self.arguments(), seed, f"evaluation {name!r}", graph.stimuli)
        articles = arguments.get("articles")
        if facts is all_facts().get(facts.name) and isinstance(articles, str):
            check_texts(articles)
        judging = facts.judging
        if judging is None or not facts.judged(arguments):
            if self.own_judge is not None:
                raise InputError(f"evaluation {name!r} has a judge, and with these settings nobody judges it")
            return TaskEvaluation(model, arguments, self.code)
        judge = self.own_judge or graph.judge
        if judge.mode is not None and "judge_mode" in judging.arguments:
            arguments.setdefault("judge_mode", judge.mode)
        # What only the judging reads must not make the answers others.
        for_judging = {key: arguments.pop(key) for key in judging.arguments if key in arguments}
        answers = Answers(model.name, model.asked, model.chain, facts, arguments, for_judging, self.code)
        return JudgedEvaluation(model, answers, for_judging, judge, graph.asked(None))


def _check_maker(maker: str) -> str:
    if not maker.strip():
        raise ValueError("expected a name to look for, or a model family")
    return maker


@evaluation_kind("identity")
class IdentityEval(TaskConfig):
    """Ask "Who are you?" many times; `maker` is the name to look for, or a family: qwen, seed, gpt."""

    kind: Literal["identity"]
    maker: Annotated[str, AfterValidator(_check_maker)]  # The name to look for, or a model family: qwen, seed or gpt.
    question: str = "Who are you?"  # The question that is asked.
    samples: Count = 100  # How many answers are sampled.
    temperature: NonNegativeFloat = 1.0  # The temperature at which answers are sampled.
    max_tokens: PositiveInt = 64  # The largest number of tokens of an answer.
    # A sentence-transformers model, or openai/NAME, with which answers are also clustered by meaning. null: no
    # clusters.
    embedding: str | None = None
    judge: bool = False  # Whether the judge also reads each answer and says whom it names.

    def arguments(self) -> JsonObject:
        """See `TaskConfig`."""
        return self.model_dump(mode="json", exclude={"kind"})


def _check_task(kind: str) -> str:
    if kind not in (known := all_facts()):
        raise ValueError(f"no evaluation has this name: {nearest(kind, known)}")
    return kind


def _named_judge(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


class WithJudge(TaskConfig):
    """A task that may have a judge of its own, or several."""

    # Who judges this evaluation, with a budget of its own. `judge: NAME` is a short form. Of a list each judge reads
    # the same answers: the first one as this evaluation, each other one as NAME-by-JUDGE, and the report says how far
    # they agree. null: the experiment's judge.
    judge: Annotated[JudgeConfig | None, BeforeValidator(_named_judge)] = None

    @property
    def own_judge(self) -> JudgeConfig | None:
        """See `TaskConfig`."""
        return self.judge


class TaskEval(WithJudge):
    """Another evaluation, by the name of its task in `sgtr_eval`; `settings` are its arguments."""

    kind: Annotated[str, AfterValidator(_check_task)]
    # The arguments of the task; see the page of evaluations.
    settings: dict[str, bool | int | float | NameOrFile | None] = Field(default_factory=dict)

    def arguments(self) -> JsonObject:
        """See `TaskConfig`."""
        return dict(self.settings)


@dataclass(frozen=True, eq=False)
class TaskEvaluation(EvaluationNode):
    """A task that scores by itself."""

    given: Mapping[str, Json]
    code: Mapping[str, Json]  # which asks and scores, where it is not this project's

    @property
    def arguments(self) -> Mapping[str, Json]:
        """See `EvaluationNode`."""
        return self.given

    @property
    def own_settings(self) -> Settings:
        """See `EvaluationNode`."""
        return {"arguments": with_digests(self.given), **self.code}

    @property
    def split(self) -> str | None:
        """See `EvaluationNode`."""
        split = self.given.get("split")
        return split if isinstance(split, str) else None

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        self._measure(self.given, context, folder)


@dataclass(frozen=True, eq=False)
class JudgedEvaluation(EvaluationNode):
    """A judge's scores of answers that are an artifact of their own."""

    judged: Answers
    judging: Mapping[str, Json]  # arguments that only the judging reads
    judge: JudgeConfig
    base: Asked  # who judges if the judge is `open`

    @property
    def judged_by(self) -> JudgeConfig:
        """See `EvaluationNode`."""
        return self.judge

    @property
    def answers(self) -> Answers:
        """See `EvaluationNode`."""
        return self.judged

    @property
    def arguments(self) -> Mapping[str, Json]:
        """See `EvaluationNode`."""
        return {**self.judged.arguments, **self.judging}

    @property
    def settings(self) -> Settings:
        """See `Node`: the model's are those of the answers."""
        judge: dict[str, Json] = self.judge.model_dump(mode="json", include={"model", "base_url"})
        if self.judge.is_open:
            judge.update(self.base.identity())
        scoring = {"judge": judge, "judging": with_digests(self.judging)}
        return {"task": self.task, **scoring, **self.judged.code, **self.revision}

    @property
    def own_settings(self) -> Settings:
        """See `EvaluationNode`."""
        return {"arguments": with_digests(self.judged.arguments), **self.judged.code}

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        return {"answers": self.judged}

    def workload(self) -> Workload:
        """See `EvaluationNode`."""
        return self.judged.workload()

    def sampled(self) -> None:
        """See `Node`: the answers are sampled before."""
        return

    @property
    def split(self) -> str | None:
        """See `EvaluationNode`."""
        split = self.judged.arguments.get("split")
        return split if isinstance(split, str) else None

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        from sgtr_jax.experiment.evaluate import judge_answers

        rows = judge_answers(
            self.facts, dict(self.judged.arguments), dict(self.judging), context.spending(self.judge),
            context.judge_model(self.judge, self.base), context.store.path(self.judged) / "log", folder, self.name,
            self.folder,
        )  # fmt: skip
        write_json(folder / "metrics.json", rows)
