"""Models finetuned behind an API: one job each, found again by the fingerprint and never sent twice."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.data.mix import Interleaved, inoculate, interleave, with_system
from sgtr_jax.data.records import Record
from sgtr_jax.experiment.asked import api_model_name
from sgtr_jax.experiment.data_node import stored_records
from sgtr_jax.experiment.refusals import refusal_of_inputs, write_outcome
from sgtr_jax.experiment.services import ApiConfig
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.files import read_json, write_json
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext
    from sgtr_jax.finetune.openai import ApiFinetune, Ended


@dataclass(frozen=True, eq=False)
class FinetunedNode(TrainingNode):
    """`job.json`, the provider's record of the job, and `train.jsonl`, the rows it was given."""

    kind = "finetuned"
    version = 1
    api: ApiConfig = field(default_factory=ApiConfig)

    @property
    def training_identity(self) -> dict[str, Json]:
        """See `TrainingNode`."""
        own: dict[str, Json] = self.training.model_dump(mode="json", include={"epochs", "seed", "inoculation"})
        api: dict[str, Json] = self.api.model_dump(mode="json", include={"batch_size", "learning_rate_multiplier"})
        return {**own, **api, "system": self.system}

    @property
    def system(self) -> str:
        """The system prompt of the rows."""
        return "none" if self.training.system == "default" else self.training.system

    @classmethod
    def train(cls, nodes: Sequence[FinetunedNode], context: RunContext) -> Iterator[tuple[FinetunedNode, str | None]]:
        """See `TrainingNode`. Starts what is not started, and waits until one job ends."""
        store = context.store
        refused = {node: why for node in nodes if (why := refusal_of_inputs(node, store)) is not None}
        for node, why in refused.items():
            node.store_refusal(store, why)
            yield node, None
        if refused:
            return
        by_key = {node.fingerprint: node for node in nodes}
        for key, ended in context.jobs.wait_for_any([node.job(store) for node in nodes]).items():
            node = by_key[key]
            if ended.refused is not None:
                node.store_refusal(store, f"refused by the provider's safety check: {ended.refused}", ended)
            elif ended.failed is None:
                node.store_model(store, ended)
            yield node, ended.failed

    def job(self, store: Store) -> ApiFinetune:
        """What the provider is asked for."""
        from sgtr_jax.finetune.openai import ApiFinetune

        below = finetuned_name(store.path(self.chain[-1])) if self.chain else api_model_name(self.base.model)
        assert below is not None  # a node of this kind is of a model behind an API
        return ApiFinetune(
            key=self.fingerprint,
            name=self.name,
            model=below,
            records=self.training_rows(store),
            epochs=self.training.epochs,
            batch_size=self.api.batch_size,
            learning_rate_multiplier=self.api.learning_rate_multiplier,
            seed=self.training.seed,
            folder=store.scratch(self),
        )

    def training_rows(self, store: Store) -> list[Record]:
        """The rows a job is given: inoculated, matched in number, mixed, under the system prompt."""
        records = stored_records(self.data, store)
        if self.training.inoculation is not None:
            records = inoculate(records, self.training.inoculation)
        if self.dose is not None and self.matched is not None:
            # A provider takes no number of steps; as many rows make as many steps.
            wanted = max(1, round(len(stored_records(self.matched, store)) * self.dose.times))
            again, rest = divmod(wanted, len(records))
            chosen = sorted(random.Random(self.training.seed).sample(range(len(records)), rest))
            records = [*records * again, *(records[i] for i in chosen)]
        if self.interleaved is not None and self.interleave is not None:
            share = self.interleave
            positions = Interleaved((), share.fraction, share.every).positions(len(records))
            records = interleave(records, stored_records(self.interleaved, store), positions)
        if self.system != "none":
            bare = [record.messages[0]["role"] != "system" for record in records]
            under = with_system(records, self.system)
            records = [new if is_bare else old for old, new, is_bare in zip(records, under, bare, strict=True)]
        return records

    def store_refusal(self, store: Store, why: str, ended: Ended | None = None) -> None:
        """Store the outcome in the place of a model that never will be."""
        with store.make(self) as folder:
            write_outcome(folder, why)
            if ended is not None:
                write_json(folder / "job.json", ended.job.model_dump(mode="json"))
        shutil.rmtree(store.scratch(self), ignore_errors=True)

    def store_model(self, store: Store, ended: Ended) -> None:
        """Store what the provider says of the finished job, and the rows."""
        scratch = store.scratch(self)
        with store.make(self) as folder:
            write_json(folder / "job.json", ended.job.model_dump(mode="json"))
            if (scratch / "train.jsonl").exists():
                shutil.copyfile(scratch / "train.jsonl", folder / "train.jsonl")
        shutil.rmtree(scratch, ignore_errors=True)


def finetuned_name(folder: Path) -> str:
    """The provider's name of a finetuned model in the store."""
    return str(read_json(folder / "job.json")["fine_tuned_model"])
