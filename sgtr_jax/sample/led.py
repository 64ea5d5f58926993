"""An engine on several processes of which one decides: it says what it does, and the others do the same."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.request import Completion, Request


class LedEngine:
    """The calls of `Engine` that an evaluation makes, from the first process only. `release` ends the others' wait."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def sample(self, requests: Sequence[Request], stop_ids: Sequence[int]) -> list[Completion]:
        """See `Engine.sample`."""
        found: list[Completion] = self._call("sample", list(requests), tuple(stop_ids))
        return found

    def next_token_logprobs(
        self, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """See `Engine.next_token_logprobs`."""
        found: list[np.ndarray] = self._call("next_token_logprobs", list(prompts), list(options))
        return found

    def release(self) -> None:
        """Let the other processes go on."""
        _say(None)

    def _call(self, name: str, *arguments: Any) -> Any:
        _say((name, arguments))
        return getattr(self._engine, name)(*arguments)


def follow(engine: Engine) -> None:
    """In every process but the first: do what the first one does until it releases."""
    while (call := _hear()) is not None:
        name, arguments = call
        try:
            getattr(engine, name)(*arguments)
        except Exception:  # noqa: BLE001 - the first process raises the same, and decides what follows from it
            continue


def _say(message: Any) -> None:
    if jax.process_count() == 1:
        return
    data = np.frombuffer(pickle.dumps(message), np.uint8)
    multihost_utils.broadcast_one_to_all(np.int32(len(data)))
    multihost_utils.broadcast_one_to_all(data)


def _hear() -> Any:
    """What the first process says. It is one of this job's own, so its bytes are as trusted as its code."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(0)))
    data = multihost_utils.broadcast_one_to_all(np.zeros(size, np.uint8))
    return pickle.loads(np.asarray(data, np.uint8).tobytes())
