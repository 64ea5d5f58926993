"""Evaluations: what each of them says of itself, and its config's place in an experiment's file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import unwrap
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from sgtr_eval.facts import Facts, Workload, facts_of
from sgtr_jax.config import Config
from sgtr_jax.data.duplicates import Item
from sgtr_jax.experiment.asked import Asked
from sgtr_jax.experiment.made_from import Part
from sgtr_jax.experiment.node import MadeNode, Node, Sampled, Settings
from sgtr_jax.experiment.services import JudgeConfig
from sgtr_jax.experiment.tasks import parameters_of
from sgtr_jax.experiment.training_node import Link, links
from sgtr_jax.files import write_json
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder
    from sgtr_jax.experiment.nodes.answers import Answers
    from sgtr_jax.models.spec import ModelSpec


@dataclass(frozen=True)
class Measured:
    """A task on a model: what every evaluation has. `name` is the node's, `evaluation` that in the config."""

    name: str
    evaluation: str
    facts: Facts
    asked: Asked
    chain: tuple[Link, ...]


@dataclass(frozen=True, eq=False)
class EvaluationNode(MadeNode):
    """`metrics.json`, `samples.jsonl` and Inspect's `log/`."""

    kind = "evaluation"
    version = 5
    before_training = False
    reads_states: ClassVar[bool] = False  # whether it looks inside of the model, which `check_model` is asked about
    model: Measured

    @property
    def name(self) -> str:  # type: ignore[override]
        """The evaluation, the condition and the seed."""
        return self.model.name

    @property
    def evaluation(self) -> str:
        """The evaluation's name in the config."""
        return self.model.evaluation

    @property
    def task(self) -> str:
        """The task's name."""
        return self.facts.name

    @property
    def facts(self) -> Facts:
        """What the task says of itself."""
        return self.model.facts

    @property
    def chain(self) -> tuple[Link, ...]:
        """The stages of the condition."""
        return self.model.chain

    @property
    def answers(self) -> Answers | None:
        """What a judge reads; None where nobody judges."""
        return None

    @property
    def judged_by(self) -> JudgeConfig | None:
        """Who reads the answers; None where nobody judges."""
        return None

    @property
    def to_sample(self) -> MadeNode:
        """The artifact that the model under test has to answer for."""
        return self.answers or self

    @property
    @abstractmethod
    def arguments(self) -> Mapping[str, Json]:
        """The task's arguments, as far as they are known before anything is made; the judge's too."""

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        return {**self.model.asked.identity(), "task": self.task, **self.own_settings, **self.revision}

    @property
    def revision(self) -> Settings:
        """The revision of the task's scores, from the second one on."""
        return {"revision": self.facts.revision} if self.facts.revision > 1 else {}

    @property
    @abstractmethod
    def own_settings(self) -> Settings:
        """Those besides the model and the task."""

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        return links(self.chain)

    @property
    def question_settings(self) -> Settings:
        """Those that decide what is asked, whatever model answers."""
        return {"task": self.task, **self.own_settings}

    def workload(self) -> Workload:
        """What the model is asked."""
        return self.facts.workload(self.arguments)

    def sampled(self) -> Sampled | None:
        """See `Node`."""
        load = self.workload()
        return Sampled(load.answers, load.questions, load.asked, load.answered, load.groups, load.shared)

    def items(self) -> dict[str, Item]:
        """What is asked about, by question. Raises InputError or RunError, as fetching does."""
        # The function itself: where texts are missing it says so before it needs Inspect, which is slow to import.
        taken = unwrap(self.facts.task)
        # One draw of a question holds all that is asked, however many are sampled.
        one = {"samples": 1} if "samples" in parameters_of(self.facts.task) else {}
        made = taken(**{**self.arguments, **one})
        return {self.facts.question_of(str(sample.id)): self.facts.item(sample) for sample in made.dataset}

    @property
    def split(self) -> str | None:
        """Which half of a set with two halves is asked about."""
        return None

    @property
    def asks_own_texts(self) -> bool:
        """Whether it asks what ships with the project where the study has texts of its own."""
        return self.facts.own_texts(self.arguments)

    def check_model(self, spec: ModelSpec) -> None:
        """Raise InputError where it names what a model of this shape does not have."""

    def write_refusal(self, folder: Path, why: str) -> None:
        """See `MadeNode`: metrics that are missing, and why."""
        write_json(folder / "metrics.json", {"outcome": why})

    def _measure(self, arguments: Mapping[str, Json], context: RunContext, folder: Path) -> None:
        # Inspect is slow to import; runs with nothing left to evaluate do not pay for it.
        from sgtr_jax.experiment.evaluate import evaluate

        model = context.model_under_test(self.model.asked, self.chain)
        write_json(folder / "metrics.json", evaluate(self.facts, dict(arguments), model, folder, self.name))


class EvaluationConfig(Config):
    """An evaluation of an experiment, which measures every condition."""

    kind: str

    @property
    def facts(self) -> Facts:
        """What is to be known of its task. Raises InputError for a task of somebody else that is not there."""
        return facts_of(self.kind)

    @property
    def parts(self) -> list[Part]:
        """The data sets and directions of the experiment that it reads."""
        return []

    def node(self, name: str, condition: str, seed: int, graph: GraphBuilder) -> EvaluationNode:
        """The measurement of a condition at a seed; `name` is the evaluation's. Raises InputError."""
        label = f"{name}-{condition}-s{seed}"
        model = Measured(label, name, self.facts, graph.asked(condition), graph.chain(condition, seed))
        return self.measured(name, seed, model, graph)

    @abstractmethod
    def measured(self, name: str, seed: int, model: Measured, graph: GraphBuilder) -> EvaluationNode:
        """See `node`."""


C = TypeVar("C", bound=type[EvaluationConfig])
_CONFIGS: dict[str, type[EvaluationConfig]] = {}


def evaluation_kind(kind: str) -> Callable[[C], C]:
    """Make a config known as that of evaluations of a kind. All other kinds are tasks with `settings`."""

    def known(config: C) -> C:
        _CONFIGS[kind] = config
        return config

    return known


def evaluation_configs() -> dict[str, type[EvaluationConfig]]:
    """The configs of the files in `experiment/nodes/`, by kind."""
    from sgtr_jax.experiment import nodes

    nodes.discover()
    return dict(_CONFIGS)
