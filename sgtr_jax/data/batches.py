"""From records to the steps of a run: tokenised once, shuffled and batched by grain, packed step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import grain
import numpy as np

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.packing import Example, PackedStep, Shapes, bucket, measure, pack
from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError

Overlong = Literal["drop", "cut"]


@dataclass(frozen=True)
class TokenizeReport:
    """What became of the records."""

    records: int
    examples: int
    too_long: int  # longer than max_length: dropped, or cut as the config says
    longest: int  # tokens, before dropping or cutting


def tokenize_records(
    records: Sequence[Record], chat: ChatFormat, max_length: int, overlong: Overlong
) -> tuple[list[Example], TokenizeReport]:
    """Token ids and targets of every record. Raises InputError when nothing is left to train on."""
    examples, too_long, longest = [], 0, 0
    for record in records:
        try:
            tokenized = chat.tokenize(record.messages)
        except InputError as error:
            raise InputError(f"{record.id}: {error}") from None
        longest = max(longest, len(tokenized.tokens))
        tokens = np.asarray(tokenized.tokens, np.int32)
        target = np.asarray(tokenized.target, bool)
        if len(tokens) > max_length:
            too_long += 1
            tokens, target = tokens[:max_length], target[:max_length]
            if overlong == "drop" or not target[1:].any():
                continue
        examples.append(Example(record.id, tokens, target))
    if not examples:
        raise InputError(
            f"all {len(records)} examples are longer than max_length={max_length} tokens "
            f"(the longest has {longest}); raise max_length or set overlong=cut"
        )
    return examples, TokenizeReport(len(records), len(examples), too_long, longest)


@dataclass(frozen=True)
class StepPlan:
    """Which examples form each optimizer step, and the row shape they are packed into."""

    examples: Sequence[Example]
    batch_examples: int
    epochs: int
    seed: int
    shuffle: bool
    row_multiple: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch; the last one may hold fewer examples."""
        return -(-len(self.examples) // self.batch_examples)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return self.steps_per_epoch * self.epochs

    @property
    def row_length(self) -> int:
        """Tokens per row: the bucket of the longest example, for the whole run."""
        return bucket(max(len(example.tokens) for example in self.examples))

    @cached_property
    def shapes(self) -> Shapes:
        """Shapes of all steps of the run."""
        needs = [measure(examples, self.row_length) for examples in self._groups()]
        return Shapes.choose(needs, self.row_length, self.row_multiple)

    def __iter__(self) -> Iterator[PackedStep]:
        """Steps in order. Each epoch has its own shuffle; the last partial batch is kept, as in HF's Trainer."""
        for examples in self._groups():
            yield pack(examples, self.shapes)

    def _groups(self) -> Iterator[list[Example]]:
        indices = grain.MapDataset.range(len(self.examples)).seed(self.seed)
        if self.shuffle:
            indices = indices.shuffle()
        for batch in indices.batch(self.batch_examples, drop_remainder=False).repeat(self.epochs):
            yield [self.examples[int(i)] for i in batch]
