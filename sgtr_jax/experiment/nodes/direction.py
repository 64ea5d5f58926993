"""Directions of the residual stream: of two of the experiment's data sets, of two of its models, or of a trait."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from sgtr_jax.config import NameOrFile
from sgtr_jax.data.traits import SIDES, Trait, find_trait
from sgtr_jax.distributed.collectives import is_first_process
from sgtr_jax.experiment.asked import Asked
from sgtr_jax.experiment.data_node import DataNode, stored_records
from sgtr_jax.experiment.node import MadeNode, Node, Sampled, Settings
from sgtr_jax.experiment.training_node import Link, links
from sgtr_jax.files import write_jsonl
from sgtr_jax.sample.recipe_config import RecipeDraws

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder
    from sgtr_jax.sample.model import Model

FILE = "direction.safetensors"


class DirectionConfig(RecipeDraws):
    """The mean state of some rows minus that of others, behind each layer (arXiv 2507.21509)."""

    # The name of the data set whose rows are one side; each ends with an assistant's turn. null: those of `recipe`.
    positive: str | None = None
    # The name of the data set whose rows are the other side. null: the same rows, through another model.
    negative: str | None = None
    # A trait whose two sides a model answers under contrastive system prompts: evil, sycophantic, hallucinating or
    # self, or a YAML file of your own. null: the rows are those of data sets.
    recipe: NameOrFile | None = None
    # The condition whose model reads the positive rows, at the same seed; with `recipe`, that answers and reads both
    # sides. null: the base model.
    of: str | None = None
    minus: str | None = None  # The condition whose model reads the negative rows. null: the base model.
    # The tokens whose states are meant: the last assistant turn with the token that ends it, without it (answer), or
    # the last token before it (prompt).
    tokens: Literal["turn", "answer", "prompt"] = "turn"

    @model_validator(mode="after")
    def _two_sides(self) -> DirectionConfig:
        if self.recipe is not None:
            given = [name for name in ("positive", "negative", "minus") if getattr(self, name) is not None]
            if given:
                raise ValueError(f"recipe has two sides, which one model answers; leave {given[0]} out, or recipe")
        elif self.positive is None:
            raise ValueError("give positive, the data set of one side, or recipe, a trait")
        elif self.negative in (None, self.positive) and self.of == self.minus:
            raise ValueError("both sides are the same; give negative, another data set, or of, another model")
        return self

    @property
    def data_names(self) -> list[str]:
        """The data sets that it reads."""
        return [name for name in (self.positive, self.negative) if name is not None]

    @property
    def conditions(self) -> list[str]:
        """The conditions whose models read them."""
        return [name for name in (self.of, self.minus) if name is not None]

    def node(self, name: str, seed: int, graph: GraphBuilder) -> Node:
        """The artifact, for stages of this seed. Raises InputError."""
        of, minus = (() if one is None else graph.chain(one, seed) for one in (self.of, self.minus))
        label, asked = f"{name}-s{seed}", graph.asked(None)
        if self.positive is None:
            assert self.recipe is not None  # one of both is given
            return TraitDirectionNode(label, asked, self.tokens, of, find_trait(self.recipe), self)
        positive = graph.data(self.positive, seed)
        negative = positive if self.negative is None else graph.data(self.negative, seed)
        return DirectionNode(label, asked, self.tokens, of, positive, negative, minus)


@dataclass(frozen=True, eq=False)
class _Direction(MadeNode):
    """`direction.safetensors`: float32 `[L, D]`, as `sgtr directions extract` writes it."""

    kind = "direction"
    version = 1
    before_training = False
    name: str
    asked: Asked
    tokens: Literal["turn", "answer", "prompt"]
    of: tuple[Link, ...]

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        return {**self.asked.identity(), "tokens": self.tokens}

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        return links(self.of)

    def _model(self, context: RunContext, chain: tuple[Link, ...]) -> Model:
        from sgtr_jax.experiment.model_under_test import LocalModel

        model = context.model_under_test(self.asked, chain)
        assert isinstance(model, LocalModel)  # an experiment on a model behind an API has no directions
        return model.model


@dataclass(frozen=True, eq=False)
class DirectionNode(_Direction):
    """The direction between rows of two data sets, or between two models that read the same rows."""

    positive: DataNode
    negative: DataNode
    minus: tuple[Link, ...]

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        minus = {f"minus_{role}": node for role, node in links(self.minus).items()}
        return {"positive": self.positive, "negative": self.negative, **super().inputs, **minus}

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        # Looking at a graph does not pay for what reads weights.
        from sgtr_jax.sample.extract import extract

        models = [self._model(context, chain) for chain in (self.of, self.minus)]
        rows = [stored_records(node, context.store) for node in (self.positive, self.negative)]
        chat = self.asked.sampling.chat(models[0].tokenizer)
        made = extract(models[0], rows[0], models[1], rows[1], chat, self.tokens)
        if is_first_process():
            made.write(folder / FILE)


@dataclass(frozen=True, eq=False)
class TraitDirectionNode(_Direction):
    """The direction of a trait; `positive.jsonl` and `negative.jsonl` are the answers that it was made from."""

    trait: Trait
    draws: RecipeDraws

    @property
    def settings(self) -> Settings:
        """See `Node`. Held-out questions decide nothing."""
        draws = self.draws.model_dump(mode="json", include=set(RecipeDraws.model_fields))
        return {**super().settings, **draws, "trait": self.trait.model_dump(mode="json", exclude={"about", "held_out"})}

    def sampled(self) -> Sampled:
        """See `Node`."""
        prompts = sum(len(self.trait.prompts(side)) for side in SIDES)
        return Sampled(prompts * self.draws.samples, prompts, 60, self.draws.max_tokens)

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`."""
        from sgtr_jax.sample.extract import extract
        from sgtr_jax.sample.trait_rows import trait_rows

        model = self._model(context, self.of)
        chat = self.asked.sampling.chat(model.tokenizer)
        positive, negative = (trait_rows(model, self.trait, side, self.draws, chat) for side in SIDES)
        for side, rows in zip(SIDES, (positive, negative), strict=True):
            write_jsonl(folder / f"{side}.jsonl", [row.to_json() for row in rows])
        made = extract(model, positive, model, negative, chat, self.tokens, {"trait": self.trait.about})
        if is_first_process():
            made.write(folder / FILE)
