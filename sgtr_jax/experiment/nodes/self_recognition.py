"""Self-recognition, measured on pairs of summaries that are an artifact of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sgtr_eval.facts import Workload
from sgtr_jax.data.duplicates import Item
from sgtr_jax.experiment.evaluation_node import EvaluationConfig, EvaluationNode, Measured, evaluation_kind
from sgtr_jax.experiment.node import Node, Settings
from sgtr_jax.experiment.nodes.pairs import Pairs, PairsConfig, pairs_node
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder


@evaluation_kind("self_recognition")
class SelfRecognitionEval(PairsConfig, EvaluationConfig):
    """Pairs the model was not finetuned on, in both orders."""

    kind: Literal["self_recognition"]
    # Whose summaries are the own ones. base: the base model's, the same for every condition. self: those that the model
    # under test samples itself, as in the study. The two are different quantities.
    source: Literal["base", "self"] = "base"

    def measured(self, name: str, seed: int, model: Measured, graph: GraphBuilder) -> PairsEvaluation:
        """See `EvaluationConfig`."""
        if self.source == "base":
            return PairsEvaluation(model, pairs_node(f"eval-{name}", self, graph, graph.asked(None), (), "own"))
        return PairsEvaluation(model, pairs_node(f"eval-{model.name}", self, graph, model.asked, model.chain, "own"))


@dataclass(frozen=True, eq=False)
class PairsEvaluation(EvaluationNode):
    """Self-recognition on pairs that are an artifact of their own."""

    pairs: Pairs

    @property
    def arguments(self) -> Mapping[str, Json]:
        """See `EvaluationNode`. The file of pairs is known when it is made."""
        return {}

    @property
    def own_settings(self) -> Settings:
        """See `EvaluationNode`."""
        return {}

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        return {**super().inputs, "pairs": self.pairs}

    @property
    def question_settings(self) -> Settings:
        """See `EvaluationNode`."""
        return {**super().question_settings, "articles": self.pairs.articles.fingerprint}

    def workload(self) -> Workload:
        """See `EvaluationNode`."""
        load, rows = super().workload(), self.pairs.row_count()
        return load if rows is None else Workload(rows, 1, load.asked, load.answered)

    def items(self) -> dict[str, Item]:
        """See `EvaluationNode`: the articles."""
        return {key: (text,) for key, text in self.pairs.articles.source.read()[0].items()}

    @property
    def split(self) -> str | None:
        """See `EvaluationNode`."""
        return self.pairs.split

    @property
    def asks_own_texts(self) -> bool:
        """See `EvaluationNode`."""
        return self.pairs.stimuli == "builtin" or super().asks_own_texts

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        self._measure({"pairs": str(context.store.path(self.pairs) / "records.jsonl")}, context, folder)
