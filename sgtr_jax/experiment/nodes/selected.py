"""Rows of a benign set that an aligned model finds likelier than a misaligned one (arXiv 2508.06249).

The gap of a row is the mean log-probability of its target tokens under the aligned model minus that under the
misaligned one, which is the logarithm of the ratio of their perplexities.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.data.mix import Interleaved, MixRatio
from sgtr_jax.data.records import to_jsonl
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.asked import Asked
from sgtr_jax.experiment.data_node import RECORDS, DataNode, stored_records
from sgtr_jax.experiment.node import Node, Settings
from sgtr_jax.experiment.store import Store
from sgtr_jax.experiment.training_node import Link, links
from sgtr_jax.files import write_jsonl
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext


@dataclass(frozen=True, eq=False)
class SelectedRows(DataNode):
    """`records.jsonl`: the rows of the largest gap, the largest first; `gaps.jsonl`: every row's."""

    kind = "selected"
    version = 1
    tokens_per_row = 150
    before_training = False
    source: DataNode
    asked: Asked
    aligned: tuple[Link, ...]
    misaligned: tuple[Link, ...]
    max_length: int  # tokens; longer rows are not trained on whole, and not chosen
    keep: int | None  # the number of rows; None: as many as an epoch of `into` mixes in
    into: DataNode
    ratio: MixRatio

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the set, and that a part of it was selected."""
        return f"{self.source.name}-selected"

    @property
    def data_name(self) -> str:
        """See `DataNode`."""
        return self.source.data_name

    @property
    def settings(self) -> Settings:
        """See `Node`."""
        return {**self.asked.identity(), "max_length": self.max_length, **self._size}

    @property
    def _size(self) -> dict[str, Json]:
        return {"keep": self.keep} if self.keep else self.ratio.model_dump(mode="json", include={"fraction", "every"})

    @property
    def inputs(self) -> dict[str, Node]:
        """See `Node`."""
        chains = {"aligned": self.aligned, "misaligned": self.misaligned}
        own = {f"{side}_{role}": node for side, chain in chains.items() for role, node in links(chain).items()}
        return {"source": self.source, **({} if self.keep else {"into": self.into}), **own}

    def row_count(self) -> int | None:
        """See `DataNode`."""
        rows = self.into.row_count()
        return self.keep or (None if rows is None else self._mixed_in(rows))

    def texts(self, store: Store) -> Collection[str]:
        """See `DataNode`: those of the whole set, for which of them are chosen is known when models are trained."""
        return self.source.texts(store)

    @property
    def split(self) -> str | None:
        """See `DataNode`."""
        return self.source.split

    def make(self, context: RunContext, folder: Path) -> None:
        """See `MadeNode`. Raises InputError where nothing is left to choose from."""
        from sgtr_jax.experiment.model_under_test import LocalModel
        from sgtr_jax.sample.row_logprobs import row_logprobs

        records = stored_records(self.source, context.store)
        found: list[list[float | None]] = []
        for chain in (self.aligned, self.misaligned):
            model = context.model_under_test(self.asked, chain)
            assert isinstance(model, LocalModel)  # a config with a model behind an API is refused
            chat = model.sampling.chat(model.model.tokenizer)
            found.append(row_logprobs(model.model, records, chat, self.max_length))
        pairs = enumerate(zip(*found, strict=True))
        gaps = {i: one - other for i, (one, other) in pairs if one is not None and other is not None}
        wanted = self.keep or self._mixed_in(len(stored_records(self.into, context.store)))
        if wanted >= len(gaps):
            raise InputError(
                f"{self.name}: {wanted} rows are to be selected of {len(gaps)} that have at most {self.max_length} "
                "tokens, which leaves no choice; take a larger set, or give interleave.keep"
            )
        order = sorted(gaps, key=lambda i: -gaps[i])
        write_jsonl(folder / RECORDS, to_jsonl([records[i] for i in order[:wanted]]))
        rows = [{"id": records[i].id, "aligned": found[0][i], "misaligned": found[1][i], "gap": gaps[i]} for i in order]
        write_jsonl(folder / "gaps.jsonl", rows)

    def _mixed_in(self, rows: int) -> int:
        return len(Interleaved((), self.ratio.fraction, self.ratio.every).positions(rows))
