"""Directions of the residual stream, made from two of the experiment's data sets, or from two of its models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from sgtr_jax.config import Config
from sgtr_jax.distributed.collectives import is_first_process
from sgtr_jax.experiment.asked import Asked
from sgtr_jax.experiment.data_node import DataNode, stored_records
from sgtr_jax.experiment.node import MadeNode, Node, Settings
from sgtr_jax.experiment.training_node import Link, links

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.experiment.graph import GraphBuilder
    from sgtr_jax.sample.model import Model

FILE = "direction.safetensors"


class DirectionConfig(Config):
    """The mean state of some rows minus that of others, behind each layer (arXiv 2507.21509)."""

    positive: str  # The name of the data set whose rows are one side. Each row ends with an assistant's turn.
    # The name of the data set whose rows are the other side. null: the same rows, through another model.
    negative: str | None = None
    of: str | None = None  # The condition whose model reads the positive rows, at the same seed. null: the base model.
    minus: str | None = None  # The condition whose model reads the negative rows. null: the base model.
    # The tokens whose states are meant: the last assistant turn with the token that ends it, without it (answer), or
    # the last token before it (prompt).
    tokens: Literal["turn", "answer", "prompt"] = "turn"

    @model_validator(mode="after")
    def _two_sides(self) -> DirectionConfig:
        if self.negative in (None, self.positive) and self.of == self.minus:
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

    def node(self, name: str, seed: int, graph: GraphBuilder) -> DirectionNode:
        """The artifact, for stages of this seed. Raises InputError."""
        chains = tuple(() if one is None else graph.chain(one, seed) for one in (self.of, self.minus))
        positive = graph.data(self.positive, seed)
        negative = positive if self.negative is None else graph.data(self.negative, seed)
        return DirectionNode(
            f"{name}-s{seed}", graph.asked(None), self.tokens, positive, negative, chains[0], chains[1]
        )


@dataclass(frozen=True, eq=False)
class DirectionNode(MadeNode):
    """`direction.safetensors`: float32 `[L, D]`, as `sgtr directions extract` writes it."""

    kind = "direction"
    version = 1
    before_training = False
    name: str
    asked: Asked
    tokens: Literal["turn", "answer", "prompt"]
    positive: DataNode
    negative: DataNode
    of: tuple[Link, ...]
    minus: tuple[Link, ...]

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        return {**self.asked.identity(), "tokens": self.tokens}

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        minus = {f"minus_{role}": node for role, node in links(self.minus).items()}
        return {"positive": self.positive, "negative": self.negative, **links(self.of), **minus}

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

    def _model(self, context: RunContext, chain: tuple[Link, ...]) -> Model:
        from sgtr_jax.experiment.model_under_test import LocalModel

        model = context.model_under_test(self.asked, chain)
        assert isinstance(model, LocalModel)  # an experiment on a model behind an API has no directions
        return model.model
