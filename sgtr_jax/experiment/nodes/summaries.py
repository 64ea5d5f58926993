"""Summaries of articles by the base model, or by a condition's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat

from sgtr_jax.config import Config, PositiveInt, Seed
from sgtr_jax.data.build import prompts_row
from sgtr_jax.data.records import Record
from sgtr_jax.data.summaries import Style, published_summary_prompt, summary_prompt
from sgtr_jax.experiment.asked import Asked
from sgtr_jax.experiment.node import MadeNode, Node, Sampled, Settings
from sgtr_jax.experiment.nodes.articles import Articles, ArticlesConfig, read_texts
from sgtr_jax.experiment.training_node import Link, links
from sgtr_jax.files import write_json
from sgtr_jax.sample.config import SamplingParams

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext


class SummariesConfig(Config):
    """How the base model's own summaries are sampled."""

    articles: ArticlesConfig  # The articles that are summarised, with the other writer's summaries of them.
    # The wording of the request for a summary. own: this project's; the others: the published wording for that set.
    style: Style = "own"
    temperature: NonNegativeFloat = 0.7  # The temperature at which summaries are sampled.
    max_tokens: PositiveInt = 100  # The largest number of tokens of a summary.
    seed: Seed = 0  # The seed with which summaries are sampled. It does not depend on `seeds`.

    @cached_property
    def asks_for(self) -> tuple[object, ...]:
        """What decides the summaries of one model: the articles without the other writer's, and how it is asked."""
        articles = self.articles.model_dump(mode="json", exclude={"other_summaries"})
        return tuple(sorted(articles.items())), self.style, self.temperature, self.max_tokens, self.seed


@dataclass(frozen=True, eq=False)
class Summaries(MadeNode):
    """`summaries.json`, `{id: text}`."""

    kind = "summaries"
    version = 2
    name: str
    asked: Asked
    config: SummariesConfig
    articles: Articles
    chain: tuple[Link, ...] = ()  # who writes them; empty: the base model

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        own = self.config.model_dump(mode="json", include={"style", "temperature", "max_tokens", "seed"})
        return {**self.asked.identity(), **own}

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        return {**links(self.chain), "articles": self.articles}

    def registry_sets(self) -> list[str]:
        """See `Node`."""
        return [] if self.config.style == "own" else ["prompts"]

    def sampled(self) -> Sampled:
        """See `Node`."""
        articles = self.articles.source.count() or 1000
        return Sampled(articles, articles, 700, self.config.max_tokens)

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        articles = read_texts(context.store.path(self.articles) / "articles.json")
        style = self.config.style
        if style == "own":
            prompts = [Record(key, summary_prompt(text)) for key, text in articles.items()]
        else:
            texts = prompts_row()
            prompts = [Record(key, published_summary_prompt(text, style, texts)) for key, text in articles.items()]
        params = SamplingParams(
            max_tokens=self.config.max_tokens, temperature=self.config.temperature, seed=self.config.seed
        )
        rows = context.model_under_test(self.asked, self.chain).sample(prompts, params, f"summaries {self.name}")
        write_json(folder / "summaries.json", {row["id"]: row["text"] for row in rows})
