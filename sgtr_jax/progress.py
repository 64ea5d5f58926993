"""Progress of long work: bars with time left on a terminal, one line every few seconds elsewhere.

On a terminal there is one display: the bar of a whole run, and below it that of what is being made. What is printed
meanwhile, by this program or by a package, stands above it.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LINES = 15.0
_whole: Overall | None = None  # the display of a whole run, while there is one


class Overall:
    """The bar of a whole run. Use as a context manager; `show(done, note)` after each piece.

    Nothing is shown where there is no terminal, or with `quiet`.
    """

    def __init__(self, label: str, total: int, quiet: bool = False) -> None:
        self._label, self._total = label, total
        self._bar = _new_bar(transient=True) if _is_terminal() and not quiet else None

    def __enter__(self) -> Overall:
        global _whole
        if self._bar is not None and _whole is None:
            self._task = self._bar.add_task(self._label, total=self._total, note="", timed=False)
            self._bar.start()
            _whole = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _whole
        if self._bar is not None and _whole is self:
            self._bar.stop()
            _whole = None

    def show(self, done: int, note: str) -> None:
        """Show how many pieces are done, with what is to be said of the rest."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)

    @property
    def bar(self) -> RichProgress | None:
        """What bars of its parts are shown in."""
        return self._bar


class Progress:
    """Counts work done. Use as a context manager; `advance(n, note)` after each piece."""

    def __init__(self, label: str, total: int, unit: str, quiet: bool = False) -> None:
        self._quiet = quiet
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._bar: RichProgress | None = None
        self._within = _whole is not None
        if _is_terminal() and not quiet:
            self._bar = _whole.bar if _whole is not None else _new_bar(transient=False)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._task = self._bar.add_task(self._label, total=self._total, note="", timed=True)
            if not self._within:
                self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None and self._within:
            self._bar.remove_task(self._task)
        elif self._bar is not None:
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


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _new_bar(transient: bool) -> RichProgress:
    """Bars of which those that are `timed` say what is left by their own rate; others say it in their note."""
    from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Left(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            return super().render(task) if task.fields["timed"] else Text("")

    # What is printed to standard output stays there: it may be a file.
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        Left(),
        console=_console(),
        redirect_stdout=sys.stdout.isatty(),
        transient=transient,
    )
