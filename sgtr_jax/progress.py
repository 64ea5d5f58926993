"""Progress of long work: a bar with rate and time left on a terminal, one line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts work done. Use as a context manager; `advance(n, note)` after each piece."""

    def __init__(self, label: str, total: int, unit: str, quiet: bool = False) -> None:
        self._quiet = quiet
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and not quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(label, total=total, note="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._done:
            self._line("")

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return time.monotonic() - self._started

    def advance(self, amount: int, note: str = "") -> None:
        """Record `amount` more units done."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, note=note)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._line(note)

    def _line(self, note: str) -> None:
        self._last_line = time.monotonic()
        if self._quiet:
            return
        seconds = self._last_line - self._started
        rate = self._done / seconds if seconds else 0.0
        left = (self._total - self._done) / rate if rate else 0.0
        tail = f", {left:.0f} s left" if self._done < self._total else f" in {seconds:.1f} s"
        print(
            f"{self._label}: {self._done}/{self._total} {self._unit}, {rate:.1f}/s{tail}{' ' + note if note else ''}",
            file=sys.stderr,
            flush=True,
        )
