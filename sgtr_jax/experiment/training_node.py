"""Finetuned models: a stage of a condition, on top of the stages before it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from sgtr_jax.data.doses import Dose
from sgtr_jax.data.mix import MixRatio
from sgtr_jax.experiment.asked import Base
from sgtr_jax.experiment.data_node import DataNode
from sgtr_jax.experiment.node import Node, Settings
from sgtr_jax.json_types import Json
from sgtr_jax.train.config import TrainConfig

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext


class Link(Node):
    """A stage of a condition, as those above it and what is measured on it see it."""

    @property
    def replaces_base(self) -> bool:
        """Whether it is a model in the place of the base, and no adapter."""
        return False


@dataclass(frozen=True, eq=False)
class TrainingNode(Link):
    """A model that is finetuned on data, together with others where that is cheaper."""

    before_training = False
    is_trained: ClassVar[bool] = True  # False: it is taken out of another training
    name: str
    base: Base
    training: TrainConfig
    data: DataNode
    chain: tuple[Link, ...] = ()  # the stages before
    interleave: MixRatio | None = None
    interleaved: DataNode | None = None
    dose: Dose | None = None  # how much it is trained, measured by `matched`; None: all of its rows
    matched: DataNode | None = None
    penalty_data: Mapping[str, DataNode] = field(default_factory=dict)  # rows that only a penalty reads, by its name
    inoculation_adapter: Link | None = None  # frozen while it is trained, and left out afterwards
    direction: Node | None = None  # what the residual stream is steered along; None: not, or by a direction of a file

    @property
    @abstractmethod
    def training_identity(self) -> dict[str, Json]:
        """The settings of training that decide the outcome, as JSON."""

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        settings = {**self.base.identity(), "training": self.training_identity}
        if self.interleave is not None:
            settings["interleave"] = self.interleave.model_dump(mode="json", include=set(MixRatio.model_fields))
        if self.dose is not None and not self.dose.is_plain:
            settings["dose"] = self.dose.model_dump(mode="json", exclude={"data"})
        return settings

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        role = "match_steps" if self.dose is not None and self.dose.is_plain else "matched"
        own: dict[str, Node | None] = {"data": self.data, "interleaved": self.interleaved, role: self.matched}
        own |= {f"{name}_data": node for name, node in self.penalty_data.items()}
        own |= {"inoculation": self.inoculation_adapter, "direction": self.direction}
        return {**{role: node for role, node in own.items() if node is not None}, **links(self.chain)}

    @property
    def data_nodes(self) -> list[DataNode]:
        """The data sets whose rows are trained on."""
        return [node for node in (self.data, self.interleaved) if node is not None]

    @classmethod
    @abstractmethod
    def train(cls, nodes: Sequence[Self], context: RunContext) -> Iterator[tuple[Self, str | None]]:
        """Train, and store each model as soon as its own training has ended.

        Yields each node that has ended, with the reason if it failed. Some may still be under way at the end: jobs
        behind an API are waited for one at a time. Raises RunError and InputError.
        """


def links(chain: Sequence[Link]) -> dict[str, Node]:
    """A chain as inputs: `adapter0`, `adapter1`, ..."""
    return {f"adapter{i}": node for i, node in enumerate(chain)}


def stored_chain(inputs: Mapping[str, str]) -> list[str]:
    """The folders of a chain among the stored names of an artifact's inputs, in order."""
    return [inputs[f"adapter{i}"] for i in range(sum(role.startswith("adapter") for role in inputs))]
