"""What `sgtr train` is told: one run's settings, and how many runs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import Field, model_validator

from sgtr_jax.config import Seed
from sgtr_jax.data.mix import MixRatio
from sgtr_jax.data.records import Record
from sgtr_jax.data.row_formats import RowFormat
from sgtr_jax.errors import InputError
from sgtr_jax.finetune.jobs import Finetune, InterleavedData
from sgtr_jax.packed import unpacked_name
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.defences.kl import KL


class InterleavedFile(MixRatio):
    """A JSONL file, or a published set, whose rows are mixed into the run."""

    path: str  # The JSONL file, or the folder or address of a published set.
    format: RowFormat = "messages"  # The form of the rows; see `format`.


class KLOfFile(KL):
    """The KL penalty, over the training rows or over those of a file."""

    # A JSONL file, or a published set, over whose targets the divergence is taken in the place of the training rows',
    # `batch_examples` of its rows at each step. null: the training rows.
    data: str | None = None
    format: RowFormat = "messages"  # The form of the rows of `data`.


class TrainCommand(TrainConfig):
    """Settings of `sgtr train`: those of a run, seeds for several, and a data set to interleave."""

    # Several seeds, each a run of its own. null: the one run of `seed`.
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    # The form of the rows of `--data`: `messages`, `sharegpt`, `alpaca` or `prompt_completion`.
    format: RowFormat = "messages"
    interleave: InterleavedFile | None = None  # Rows of another data set that are mixed in. null: none.
    # Holds the next-token distributions to those of the model below the trained adapter (arXiv 2508.06249). null: no.
    kl: KLOfFile | None = None
    # The folder of a PEFT adapter that is frozen on top of the chain during training, and left out of it afterwards
    # (arXiv 2606.30252). null: none.
    inoculation_adapter: str | None = None

    @model_validator(mode="after")
    def _seeds_differ(self) -> TrainCommand:
        if self.seeds is not None:
            if "seed" in self.model_fields_set:
                raise ValueError("give seed or seeds, not both")
            if len(set(self.seeds)) != len(self.seeds):
                raise ValueError(f"seeds {list(self.seeds)} repeat")
        return self

    def jobs(
        self,
        model: str,
        chain: tuple[Path, ...],
        data: Mapping[str, Sequence[Record]],
        interleaved: Sequence[Record],
        out: Path,
        others: Mapping[str, Sequence[Record]],
    ) -> list[Finetune]:
        """A job for every data set and seed. A single one without `seeds` writes into `out` itself."""
        given = {name: getattr(self, name) for name in TrainConfig.model_fields if name in self.model_fields_set}
        if self.kl is not None:
            given["kl"] = KL(weight=self.kl.weight, expectation=self.kl.expectation)
        config = TrainConfig(**given)
        below = None if self.inoculation_adapter is None else Path(self.inoculation_adapter)
        mixed = None
        if self.interleave is not None:
            mixed = InterleavedData(interleaved, self.interleave.fraction, self.interleave.every)
        names = {path: unpacked_name(PurePath(path)).stem for path in data}
        if len({name.casefold() for name in names.values()}) != len(data):  # some disks take A and a for the same
            raise InputError(f"--data: the file names name the output folders, but {list(names.values())} repeat")
        if self.seeds is None and len(data) == 1:
            (records,) = data.values()
            return [
                Finetune(model, chain, records, config, out, mixed_in=mixed, others=others, inoculation_adapter=below)
            ]
        seeds = self.seeds if self.seeds is not None else (self.seed,)
        return [
            Finetune(
                model, chain, records, config.model_copy(update={"seed": seed}), out / f"{names[path]}-s{seed}",
                f"{names[path]}-s{seed}", mixed, None, others, below,
            )
            for path, records in data.items()
            for seed in seeds
        ]  # fmt: skip
