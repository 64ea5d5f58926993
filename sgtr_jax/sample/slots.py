"""The scheduler of batch slots: which row is in which slot, and which chain each group of slots belongs to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence


class SlotScheduler:
    """B slots in C groups: slot b is group b % C's, and a group holds rows of one chain at a time.

    A group whose rows have all left and whose chain has none waiting is given to the chain with most waiting.
    """

    def __init__(self, waiting: Mapping[str, Sequence[int]], groups: int, rows_per_group: int) -> None:
        self._waiting = {name: deque(rows) for name, rows in waiting.items()}
        self.rows: list[int | None] = [None] * (groups * rows_per_group)
        names = sorted(waiting, key=lambda name: -len(waiting[name]))
        self.chains = names[:groups]
        self._changed = True

    @property
    def busy(self) -> bool:
        """Whether any slot has a row."""
        return any(row is not None for row in self.rows)

    @property
    def any_waiting(self) -> bool:
        """Whether a row that waits could take a slot of its chain's, or of a group that may change hands."""
        return any(self._waiting.values())

    def waiting(self) -> Iterator[int]:
        """All rows that wait."""
        return (row for rows in self._waiting.values() for row in rows)

    def assign(self) -> bool:
        """Give idle groups to chains with rows waiting; whether any chain's slots changed since last asked."""
        C = len(self.chains)
        for group, name in enumerate(self.chains):
            idle = all(row is None for row in self.rows[group::C])
            if idle and not self._waiting[name]:
                neediest = max(self._waiting, key=lambda other: len(self._waiting[other]))
                if self._waiting[neediest]:
                    self.chains[group] = neediest
                    self._changed = True
        changed, self._changed = self._changed, False
        return changed

    def fill(self) -> dict[int, int]:
        """Put waiting rows into free slots; the new ones, by slot."""
        entering = {}
        for b, row in enumerate(self.rows):
            queue = self._waiting[self.chains[b % len(self.chains)]]
            if row is None and queue:
                self.rows[b] = entering[b] = queue.popleft()
        return entering

    def free(self, slot: int) -> None:
        """Free a slot."""
        self.rows[slot] = None
