"""Two-choice questions of the invented world, or of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sgtr_jax.config import FilePath, Seed
from sgtr_jax.data.duplicates import Item
from sgtr_jax.data.questions import read_choices
from sgtr_jax.data.world import corpus
from sgtr_jax.experiment.evaluation_node import EvaluationConfig, EvaluationNode, Measured, evaluation_kind
from sgtr_jax.experiment.node import Settings
from sgtr_jax.files import check_is_file, write_jsonl
from sgtr_jax.fingerprint import file_fingerprint
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder


@evaluation_kind("two_choice")
class TwoChoiceEval(EvaluationConfig):
    """Two-choice questions about the invented world, or rows `{"id", "prompt", "correct"}` of a file."""

    kind: Literal["two_choice"]
    questions: FilePath | None = None  # The file of questions. null: questions about the invented world.
    seed: Seed = 0  # Another number gives other questions about the invented world.

    def measured(self, name: str, seed: int, model: Measured, graph: GraphBuilder) -> TwoChoiceEvaluation:
        """See `EvaluationConfig`."""
        if self.questions is None:
            return TwoChoiceEvaluation(model, self, None)
        check_is_file(self.questions, "the questions")
        read_choices(self.questions)
        return TwoChoiceEvaluation(model, self, file_fingerprint(self.questions))


@dataclass(frozen=True, eq=False)
class TwoChoiceEvaluation(EvaluationNode):
    """Two-choice questions of the invented world, or of a file."""

    config: TwoChoiceEval
    content: str | None  # digest of the file

    @property
    def arguments(self) -> Mapping[str, Json]:
        """See `EvaluationNode`. Questions about the world are written when it is made."""
        return {} if self.config.questions is None else {"questions": str(self.config.questions)}

    @property
    def own_settings(self) -> Settings:
        """See `EvaluationNode`."""
        own: dict[str, Json] = self.config.model_dump(mode="json")
        return own if self.content is None else {**own, "fingerprint": self.content}

    def items(self) -> dict[str, Item]:
        """See `EvaluationNode`."""
        if self.config.questions is not None:
            return super().items()
        return {row["id"]: (row["prompt"],) for row in corpus.choice_questions(self.config.seed)}

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        path = self.config.questions
        if path is None:
            path = folder / "questions.jsonl"
            write_jsonl(path, corpus.choice_questions(self.config.seed))
        self._measure({"questions": str(path)}, context, folder)
