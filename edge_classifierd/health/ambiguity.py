"""Share of ambiguous frames in the last hour: frames whose two best labels were too close to each other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock

HINT = "most frames of the last hour were ambiguous; a more accurate model may help"

_MINUTES = 60
_FEWEST_FRAMES = 100  # fewer frames (behind a motion gate) give no information about the model


class AmbiguityHour:
    """Counts frames per minute, so that memory does not depend on the frame rate. Any thread may call.

    The window is between 59 and 60 minutes long, because the oldest minute is removed as a whole.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._first_minute: int | None = None
        self._minutes = [-1] * _MINUTES  # minute of each slot; -1: unused, its counts are 0
        self._frames = [0] * _MINUTES
        self._ambiguous = [0] * _MINUTES

    def record(self, *, ambiguous: bool) -> None:
        """Count one frame."""
        minute = int(self._clock.monotonic() // 60)
        slot = minute % _MINUTES
        with self._lock:
            if self._minutes[slot] != minute:
                self._minutes[slot] = minute
                self._frames[slot] = self._ambiguous[slot] = 0
                if self._first_minute is None:
                    self._first_minute = minute
            self._frames[slot] += 1
            if ambiguous:
                self._ambiguous[slot] += 1

    def share(self) -> float | None:
        """Return ambiguous frames / all frames of the last hour, 0 to 1; None without frames."""
        frames, ambiguous = self._totals()
        return ambiguous / frames if frames else None

    def hint(self) -> str | None:
        """Return advice when a whole hour was counted and more than half of it was ambiguous, else None."""
        now_minute = int(self._clock.monotonic() // 60)
        with self._lock:
            whole_hour = self._first_minute is not None and now_minute - self._first_minute >= _MINUTES - 1
        frames, ambiguous = self._totals()
        return HINT if whole_hour and frames >= _FEWEST_FRAMES and 2 * ambiguous > frames else None

    def _totals(self) -> tuple[int, int]:
        oldest = int(self._clock.monotonic() // 60) - _MINUTES + 1
        with self._lock:
            recent = [slot for slot, minute in enumerate(self._minutes) if minute >= oldest]
            return sum(self._frames[slot] for slot in recent), sum(self._ambiguous[slot] for slot in recent)
