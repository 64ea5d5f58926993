"""Being asked to stop: SIGTERM on one machine, a preemption notice on a pod."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils


class StopRequest:
    """Inside the block SIGTERM does not end the process; `at(step)` says whether it came.

    In a job of several processes the answer is the same in all of them: the runtime agrees on a step.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._before: Callable[[int, FrameType | None], object] | int | None = None

    def __enter__(self) -> StopRequest:
        # With several processes the runtime's own handler catches SIGTERM; only the main thread may set one.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()

    def at(self, step: int) -> bool:
        """Whether to save and stop now. Every process must ask, with the same number, one higher each time."""
        if jax.process_count() == 1:
            return self._asked.is_set()
        return bool(multihost_utils.reached_preemption_sync_point(step))
