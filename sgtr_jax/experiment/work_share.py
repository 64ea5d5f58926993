"""Which of the missing artifacts a process makes: all, or of several machines its part and what others leave."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from sgtr_jax.distributed.collectives import is_first_process
from sgtr_jax.errors import RunError
from sgtr_jax.experiment.node import Node, in_order
from sgtr_jax.experiment.spending import LEDGER

if TYPE_CHECKING:
    from sgtr_jax.experiment.leases import Leases
    from sgtr_jax.experiment.mirror import Mirror
    from sgtr_jax.experiment.store import Store

POLL_SECONDS = 20.0  # between two looks at what other machines have made


class WorkShare(Protocol):
    """What the executor asks before and after it makes something."""

    def is_made(self, node: Node) -> bool:
        """Whether an artifact is there, here or where other machines keep it."""

    def turns(self, todo: Sequence[Node]) -> Sequence[Sequence[Node]]:
        """What is to be made, in the order in which it is looked through for something that can be."""

    def claim(self, batch: Sequence[Node]) -> Sequence[Node]:
        """Those of a batch that are to be made here now. What they are made from is in the store then."""

    def made(self, nodes: Sequence[Node]) -> None:
        """Take note that some artifacts are in the store. Raises RunError."""

    def failed(self, node: Node, why: str) -> None:
        """Take note that an artifact could not be made."""

    def failed_elsewhere(self, todo: Sequence[Node]) -> Mapping[Node, str]:
        """What other machines could not make, with the reason."""

    def wait(self) -> bool:
        """Wait for other machines. False: there are none."""


class WholeRun:
    """All of it, in this process or job; what is made goes to the mirror, if there is one."""

    def __init__(self, store: Store, mirror: Mirror | None) -> None:
        self._store, self._mirror = store, mirror

    def is_made(self, node: Node) -> bool:
        """See `WorkShare`."""
        return self._store.has(node)

    def turns(self, todo: Sequence[Node]) -> Sequence[Sequence[Node]]:
        """See `WorkShare`."""
        return [todo]

    def claim(self, batch: Sequence[Node]) -> Sequence[Node]:
        """See `WorkShare`."""
        return batch

    def made(self, nodes: Sequence[Node]) -> None:
        """See `WorkShare`. One that cannot be written ends the work, for the next machine needs it."""
        if self._mirror is not None and is_first_process():
            self._mirror.send_file(self._store.root.parent / LEDGER)
            for node in nodes:
                self._mirror.send(node, self._store)

    def failed(self, node: Node, why: str) -> None:
        """See `WorkShare`."""

    def failed_elsewhere(self, todo: Sequence[Node]) -> Mapping[Node, str]:
        """See `WorkShare`."""
        return {}

    def wait(self) -> bool:
        """See `WorkShare`."""
        return False


class PartOfRun:
    """A part of it, and then what is left of the others: an artifact is made by whoever holds its lease."""

    def __init__(self, own: set[str], nodes: Sequence[Node], store: Store, mirror: Mirror, leases: Leases) -> None:
        """`own` are the fingerprints of the part, among all `nodes` of the run."""
        self._own = own
        self._needed = {one.fingerprint for one in in_order([node for node in nodes if node.fingerprint in own])}
        self._store, self._mirror, self._leases = store, mirror, leases
        self._there = mirror.keys()

    def is_made(self, node: Node) -> bool:
        """See `WorkShare`."""
        return self._store.has(node) or node.key in self._there

    def turns(self, todo: Sequence[Node]) -> Sequence[Sequence[Node]]:
        """See `WorkShare`: its own, what that needs; and once all of its own is made, the others'."""
        own = [node for node in todo if node.fingerprint in self._own]
        needed = [node for node in todo if node.fingerprint in self._needed - self._own]
        return [own, needed] if own else [todo]

    def claim(self, batch: Sequence[Node]) -> Sequence[Node]:
        """See `WorkShare`. Raises RunError where what something is made from is damaged in the mirror."""
        taken = [node for node in batch if self._leases.take(node.key)]
        # Another machine may have finished it since the last look, and given its lease up.
        if taken:
            self._there = self._mirror.keys()
        kept = [node for node in taken if node.key not in self._there]
        for node in taken:
            if node not in kept:
                self._leases.free(node.key)
        inputs = in_order([one for node in kept for one in node.inputs.values()])
        self._mirror.fetch(inputs, self._store)
        for one in inputs:
            if not self._store.has(one):
                raise RunError(
                    f"{self._mirror.address}: {one.name} is damaged there, and others are made from it; remove "
                    f"store/{one.folder} there, and start again"
                )
        return kept

    def send(self, nodes: Sequence[Node]) -> None:
        """Send those of some artifacts of the store that are not where other machines find them. Raises RunError."""
        for node in nodes:
            if node.key not in self._there:
                self._mirror.send(node, self._store)
                self._there.add(node.key)

    def made(self, nodes: Sequence[Node]) -> None:
        """See `WorkShare`."""
        self.send(nodes)
        for node in nodes:
            self._leases.free(node.key)

    def failed(self, node: Node, why: str) -> None:
        """See `WorkShare`."""
        self._leases.end(node.key, failed=why)

    def failed_elsewhere(self, todo: Sequence[Node]) -> Mapping[Node, str]:
        """See `WorkShare`."""
        found = {node: self._leases.failure(node.key) for node in todo}
        return {node: f"on another machine: {why}" for node, why in found.items() if why is not None}

    def wait(self) -> bool:
        """See `WorkShare`."""
        time.sleep(POLL_SECONDS)
        self._leases.look()
        self._there = self._mirror.keys()
        return True
