"""From records to the steps of a run: tokenised once, shuffled and batched by grain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.mix import Interleaved, inoculate
from sgtr_jax.data.packing import Example
from sgtr_jax.data.publish import Published
from sgtr_jax.data.records import Record
from sgtr_jax.data.set_files import content_sha256
from sgtr_jax.data.token_cache import tokenize_all
from sgtr_jax.distributed.collectives import all_gather_objects, assert_equal_across_processes
from sgtr_jax.errors import InputError

Overlong = Literal["drop", "cut"]


@dataclass(frozen=True)
class TokenizeReport:
    """What became of the records."""

    records: int
    examples: int
    max_length: int  # the bound that holds: the config's, or the model's positions where they are fewer
    too_long: int  # longer than that: dropped, or cut as the config says
    longest: int  # tokens, before dropping or cutting


def tokenize_records(
    records: Sequence[Record],
    chat: ChatFormat,
    max_length: int,
    overlong: Overlong,
    inoculation: str | None = None,
    positions: int | None = None,
) -> tuple[list[Example], TokenizeReport]:
    """Token ids and targets of every record, under the system prompt `inoculation` where one is given.

    No example is longer than `max_length`, nor than the model's `positions` where they are given.

    In a job of several processes each reads and tokenises a stretch of its own, and they exchange the token ids:
    packing needs every length, and 20,000 rows of 700 tokens are 70 MB. Every process must call it.

    Raises InputError, in all processes, for a record that the template cannot render, or when nothing is left to
    train on.
    """
    bound = max_length if positions is None else min(max_length, positions)
    examples, too_long, longest = [], 0, 0
    for example in _tokenized(records, chat, inoculation):
        longest = max(longest, len(example.tokens))
        too_long += len(example.tokens) > bound
        if (kept := _within(example, bound, overlong)) is not None:
            examples.append(kept)
    if not examples:
        raise _all_too_long(len(records), longest, max_length, positions)
    return examples, TokenizeReport(len(records), len(examples), bound, too_long, longest)


def check_lengths(
    records: Sequence[Record],
    chat: ChatFormat,
    max_length: int,
    overlong: Overlong,
    inoculation: str | None = None,
    positions: int | None = None,
) -> None:
    """Raise InputError if `tokenize_records` would leave nothing to train on. Mostly one record is tokenised for it."""
    bound = max_length if positions is None else min(max_length, positions)
    longest = 0
    # The shortest text first: where it fits, nothing else has to be looked at.
    for record in sorted(records, key=lambda one: sum(len(message["content"]) for message in one.messages)):
        asked = [record] if inoculation is None else inoculate([record], inoculation)
        (example,) = _examples(asked, chat)
        if _within(example, bound, overlong) is not None:
            return
        longest = max(longest, len(example.tokens))
    raise _all_too_long(len(records), longest, max_length, positions)


def _within(example: Example, bound: int, overlong: Overlong) -> Example | None:
    """What is trained of an example under a bound of its length; None: nothing."""
    if len(example.tokens) <= bound:
        return example
    cut = Example(example.id, example.tokens[:bound], example.target[:bound])
    return cut if overlong == "cut" and cut.target[1:].any() else None


def _all_too_long(count: int, longest: int, max_length: int, positions: int | None) -> InputError:
    named, advice = f"max_length={max_length}", "raise max_length or set overlong=cut"
    if positions is not None and positions < max_length:
        named, advice = f"the model's {positions}", "set overlong=cut"
    return InputError(f"all {count} examples are longer than {named} tokens (the longest has {longest}); {advice}")


def _examples(records: Sequence[Record], chat: ChatFormat) -> list[Example]:
    """Records as examples. Raises InputError for one that the template cannot render."""
    return [
        Example(record.id, np.asarray(made.tokens, np.int32), np.asarray(made.target, bool))
        for record, made in zip(records, tokenize_all(records, chat), strict=True)
    ]


def own_rows(rows: int, process: int, processes: int) -> slice:
    """The rows that a process reads. Of 10 rows and 4 processes: 0-1, 2-4, 5-6, 7-9."""
    return slice(rows * process // processes, rows * (process + 1) // processes)


def _tokenized(records: Sequence[Record], chat: ChatFormat, inoculation: str | None) -> list[Example]:
    """Every record's example, in order."""
    import jax  # here, because settings of experiments are read with this module and without JAX

    if jax.process_count() > 1:
        if isinstance(records, Published):
            fingerprint = records.fingerprint
        else:
            fingerprint = content_sha256(record.to_json() for record in records)
        assert_equal_across_processes("the training data", fingerprint)
    stretch = own_rows(len(records), jax.process_index(), jax.process_count())
    own: list[Example] | InputError
    try:
        read = list(records[stretch])
        if inoculation is not None:
            read = inoculate(read, inoculation)
        own = _examples(read, chat)
    except InputError as error:
        own = error  # said by all, so that none waits for this one
    found: list[Example] = []
    for part in all_gather_objects(own):
        if isinstance(part, InputError):
            raise part
        found += part
    return found


