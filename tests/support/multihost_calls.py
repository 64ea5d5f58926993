"""One process of a job of two whose sampling is led: WHO fails in its second call (first, other, both, or stuck).

The engine is a stand-in: what is run here is what the processes say to each other. `stuck` is a failure of the other
process while the first is inside of a computation on all devices.
"""

from __future__ import annotations

import sys
from typing import Any


class Engine:
    """Fails in its second call, in some processes."""

    def __init__(self, first: bool, who: str) -> None:
        self.fails = who == "both" or first == (who == "first")
        self.waits = who == "stuck"
        self.calls = 0

    def sample(self, requests: Any, stop_ids: Any) -> list[str]:
        from jax.experimental import multihost_utils

        self.calls += 1
        if self.calls == 2 and self.fails:
            raise ValueError("no room")
        if self.calls == 2 and self.waits:
            multihost_utils.sync_global_devices("inside of a call")
        return [f"call {self.calls}"]


def main() -> None:
    from sgtr_jax.distributed.launch import exit_if_peers_hang, start_jax

    start_jax()
    with exit_if_peers_hang():
        call(sys.argv[1])


def call(who: str) -> None:
    from sgtr_jax.distributed import collectives as processes
    from sgtr_jax.sample import multihost as led

    processes._PATIENCE = 3.0
    engine: Any = Engine(processes.is_first_process(), who)
    if not processes.is_first_process():
        led.serve_follower(engine)
        print("followed", engine.calls)
        return
    leader = led.LeaderEngine(engine)
    for _ in range(3):
        try:
            print(*leader.sample([], []))
        except ValueError as error:
            print("failed:", error)
    leader.stop_followers()


main()
