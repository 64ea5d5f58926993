"""An engine on several processes of which one decides: it says what it does, and the others do the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sgtr_jax.distributed.collectives import barrier_or_exit, broadcast_object
from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.request import Completion, Request

_SAMPLING = "the sampling that the first process leads"


class LeaderEngine:
    """The calls of `Engine` that an evaluation makes, from the first process only. `stop_followers` ends the others."""

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

    def stop_followers(self) -> None:
        """Let the other processes go on."""
        broadcast_object(None)

    def _call(self, name: str, *arguments: object) -> Any:
        broadcast_object((name, arguments))
        try:
            return getattr(self._engine, name)(*arguments)
        except Exception as error:
            barrier_or_exit(_SAMPLING, error)
            raise


def serve_follower(engine: Engine) -> None:
    """In every process but the first: do what the first one does until it releases.

    A call that fails in all of them is the first one's affair, which raises the same and decides what follows from it.
    One that fails in some ends the job, with the reason.
    """
    while True:
        call: tuple[str, tuple[object, ...]] | None = broadcast_object(None)
        if call is None:
            return
        name, arguments = call
        try:
            getattr(engine, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - the first process raises the same, or the job ends
            barrier_or_exit(_SAMPLING, error)