def steps_of(rows: int, batch_examples: int) -> int:
    """Steps that an epoch of `rows` takes: the last one may hold fewer examples."""
    return -(-rows // batch_examples)


@dataclass(frozen=True)
class StepPlan:
    """Which examples form each optimizer step of one run."""

    examples: Sequence[Example]
    batch_examples: int
    epochs: int
    seed: int
    shuffle: bool
    max_steps: int | None = None
    interleaved: Interleaved | None = None

    @cached_property
    def _positions(self) -> list[int]:
        return self.interleaved.positions(len(self.examples)) if self.interleaved else []

    @property
    def rows_per_epoch(self) -> int:
        """Rows of an epoch, interleaved ones included."""
        return len(self.examples) + len(self._positions)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; the last may hold fewer examples, as in HF's Trainer."""
        return steps_of(self.rows_per_epoch, self.batch_examples)

    @property
    def mean_tokens(self) -> float:
        """Tokens of an example on the average of an epoch, interleaved ones included."""
        own: float = sum(len(one.tokens) for one in self.examples)
        if self.interleaved is not None:
            pool = self.interleaved.examples
            own += len(self._positions) * sum(len(one.tokens) for one in pool) / len(pool)
        return own / self.rows_per_epoch

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        steps = self.steps_per_epoch * self.epochs
        return steps if self.max_steps is None else min(steps, self.max_steps)

    @property
    def num_examples(self) -> int:
        """Examples of the run, repeated ones counted again."""
        epochs, steps = divmod(self.num_steps, self.steps_per_epoch)
        return epochs * self.rows_per_epoch + min(steps * self.batch_examples, self.rows_per_epoch)

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> list[Example]:
        """Examples of a step, counted from 0. Any step can be asked for, which is how a run is resumed."""
        if not 0 <= step < self.num_steps:
            raise IndexError(step)
        epoch, at = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[at * self.batch_examples : (at + 1) * self.batch_examples]

    def all_examples(self) -> list[Example]:
        """Every example that a step may hold."""
        return [*self.examples, *(self.interleaved.examples if self.interleaved else ())]

    def _epoch(self, epoch: int) -> list[Example]:
        """An epoch's examples in order."""
        if epoch not in self._epochs:
            self._epochs.clear()
            rows = [self.examples[i] for i in self._order(len(self.examples), len(self.examples), epoch, self.seed)]
            if self.interleaved is not None:
                pool, count = self.interleaved.examples, len(self._positions)
                # A seed of its own: sets of equal size would otherwise be drawn in the same order.
                chosen = self._order(len(pool), count, epoch, self.seed + 1)
                for position, i in zip(self._positions, chosen, strict=True):
                    rows.insert(position, pool[i])
            self._epochs[epoch] = rows
        return self._epochs[epoch]

    @cached_property
    def _epochs(self) -> dict[int, list[Example]]:
        return {}

    def _order(self, size: int, count: int, epoch: int, seed: int) -> list[int]:
        """`count` indices below `size` for an epoch: the stretch of an endless, ever reshuffled stream that is its."""
        import grain  # slow to import

        stream = grain.MapDataset.range(size).seed(seed)
        if self.shuffle:
            stream = stream.shuffle()
        endless = stream.repeat()
        return [int(endless[epoch * count + i]) for i in range(count)]
