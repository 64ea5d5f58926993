"""Adapters as they were on the way through a stage: what `measure_at` measures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sgtr_jax.distributed.collectives import is_first_process
from sgtr_jax.experiment.node import Node, Settings
from sgtr_jax.experiment.nodes.adapter import AdapterNode
from sgtr_jax.experiment.training_node import TrainingNode, links
from sgtr_jax.files import read_json, write_json
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext


@dataclass(frozen=True, eq=False)
class KeptAdapterNode(TrainingNode):
    """`adapter/` of a step of another training, whose schedule is that of the whole; `at.json` says which step."""

    kind = "kept_adapter"
    version = 1
    is_trained = False
    whole: AdapterNode | None = None  # given always
    at: float | int = 1.0

    @property
    def training_identity(self) -> dict[str, Json]:
        """See `TrainingNode`. The whole's recipe says it."""
        return {}

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        return {"at": self.at}

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        assert self.whole is not None
        return {**links(self.chain), "whole": self.whole}

    @classmethod
    def of(cls, whole: AdapterNode, at: float | int) -> KeptAdapterNode:
        """The adapter of a training at a point that it keeps."""
        name = f"{whole.name}-at-{at:g}"
        return cls(name, whole.base, whole.training, whole.data, whole.chain, whole=whole, at=at)

    @classmethod
    def train(
        cls, nodes: Sequence[KeptAdapterNode], context: RunContext
    ) -> Iterator[tuple[KeptAdapterNode, str | None]]:
        """See `TrainingNode`: the whole was trained, and has it."""
        for node in nodes:
            assert node.whole is not None
            trained = context.store.path(node.whole)
            kept = cast(dict[str, int], read_json(trained / "report.json")["kept_at"])
            step = kept[str(node.at)]
            with context.store.make(node) as folder:
                if is_first_process():
                    shutil.copytree(trained / "at" / str(step), folder / "adapter")
                    write_json(folder / "at.json", {"at": node.at, "step": step})
            yield node, None
