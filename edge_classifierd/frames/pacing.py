"""Paces pictures: at a fixed rate, or by the timestamps of a video."""

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
    """The intended waits of a source; the event `cancelled` ends one."""

    def __init__(self, clock: Clock, cancelled: threading.Event) -> None:
        self._clock = clock
        self._cancelled = cancelled
        self.until_s = -inf
        """Monotonic seconds at which the current wait ends, or the last one ended. Any thread may read it."""

    def wait(self, delay_s: float) -> None:
        """Wait for `delay_s`; not at all when it is zero or negative."""
        if delay_s > 0:
            self.until_s = self._clock.monotonic() + delay_s
            self._cancelled.wait(delay_s)
            self.until_s = self._clock.monotonic()


class FixedRate:
    """A rate of `fps` pictures a second; None: no limit."""

    def __init__(self, fps: float | None) -> None:
        self._period_s = None if fps is None else 1.0 / fps
        self._due_s: float | None = None

    def delay_s(self, now_s: float) -> float:
        """Return the seconds to wait before the next picture. A late reader gets no burst of pictures."""
        if self._period_s is None:
            return 0.0
        if self._due_s is None or now_s > self._due_s + self._period_s:
            self._due_s = now_s
        delay_s = max(0.0, self._due_s - now_s)
        self._due_s += self._period_s
        return delay_s


class OwnPace:
    """The pace of a video's timestamps. A short delay is caught up, one of over a second is not."""

    def __init__(self) -> None:
        self._start_s: float | None = None  # the clock at time 0 of the video
        self._last_s: float | None = None  # the video's time of the previous picture
        self._due_s = 0.0

    def restart(self) -> None:
        """Begin the video again: its first picture follows the last one after the usual period."""
        self._last_s = None

    def delay_s(self, now_s: float, time_s: float | None, period_s: float | None) -> float:
        """Return the seconds to wait before the picture with the video's time `time_s`.

        `period_s`, the usual period, is used where timestamps are missing, go back or jump by more than 10 s.
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


class RateLimit:
    """Selects frames so that at most `max_fps` per second remain."""

    def __init__(self, max_fps: float) -> None:
        self._period_s = 1.0 / max_fps
        self._due_s = -inf

    def allows(self, now_s: float) -> bool:
        """Return whether a frame of this time is due; a tenth of a period early is accepted, as cameras jitter."""
        if now_s < self._due_s - self._period_s / 10:
            return False
        late = now_s > self._due_s + self._period_s
        self._due_s = (now_s if late else self._due_s) + self._period_s
        return True
