"""When the next picture is due: at a fixed rate, or by the timestamps that a video carries; and waiting for it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from edge_classifierd.clock import Clock

_LATE_S = 1.0
_LONGEST_GAP_S = 10.0
_UNKNOWN_PERIOD_S = 1 / 25


class Pause:
    """A source's waits on purpose, which `cancelled` ends."""

    def __init__(self, clock: Clock, cancelled: threading.Event) -> None:
        self._clock = clock
        self._cancelled = cancelled
        self.until_s = -inf
        """Monotonic seconds at which the present wait is to end, or the last one has ended; any thread may look."""

    def wait(self, delay_s: float) -> None:
        """Wait that long, if at all."""
        if delay_s > 0:
            self.until_s = self._clock.monotonic() + delay_s
            self._cancelled.wait(delay_s)
            self.until_s = self._clock.monotonic()


class FixedRate:
    """Pictures at `fps` a second, or as fast as they are asked for when it is None."""

    def __init__(self, fps: float | None) -> None:
        self._period_s = None if fps is None else 1.0 / fps
        self._due_s: float | None = None

    def delay_s(self, now_s: float) -> float:
        """Seconds to wait before the next picture; a reader that comes late gets no burst to catch up with."""
        if self._period_s is None:
            return 0.0
        if self._due_s is None or now_s > self._due_s + self._period_s:
            self._due_s = now_s
        delay_s = max(0.0, self._due_s - now_s)
        self._due_s += self._period_s
        return delay_s


class OwnPace:
    """Pictures as far apart as their timestamps say; a little lateness is caught up with, a lot is forgotten."""

    def __init__(self) -> None:
        self._start_s: float | None = None  # the clock at the video's time 0
        self._last_s: float | None = None  # the video's time of the picture before
        self._due_s = 0.0

    def restart(self) -> None:
        """The video begins again: its first picture follows the last one at the usual distance."""
        self._last_s = None

    def delay_s(self, now_s: float, time_s: float | None, period_s: float | None) -> float:
        """Seconds to wait before showing the picture of the video's time `time_s`.

        `period_s` is the usual distance of two pictures: it stands in where the timestamps are missing, jump back or
        leap by more than 10 s, as damaged ones do.
        """
        usual_s = period_s or _UNKNOWN_PERIOD_S
        if self._start_s is None:
            self._due_s = now_s
        elif time_s is None or self._last_s is None or not 0 <= time_s - self._last_s <= _LONGEST_GAP_S:
            self._due_s += usual_s
        else:
            self._due_s = self._start_s + time_s
        if now_s - self._due_s > _LATE_S:
            self._due_s = now_s
        if time_s is not None:
            self._start_s = self._due_s - time_s
        elif self._start_s is None:
            self._start_s = self._due_s
        self._last_s = time_s
        return max(0.0, self._due_s - now_s)
