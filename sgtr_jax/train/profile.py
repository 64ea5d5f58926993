"""A trace of some steps for XProf: `tensorboard --logdir RUN/profile`, or xprof itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from sgtr_jax.train.config import ProfileConfig


class Trace:
    """Traces the steps that `config` names; `finish` returns when the device has done what it was given."""

    def __init__(self, config: ProfileConfig | None, folder: Path, finish: Callable[[], None]) -> None:
        self._config, self._folder, self._finish = config, folder, finish

    @contextlib.contextmanager
    def around(self, step: int) -> Iterator[None]:
        """Around step number `step` of this start, from 1."""
        config = self._config
        if config is None or not config.start <= step < config.start + config.steps:
            yield
            return
        if step == config.start:
            self._finish()  # what came before is not in the picture
            jax.profiler.start_trace(str(self._folder))
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield
        if step == config.start + config.steps - 1:
            self._finish()
            jax.profiler.stop_trace()
