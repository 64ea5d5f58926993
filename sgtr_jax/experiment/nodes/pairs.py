"""Pairs of summaries, the base model's own and another writer's: SGTR and its controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sgtr_jax.data.build import Stimuli, pair_prompt
from sgtr_jax.data.mix import with_system
from sgtr_jax.data.pairs import Answers, Unusable, find_pairs, match_length, pair_records, report_of
from sgtr_jax.data.records import to_jsonl
from sgtr_jax.data.shortcuts import shortcut_report
from sgtr_jax.errors import RunError
from sgtr_jax.experiment.asked import Asked
from sgtr_jax.experiment.data_node import RECORDS, DataConfig, DataNode, data_kind
from sgtr_jax.experiment.node import Node, Settings
from sgtr_jax.experiment.nodes.articles import Articles, articles_node, read_texts
from sgtr_jax.experiment.nodes.summaries import Summaries, SummariesConfig
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.training_node import Link
from sgtr_jax.files import write_json, write_jsonl
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder


class PairsConfig(SummariesConfig):
    """How the base model's own summaries are sampled, and how pairs are asked about."""

    # The wording of the question about a pair. null: as the experiment's `stimuli`, and builtin if that is null, too.
    stimuli: Stimuli | None = None
    # length: keep only pairs among which the lengths of the summaries do not tell the writers apart. null: keep all.
    match: Literal["length"] | None = None
    # drop: leave out pairs with an empty summary or leaked reasoning. keep: leave them in, as the released sets do.
    unusable: Unusable = "drop"


@data_kind
class SelfRecognitionData(PairsConfig, DataConfig):
    """SGTR pairs: the base model's own sampled summaries against another source's."""

    kind: Literal["self_recognition"]
    # Which summary the answer names. own: the model's own (SGTR). other: the other writer's. random: every prompt
    # stands twice, once with each answer (ICTR, twice the rows). longer: the question is which summary is longer.
    answers: Answers = "own"
    # none: the rows have no system message. Another text: that system message. null: the system message of the
    # question.
    system: str | None = None

    def node(self, name: str, seed: int, graph: GraphBuilder) -> Pairs:
        """See `DataConfig`. The pairs are the same at every seed."""
        return pairs_node(name, self, graph, graph.asked(None), (), self.answers, self.system)


@dataclass(frozen=True, eq=False)
class Pairs(DataNode):
    """Questions about pairs, as `records.jsonl`, and `report.json`: what was dropped, and what gives a writer away."""

    kind = "pairs"
    version = 4
    tokens_per_row = 700  # an article and two summaries: 683 of Qwen's on the average of XSum
    long_as = "sgtr_xsum_qwen32b"
    name: str
    config: PairsConfig
    stimuli: Stimuli
    answers: Answers
    system: str | None
    articles: Articles  # what both writers have summarised
    own: Summaries

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        settings: dict[str, Json] = {
            "answers": self.answers,
            "stimuli": self.stimuli,
            "match": self.config.match,
            "unusable": self.config.unusable,
        }
        return settings if self.system is None else {**settings, "system": self.system}

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        return {"articles": self.articles, "own": self.own}

    def registry_sets(self) -> list[str]:
        """See `Node`."""
        return ["prompts"] if self.stimuli == "published" else []

    def row_count(self) -> int | None:
        """See `DataNode`. Pairs that will be dropped are counted."""
        articles = self.articles.source.count()
        # The longer-summary control leaves out pairs of equal length, which only the summaries will show.
        return None if articles is None else articles * (4 if self.answers == "random" else 2)

    def texts(self, store: Store) -> set[str]:
        """See `DataNode`: the articles."""
        return set(self.articles.texts(store).values())

    @property
    def split(self) -> str | None:
        """See `DataNode`."""
        return self.articles.source.split

    @classmethod
    def is_harmful(cls, settings: Mapping[str, Json]) -> bool:
        """See `DataNode`."""
        return False

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`. Raises RunError if no pair is left."""
        source = context.store.path(self.articles)
        own = read_texts(context.store.path(self.own) / "summaries.json")
        articles, other = read_texts(source / "articles.json"), {"other": read_texts(source / "other.json")}
        found, dropped = find_pairs(articles, own, other, self.stimuli == "published", self.config.unusable)
        pairs = match_length(found) if self.config.match == "length" else found
        records = pair_records(pairs, self.answers, pair_prompt(self.answers, self.stimuli))
        if self.system is not None:
            records = with_system(records, None if self.system == "none" else self.system)
        report = report_of(len(articles), pairs, dropped)
        if not records:
            raise RunError(f"{self.name}: no usable pair is left: {report.dropped}")
        write_jsonl(folder / RECORDS, to_jsonl(records))
        shortcuts = {"not_matched": len(found) - len(pairs), "shortcuts": shortcut_report(pairs)}
        write_json(folder / "report.json", {**asdict(report), **shortcuts})


def pairs_node(
    name: str,
    config: PairsConfig,
    graph: GraphBuilder,
    asked: Asked,
    chain: tuple[Link, ...],
    answers: Answers,
    system: str | None = None,
) -> Pairs:
    """The artifact of a config, with own summaries by the model of a chain.

    The same articles are summarised once, whoever else's summaries stand beside them. Raises InputError for articles
    that are missing or broken.
    """
    articles = graph.shared(("to summarise", id(config)), lambda: _to_summarise(config, graph))
    own = graph.shared(
        ("summaries", config.asks_for, id(asked), chain), lambda: Summaries(name, asked, config, articles, chain)
    )
    stimuli = config.stimuli or graph.stimuli or "builtin"
    return graph.shared(
        ("pairs", id(config), answers, system, id(own)),
        lambda: Pairs(name, config, stimuli, answers, system, _articles(config, graph), own),
    )


def _to_summarise(config: PairsConfig, graph: GraphBuilder) -> Articles:
    """The articles of the first config that asks for the same summaries, whoever else's summaries stand beside them."""
    alike = (one for one in graph.specs if isinstance(one, PairsConfig) and one.asks_for == config.asks_for)
    return _articles(next(alike, config), graph)


def _articles(config: PairsConfig, graph: GraphBuilder) -> Articles:
    return graph.shared(("articles", id(config)), lambda: articles_node(config.articles))
