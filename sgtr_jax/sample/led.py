"""An engine on several processes of which one decides: it says what it does, and the others do the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sgtr_jax.errors import RunError
from sgtr_jax.processes import from_first, or_end
from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.request import Completion, Request

_FAILED = "failed"


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
        from_first(None)

    def _call(self, name: str, *arguments: Any) -> Any:
        from_first((name, arguments))
        try:
            return getattr(self._engine, name)(*arguments)
        except Exception as error:
            with or_end(error):
                from_first(_FAILED)
            raise


def follow(engine: Engine) -> None:
    """In every process but the first: do what the first one does until it releases.

    A call that fails in all of them is the first one's affair, which raises the same and decides what follows from it.
    Raises what a call raised here only, and RunError where it failed there only. Where the others are still in the
    call and cannot be told, this process ends, and so does the job.
    """
    while (call := from_first(None)) is not None:
        if call == _FAILED:
            raise RunError("sampling failed in the job's first process and not here: its log says why")
        name, arguments = call
        try:
            getattr(engine, name)(*arguments)
        except Exception as error:
            with or_end(error):
                answer = from_first(None)
            if answer != _FAILED:
                raise
