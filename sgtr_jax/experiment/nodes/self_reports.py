"""Self-reports: the questions of a set, answered by a model of the experiment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat

from sgtr_jax.config import NameOrFile, PositiveInt
from sgtr_jax.data.build import check_files, set_key
from sgtr_jax.data.records import to_jsonl
from sgtr_jax.data.registry import find, registry
from sgtr_jax.errors import RunError
from sgtr_jax.experiment.asked import Asked
from sgtr_jax.experiment.data_node import RECORDS, DataConfig, DataNode, data_kind, stored_texts, texts_of_records
from sgtr_jax.experiment.node import Node, Sampled, Settings
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.tasks import with_digests
from sgtr_jax.experiment.training_node import Link, links
from sgtr_jax.files import write_json, write_jsonl
from sgtr_jax.sample.config import SamplingParams

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder


@data_kind
class SelfReportsData(DataConfig):
    """What a model of this experiment says of itself: its answers to the questions of a set of records."""

    kind: Literal["self_reports"]
    questions: NameOrFile  # A set of the registry, or a JSONL file. Only its prompts are used.
    condition: str | None = None  # The condition whose model answers, at the same seed. null: the base model answers.
    temperature: NonNegativeFloat = 1.0  # The temperature at which answers are sampled.
    # The largest number of tokens of an answer. One that reaches it is cut off, kept and marked: without them, short
    # answers would be selected.
    max_tokens: PositiveInt = 600
    suffix: str | None = None  # A text behind every question, `Respond in Python string.` for example. null: none.

    def condition_needed(self) -> str | None:
        """See `DataConfig`."""
        return self.condition

    def node(self, name: str, seed: int, graph: GraphBuilder) -> SelfReports:
        """See `DataConfig`."""
        check_files(self)
        chain = graph.chain(self.condition, seed) if self.condition is not None else ()
        return SelfReports(name, self, graph.asked(self.condition), seed, chain, set_key(self.questions))


@dataclass(frozen=True, eq=False)
class SelfReports(DataNode):
    """`records.jsonl`, and `report.json`: how many answers were empty, and how many were cut off."""

    kind = "self_reports"
    version = 3
    tokens_per_row = 200
    long_as = "self_reports_conscious"
    data: str
    config: SelfReportsData
    asked: Asked
    seed: int
    chain: tuple[Link, ...]
    content: str  # digest of the questions

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the seed, at which it is sampled."""
        return f"{self.data}-s{self.seed}"

    @property
    def data_name(self) -> str:
        """See `DataNode`."""
        return self.data

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        own = with_digests(self.config.model_dump(mode="json", exclude={"kind", "condition"}))
        return {
            **self.asked.identity(),
            **{key: value for key, value in own.items() if key != "suffix" or value is not None},
            "fingerprint": self.content,
            "seed": self.seed,
        }

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        return links(self.chain)

    def registry_sets(self) -> list[str]:
        """See `Node`."""
        return [self.config.questions]

    def row_count(self) -> int | None:
        """See `DataNode`."""
        return find(self.config.questions).rows if self.config.questions in registry() else None

    def sampled(self) -> Sampled:
        """See `Node`."""
        rows = self.row_count() or 1000
        return Sampled(rows, rows, 40, self.config.max_tokens)

    def texts(self, store: Store) -> set[str]:
        """See `DataNode`: the questions, and the answers if they are there."""
        if store.has(self):
            return stored_texts(self, store)
        from sgtr_jax.sample.self_reports import questions_of  # slow to import, and not needed to look at a graph

        return texts_of_records(list(questions_of(self.config.questions, suffix=self.config.suffix).values()))

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`. Raises RunError if all answers are empty."""
        from sgtr_jax.sample.self_reports import answers_given, questions_of

        asked = questions_of(self.config.questions, suffix=self.config.suffix)
        params = SamplingParams(max_tokens=self.config.max_tokens, temperature=self.config.temperature, seed=self.seed)
        model = context.model_under_test(self.asked, self.chain)
        rows = model.sample(list(asked.values()), params, f"self-reports {self.name}")
        records, dropped, cut_off = answers_given(asked, rows)
        if not records:
            raise RunError(f"{self.name}: all of {len(rows)} answers are empty")
        write_jsonl(folder / RECORDS, to_jsonl(records))
        write_json(folder / "report.json", {"questions": len(rows), "dropped": dropped, "cut_off": cut_off})
