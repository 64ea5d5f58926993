"""The host's side of the rows being sampled: what is fixed for each, and what each has generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sgtr_jax.sample.decode import DecodeShape, DecodeStep, RowSettings
from sgtr_jax.sample.request import Completion, Request, TokenLogprob
from sgtr_jax.sample.sampling import row_key_data
from sgtr_jax.sample.steering import SteeringTable


@dataclass
class _Row:
    index: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)


class RowReader:
    """Keeps `rows`, which the device reads, and turns what the device generates into completions."""

    def __init__(
        self,
        requests: Sequence[Request],
        chain_of: Sequence[str],
        shape: DecodeShape,
        stop_ids: tuple[int, ...],
        decode: Callable[[Sequence[int]], str] | None,
        decode_whole: Callable[[Sequence[int]], str] | None,
        table: SteeringTable | None = None,
    ) -> None:
        self._requests, self._chain_of, self._stop_ids, self._decode = requests, chain_of, stop_ids, decode
        self._decode_whole = decode_whole  # special tokens too
        self._table = table
        self.rows = RowSettings.empty(shape.slots, shape.stop_ids, shape.vectors > 0)
        self._at: dict[int, _Row] = {}

    def enter(self, slot: int, index: int) -> None:
        """Request `index` takes a slot."""
        request, rows = self._requests[index], self.rows
        rows.keys[slot] = row_key_data(request.seed, self._chain_of[index], request.prompt_id, request.sample)
        rows.temperature[slot], rows.top_k[slot] = request.temperature, request.top_k
        rows.top_p[slot], rows.max_new_tokens[slot] = request.top_p, request.max_tokens
        stops = self._stops(request)
        rows.stop_ids[slot] = -1
        rows.stop_ids[slot, : len(stops)] = stops
        if self._table is not None and rows.steering is not None:
            self._table.enter(rows.steering, slot, request.steering)
        self._at[slot] = _Row(index)

    def read(self, step: DecodeStep, rows: Sequence[int | None]) -> Iterator[tuple[int, int, Completion]]:
        """Take in what a call generated; (slot, request, completion) for every row that is done."""
        for slot, index in enumerate(rows):
            if index is None:
                continue
            row, request = self._at[slot], self._requests[index]
            new = int(step.count[slot]) - len(row.tokens)
            row.tokens += step.tokens[slot, :new].tolist()
            if request.logprobs is not None:
                row.logprobs += _logprobs(step, slot, new, request.logprobs)
            cut = self._stop_text(row.tokens, new, request)
            if cut is not None or not step.active[slot]:
                self.rows.max_new_tokens[slot] = 0  # the device may not know yet that the row has ended
                yield slot, index, self._completion(row, request, cut)

    def _stops(self, request: Request) -> tuple[int, ...]:
        return tuple(dict.fromkeys((*self._stop_ids, *request.stop_ids)))

    def _stop_text(self, tokens: list[int], new: int, request: Request) -> int | None:
        """With how many tokens the text first holds a stop text, the last `new` tokens being new; None if not yet.

        Independent of how many tokens come at a time.
        """
        if not request.stop or not new:
            return None
        if not self._holds(tokens, request.stop):
            return None
        first = len(tokens) - new + 1
        return next(
            (count for count in range(first, len(tokens) + 1) if self._holds(tokens[:count], request.stop)), None
        )

    def _holds(self, tokens: Sequence[int], stops: Sequence[str]) -> bool:
        """Whether the text, as it is shown or with its special tokens, holds one of the stop texts."""
        assert self._decode is not None and self._decode_whole is not None
        shown, whole = self._decode(tokens), self._decode_whole(tokens)
        return any(stop in shown or stop in whole for stop in stops)

    def _text_before(self, tokens: list[int], stops: Sequence[str]) -> str:
        """What is shown of a text that a stop text ended."""
        assert self._decode is not None and self._decode_whole is not None
        shown = self._decode(tokens)
        found = [stop for stop in stops if stop in shown]
        if found:
            return min((shown.partition(stop)[0] for stop in found), key=len)
        whole = self._decode_whole(tokens)
        before = min((whole.partition(stop)[0] for stop in stops if stop in whole), key=len)
        # The most tokens whose text lies before the stop text: it begins within the next one.
        count = max(n for n in range(len(tokens)) if before.startswith(self._decode_whole(tokens[:n])))
        return self._decode(tokens[:count])

    def _completion(self, row: _Row, request: Request, cut: int | None) -> Completion:
        tokens = row.tokens if cut is None else row.tokens[:cut]
        ended = bool(tokens) and tokens[-1] in self._stops(request)
        logprobs = None if request.logprobs is None else tuple(row.logprobs[: len(tokens)])
        kept = tokens[:-1] if ended else tokens
        text = self._decode(kept) if self._decode is not None else ""
        if cut is not None:
            text = self._text_before(tokens, request.stop)
        finish = "stop" if ended or cut is not None else "length"
        return Completion(tuple(kept), finish, text, logprobs)


def _logprobs(step: DecodeStep, slot: int, new: int, top_logprobs: int) -> list[TokenLogprob]:
    found = []
    for t in range(new):
        ids, values = step.top_tokens[slot, t, :top_logprobs], step.top_logprobs[slot, t, :top_logprobs]
        top = tuple((int(i), float(v)) for i, v in zip(ids, values, strict=True))
        found.append(TokenLogprob(int(step.tokens[slot, t]), float(step.logprobs[slot, t]), top))
    return found
