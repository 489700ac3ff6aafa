"""Events in bounded memory, while the disk does not take them."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.events.tables import Stored

MEMORY_EVENTS = 5000
"""How many events are held at most."""


class EventMemory:
    """The rows, in the order of their positions; used under the outbox's lock."""

    def __init__(self, keep_sent: int) -> None:
        """`keep_sent` is how many removed rows stay in `sent`."""
        self._rows: deque[Stored] = deque()
        self.sent: deque[Stored] = deque(maxlen=keep_sent)
        """The newest rows that the broker has acknowledged before the disk took them."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> tuple[Stored, ...]:
        """All rows."""
        return tuple(self._rows)

    def oldest_made_s(self) -> float | None:
        """Return when the oldest row was made, in running time; None without one."""
        return self._rows[0].made_s if self._rows else None

    def add(self, rows: Sequence[Stored]) -> int:
        """Add rows and return how many of the oldest were dropped for them."""
        self._rows.extend(rows)
        surplus = max(0, len(self._rows) - MEMORY_EVENTS)
        for _ in range(surplus):
            self._rows.popleft()
        return surplus

    def remove(self, positions: set[int]) -> set[int]:
        """Move rows to `sent` and return the positions that were not here."""
        sent = [row for row in self._rows if row.position in positions]
        removed = {row.position for row in sent}
        if removed:
            self.sent.extend(sent)
            self._rows = deque(row for row in self._rows if row.position not in removed)
        return positions - removed

    def make_younger(self, seconds: float) -> None:
        """Move the times at which rows were made to another origin of the running time."""
        self._rows = deque(replace(row, made_s=row.made_s + seconds) for row in self._rows)

    def clear(self) -> None:
        """Remove all rows."""
        self._rows.clear()
