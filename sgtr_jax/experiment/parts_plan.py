"""What each of several machines would make of a run: `sgtr plan --parts N`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from sgtr_jax.experiment.cost import Training, judging_of, training_of
from sgtr_jax.experiment.graph import Graph
from sgtr_jax.experiment.node import Node, Sampled
from sgtr_jax.experiment.parts import assigned
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.json_types import JsonObject

if TYPE_CHECKING:  # what estimates imports JAX
    from sgtr_jax.experiment.slice_estimate import OnSlice


@dataclass(frozen=True)
class PartPlan:
    """What is missing of one part. Hours are chip hours; None where no slice was asked about, or nothing fits."""

    artifacts: int
    runs: int
    steps: int
    answers: int
    hours: tuple[float, float] | None  # at least, and expected
    judge_dollars: float  # NaN: the judge has no price

    def to_json(self) -> JsonObject:
        """What `sgtr plan --json` says of a part."""
        return {
            "artifacts": self.artifacts, "runs": self.runs, "steps": self.steps, "answers": self.answers,
            "accelerator_hours_at_least": None if self.hours is None else self.hours[0],
            "accelerator_hours_expected": None if self.hours is None else self.hours[1],
            "judge_dollars": None if math.isnan(self.judge_dollars) else round(self.judge_dollars, 2),
        }  # fmt: skip


def plan_parts(graph: Graph, missing: Sequence[Node], parts: int, whole: OnSlice | None) -> list[PartPlan]:
    """The parts of `sgtr run --part I/N`, in order.

    Of the hours of the whole on a slice each part has its share: of training and of sampling by tokens, and of
    waiting for the host as of sampling.
    """
    part_of = assigned([cell.node for cell in graph.cells], parts)
    by_part = [[node for node in missing if part_of[node.fingerprint] == number + 1] for number in range(parts)]
    trained, sampled = (sum(map(count, by_part)) or 1.0 for count in (_trained_tokens, _sampled_tokens))
    found = []
    for nodes in by_part:
        own = None
        if whole is not None and whole.fits:
            of_training, of_sampling = _trained_tokens(nodes) / trained, _sampled_tokens(nodes) / sampled
            own = (
                whole.training.least * of_training + whole.sampled.least * of_sampling,
                whole.training.expected * of_training + (whole.sampled.expected + whole.host_hours) * of_sampling,
            )
        found.append(
            PartPlan(
                len(nodes), len(_trainings(nodes)), sum(one.steps or 0 for one in _trainings(nodes)),
                sum(one.answers for one in _samplings(nodes)), own, sum(judging_of(graph.config, nodes).values()),
            )
        )  # fmt: skip
    return found


def print_parts(console: Console, found: Sequence[PartPlan]) -> None:
    """A row for each part."""
    table = Table(title=f"{len(found)} parts: sgtr run CONFIG mirror=gs://BUCKET/FOLDER --part I/{len(found)}")
    for column in (
        "part",
        "artifacts",
        "runs",
        "steps",
        "answers",
        "chip hours (least, expected)",
        "dollars of judging",
    ):
        table.add_column(column, justify="right")
    for number, one in enumerate(found, 1):
        hours = "" if one.hours is None else f"{one.hours[0]:.3g}, {one.hours[1]:.3g}"
        dollars = "no price" if math.isnan(one.judge_dollars) else f"{one.judge_dollars:,.2f}"
        counts = (one.artifacts, one.runs, one.steps, one.answers)
        table.add_row(f"{number}/{len(found)}", *map(str, counts), hours, dollars)
    console.print(table)


def _trainings(nodes: Sequence[Node]) -> list[Training]:
    return [training_of(node) for node in nodes if isinstance(node, TrainingNode) and node.is_trained]


def _samplings(nodes: Sequence[Node]) -> list[Sampled]:
    return [one for node in nodes if (one := node.sampled()) is not None]


def _trained_tokens(nodes: Sequence[Node]) -> float:
    return sum((one.steps or 0) * one.node.training.batch_examples * one.lengths.mean * one.relative
               for one in _trainings(nodes))  # fmt: skip


def _sampled_tokens(nodes: Sequence[Node]) -> float:
    return sum(float(one.prompts * one.prompt_tokens + one.answers * one.answer_tokens) for one in _samplings(nodes))
