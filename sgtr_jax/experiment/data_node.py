"""Data to train on: what every kind of it says of itself, and its config's place in an experiment's file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar, TypeVar

from sgtr_jax.config import Config
from sgtr_jax.data.records import Record, read_training
from sgtr_jax.experiment.node import MadeNode
from sgtr_jax.experiment.store import Store
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.graph import GraphBuilder

RECORDS = "records.jsonl"


class DataNode(MadeNode):
    """Training records. The artifact holds them as `records.jsonl`."""

    # Where the rows are not here yet: tokens of an example, of Qwen's.
    tokens_per_row: ClassVar[int]
    # A set of the registry whose examples are as long as these; None: there is none that is known.
    long_as: ClassVar[str | None] = None

    @property
    def data_name(self) -> str:
        """The name of the data set in the config."""
        return self.name

    @abstractmethod
    def row_count(self) -> int | None:
        """How many rows it gives, as far as its settings say; None: not known."""

    @abstractmethod
    def texts(self, store: Store) -> Collection[str]:
        """The texts that a model is trained on, as far as no model has to write them; from the store if they are there.

        Raises InputError or RunError, as fetching does.
        """

    @property
    def split(self) -> str | None:
        """Which half of a set with two halves it takes; `published`: all of it, as the study did."""
        return None

    @classmethod
    def is_harmful(cls, settings: Mapping[str, Json]) -> bool | None:
        """Whether stored settings are of data written to make models do harm; None: not known."""
        return None


def stored_records(node: DataNode, store: Store) -> list[Record]:
    """The records of a data artifact that is in the store."""
    return read_training(store.path(node) / RECORDS)


def stored_texts(node: DataNode, store: Store) -> set[str]:
    """All texts of a data artifact that is in the store."""
    return texts_of_records(stored_records(node, store))


def texts_of_records(records: list[Record]) -> set[str]:
    """The texts of all messages."""
    return {message["content"] for record in records for message in record.messages}


class DataConfig(Config):
    """A data set of an experiment. Subclasses have `kind`, a Literal of one word, which tells them apart in a file."""

    def condition_needed(self) -> str | None:
        """The condition whose model has to write it."""
        return None

    @abstractmethod
    def node(self, name: str, seed: int, graph: GraphBuilder) -> DataNode:
        """The artifact, for stages of this seed. Raises InputError for files that are missing or broken."""


D = TypeVar("D", bound=type[DataConfig])
_CONFIGS: list[type[DataConfig]] = []


def data_kind(config: D) -> D:
    """Make a data config known, so that an experiment's file can name it."""
    _CONFIGS.append(config)
    return config


def data_configs() -> list[type[DataConfig]]:
    """All data configs, of the files in `experiment/nodes/`."""
    from sgtr_jax.experiment import nodes

    nodes.discover()
    return list(_CONFIGS)


def data_nodes() -> list[type[DataNode]]:
    """All kinds of data artifacts, of the files in `experiment/nodes/`."""
    from sgtr_jax.experiment import nodes

    nodes.discover()
    return [node for node in DataNode.__subclasses__() if "kind" in vars(node)]
