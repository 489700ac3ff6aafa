"""Counts the events that never reached the broker, by reason, and logs each episode of losses once."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)


class Loss(StrEnum):
    """Why an event never reached the broker."""

    MAX_EVENTS = "max_events"
    MAX_AGE = "max_age"
    MEMORY_FULL = "memory_full"
    CORRUPT = "corrupt"


_WARNINGS = {
    Loss.MAX_EVENTS: "%s: outbox.max_events are waiting for the broker; the oldest are dropped for new ones",
    Loss.MAX_AGE: "%s: events have waited for outbox.max_age; they are dropped",
    Loss.MEMORY_FULL: "%s: the memory for events is full; the oldest are dropped until the disk takes events again",
}


class Losses:
    """The losses of one outbox; used under its lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._episodes: set[Loss] = set()
        self.counts: dict[str, int] = {}
        """Events lost by reason, over the life of the database."""

    def restore(self, counts: Mapping[str, int]) -> None:
        """Continue the counts of a database that was opened."""
        for reason, count in counts.items():
            self.counts[reason] = max(self.counts.get(reason, 0), count)

    def plus(self, reason: Loss, events: int) -> dict[str, int]:
        """Return the counts as they will be after a further loss."""
        return {**self.counts, reason: self.counts.get(reason, 0) + events} if events else dict(self.counts)

    def add(self, reason: Loss, events: int) -> None:
        """Count lost events; the first of an episode is logged."""
        if events:
            self.counts = self.plus(reason, events)
            if reason in _WARNINGS and reason not in self._episodes:
                self._episodes.add(reason)
                log.warning(_WARNINGS[reason], self._path)

    def end_episode(self, reason: Loss) -> None:
        """Log that nothing more is lost for a reason, if something was."""
        if reason in self._episodes:
            self._episodes.discard(reason)
            log.info("%s: no more events are lost (%s: %d in all)", self._path, reason.value, self.counts[reason])
