"""The answers of a judged evaluation: they are judged again at will, by any judge, without being sampled again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_eval.facts import Facts, Workload
from sgtr_jax.experiment.asked import Asked
from sgtr_jax.experiment.node import MadeNode, Node, Sampled, Settings
from sgtr_jax.experiment.tasks import with_digests
from sgtr_jax.experiment.training_node import Link, links
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext


@dataclass(frozen=True, eq=False)
class Answers(MadeNode):
    """`log/`: an Inspect log without scores."""

    kind = "answers"
    version = 3
    name: str
    asked: Asked
    chain: tuple[Link, ...]
    facts: Facts  # of the task
    arguments: Mapping[str, Json]  # without those that only the judging reads
    for_judging: Mapping[str, Json]  # those, without which the task cannot be made; they change no answer
    code: Mapping[str, Json]  # what says which code of somebody else asks; nothing for tasks of `sgtr_eval`

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        return {
            **self.asked.identity(),
            "task": self.facts.name,
            "arguments": with_digests(self.arguments),
            **self.code,
        }

    @property
    def all_arguments(self) -> dict[str, Json]:
        """What the task is made with."""
        return {**self.arguments, **self.for_judging}

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        return links(self.chain)

    def workload(self) -> Workload:
        """What the model is asked."""
        return self.facts.workload(self.arguments)

    def sampled(self) -> Sampled:
        """See `Node`."""
        load = self.workload()
        return Sampled(load.answers, load.questions, load.asked, load.answered, load.groups, load.shared)

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        from sgtr_jax.experiment.evaluate import sample_answers

        model = context.model_under_test(self.asked, self.chain)
        sample_answers(self.facts, self.all_arguments, model, folder, self.name)
