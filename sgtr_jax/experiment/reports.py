"""Reports of what is there while a run goes on, every so many minutes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.errors import InputError, RunError

if TYPE_CHECKING:
    from sgtr_jax.experiment.mirror import Mirror


class Reports:
    """Writes a run's report when `every` minutes have passed since the last one; never where that is None."""

    def __init__(self, folder: Path, every: float | None, mirror: Mirror | None) -> None:
        self._folder, self._mirror = folder, mirror
        self._seconds = None if every is None else 60 * every
        self._last = time.monotonic()

    def write_if_due(self) -> None:
        """Write it if it is time. One that cannot be written is said, and does not end the run."""
        if self._seconds is None or time.monotonic() - self._last < self._seconds:
            return
        from sgtr_jax.report.write import report

        try:
            report(self._folder, show=False)
            if self._mirror is not None:
                self._mirror.send_report(self._folder)
        except (InputError, RunError) as error:
            print(f"no report of what is there so far: {error}", file=sys.stderr)
        self._last = time.monotonic()
