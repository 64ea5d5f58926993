"""Adapters that are trained here, many at once over one base."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.distributed.collectives import is_first_process
from sgtr_jax.experiment.data_node import stored_records
from sgtr_jax.experiment.nodes.direction import FILE as DIRECTION_FILE
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.fingerprint import file_fingerprint
from sgtr_jax.json_types import Json
from sgtr_jax.train.config import WITHOUT_EFFECT

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.finetune.jobs import Finetune

_PARTS = ("adapter", "metrics.jsonl", "report.json")
_ASKED_FOR = ("profile", "at")  # parts that are there where they were asked for


@dataclass(frozen=True, eq=False)
class AdapterNode(TrainingNode):
    """`adapter/` in PEFT's form, `metrics.jsonl` and `report.json`; `at/STEP/` of each point of `measure_at`."""

    kind = "adapter"
    version = 2

    @property
    def training_identity(self) -> dict[str, Json]:
        """See `TrainingNode`."""
        kept: dict[str, Json] = {"measure_at": list(self.training.measure_at)} if self.training.measure_at else {}
        return {**self.training.identity(), **kept, **self._direction}

    @property
    def _direction(self) -> dict[str, Json]:
        """What the file of a direction holds that is added in training. Raises InputError."""
        steer = self.training.steer
        is_of_file = steer is not None and self.direction is None
        return {} if steer is None or not is_of_file else {"direction": file_fingerprint(Path(steer.direction))[:16]}

    @classmethod
    def train(cls, nodes: Sequence[AdapterNode], context: RunContext) -> Iterator[tuple[AdapterNode, str | None]]:
        """See `TrainingNode`. An interrupted run continues from what it saved in the store's scratch folders."""
        # Looking at a graph does not pay for what trains.
        from sgtr_jax.finetune.local import finetune_all

        jobs = [node.job(context) for node in nodes]
        for model in dict.fromkeys(job.model for job in jobs):  # one base after the other
            members = [job for job in jobs if job.model == model]
            base = context.base_for_training(model, members[0].config)
            for result in finetune_all(members, base):
                node = nodes[jobs.index(result.job)]
                if result.failure is None:
                    node.move_into_store(context)
                yield node, result.failure

    def job(self, context: RunContext) -> Finetune:
        """The finetuning job, in the scratch folder of this artifact."""
        from sgtr_jax.finetune.jobs import Finetune, InterleavedData, MatchedData

        config = self.training.model_copy(update={key: getattr(context.finetuning, key) for key in WITHOUT_EFFECT})
        matched = None
        if self.dose is not None and self.matched is not None:
            matched = MatchedData(stored_records(self.matched, context.store), self.dose)
        mixed = None
        if self.interleaved is not None and self.interleave is not None:
            records = stored_records(self.interleaved, context.store)
            mixed = InterleavedData(records, self.interleave.fraction, self.interleave.every)
        if self.direction is not None and config.steer is not None:
            file = str(context.store.path(self.direction) / DIRECTION_FILE)
            config = config.model_copy(update={"steer": config.steer.model_copy(update={"direction": file})})
        frozen = None
        if self.inoculation_adapter is not None:
            (frozen,) = context.chain_folders((self.inoculation_adapter,))
        return Finetune(
            context.base_name(self.base, self.chain), context.chain_folders(self.chain),
            stored_records(self.data, context.store), config,
            context.store.scratch(self), self.name, mixed, matched,
            {name: stored_records(node, context.store) for name, node in self.penalty_data.items()}, frozen,
        )  # fmt: skip

    def move_into_store(self, context: RunContext) -> None:
        """Move what was trained from the scratch folder into the store."""
        scratch: Path = context.store.scratch(self)
        with context.store.make(self) as folder:
            if is_first_process():
                for part in (*_PARTS, *_ASKED_FOR):
                    if part in _PARTS or (scratch / part).exists():
                        (scratch / part).rename(folder / part)
        if is_first_process():
            shutil.rmtree(scratch, ignore_errors=True)
