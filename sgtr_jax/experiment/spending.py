"""What judging has cost: one budget for all evaluations of a run, written down as it is spent, kept across restarts."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sgtr_eval.judging.budget import Costs, check_priced
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.services import JudgeConfig
from sgtr_jax.files import decoded, parse_json
from sgtr_jax.json_types import Json

LEDGER = "spending.jsonl"  # in the run folder: a line a request


class Spending:
    """The dollars that one judge has cost, in all and by artifact, and the most that it may.

    Requests of other judges stand in the same file and do not count: each judge has its budget.
    """

    def __init__(self, judge: JudgeConfig, model: str, ledger: Path | None = None) -> None:
        """`model` is the judge's name in the price list. Without a ledger nothing outlives the process.

        Raises InputError for a ledger that cannot be read.
        """
        self.max_cost = judge.max_cost
        self._model, self._ledger = model, ledger
        self._by_artifact: dict[str, float] = {}
        self._dearest = 0.0  # request
        for row in read_ledger(ledger) if ledger is not None else ():
            if row.judge == model:
                self._add(row.artifact, row.dollars)
                self._dearest = max(self._dearest, row.dollars)

    @property
    def spent(self) -> float:
        """Dollars in all."""
        return sum(self._by_artifact.values())

    @property
    def left(self) -> float | None:
        """Dollars that may still be spent; None where there is no budget."""
        return None if self.max_cost is None else max(0.0, self.max_cost - self.spent)

    def still_needed(self, expected: Mapping[str, float]) -> float:
        """Dollars that are still to be spent, of those `expected` by artifact: replies that were paid for are kept."""
        # NaN, of a judge without a price, must not be lost in a comparison.
        rest = [dollars - self._by_artifact.get(name, 0.0) for name, dollars in expected.items()]
        return sum(dollars if math.isnan(dollars) else max(0.0, dollars) for dollars in rest)

    @contextlib.contextmanager
    def recorded(self, artifact: str) -> Iterator[None]:
        """Write down every request of the block. Raises RunError at once if nothing is left."""
        if self.left == 0:
            raise RunError(self.over(artifact))
        with contextlib.ExitStack() as stack:
            file = None
            if self._ledger is not None:
                self._ledger.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(self._ledger.open("a", encoding="utf-8"))

            def write(model: str, dollars: float) -> None:
                self._add(artifact, dollars)
                if file is not None:
                    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                    row = {"date": now, "judge": model, "artifact": artifact, "dollars": dollars}
                    # A line that a kill left unfinished is ended first: it must not swallow this one.
                    file.write("\n" + json.dumps(row))
                    file.flush()

            Costs.ledger, Costs.dearest = write, {self._model: self._dearest}
            try:
                yield
            finally:
                self._dearest = Costs.dearest[self._model]
                Costs.ledger = None

    def over(self, label: str) -> str:
        """That the budget is spent, and what to do."""
        return (
            f"{label}: the budget of ${self.max_cost:g} for judging is used up (${self.spent:.4g} spent); replies are "
            "kept, and the same command with a higher judge.max_cost (--max-cost) goes on from there"
        )

    def check(self, expected: Mapping[str, float], assume_yes: bool) -> None:
        """Compare what judging is expected to cost, by artifact, with what is left of the budget.

        Raises InputError where it is more and nobody says yes, and where the judge has no price to count with.
        """
        if self.left is None or not expected:
            return
        check_priced(self._model)
        needed = self.still_needed(expected)
        if needed <= self.left:
            return
        words = self.in_words(needed)
        if assume_yes:
            print(f"{words}. It ends when that is spent", file=sys.stderr)
            return
        if sys.stdin.isatty() and input(f"{words}. Go on until it is spent? [y/N] ").strip().lower() in ("y", "yes"):
            return
        raise InputError(
            f"{words}. Nothing was sent. Raise judge.max_cost (--max-cost), or --yes goes on until it is spent"
        )

    def in_words(self, needed: float) -> str:
        """What is needed beside what is left."""
        spent = f", ${self.spent:,.2f} of which is spent" if self.spent else ""
        budget = f"the budget is ${self.max_cost:,.2f}{spent}"
        return f"judging by {self._model}: about ${needed:,.2f} more is expected; {budget}"

    def _add(self, artifact: str, dollars: float) -> None:
        self._by_artifact[artifact] = self._by_artifact.get(artifact, 0.0) + dollars


@dataclass(frozen=True)
class Request:
    """What one request to a judge has cost, and the artifact that it was for."""

    judge: str
    artifact: str
    dollars: float


def requests_in(ledger: bytes, name: str) -> Iterator[Request]:
    """The requests of a ledger that is called `name`. Raises InputError, naming the line, for one that is none.

    The last line may be unfinished: it is being written, or a kill came.
    """
    lines = ledger.split(b"\n")
    for number, line in enumerate(lines, 1):
        where = f"{name}:{number}"
        try:
            if (text := decoded(line, where)).strip():
                yield _request(parse_json(text, where), where, text)
        except InputError as error:
            if number < len(lines):
                raise InputError(
                    f"{error}. Mend the line, or move the file away: then nothing counts as spent before"
                ) from None


def _request(row: Json, where: str, text: str) -> Request:
    request = row if isinstance(row, dict) else {}
    dollars = request.get("dollars")
    if not isinstance(dollars, int | float) or not math.isfinite(dollars) or dollars < 0:
        raise InputError(f"{where}: expected a request with its dollars, got {text[:80]!r}")
    return Request(str(request.get("judge")), str(request.get("artifact")), float(dollars))


def read_ledger(ledger: Path) -> list[Request]:
    """The requests of a ledger; none where there is no such file. Raises InputError."""
    try:
        return list(requests_in(ledger.read_bytes(), str(ledger)))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{ledger}: cannot be read: {error.strerror or error}") from None
