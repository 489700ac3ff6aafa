"""Whether a pipeline rests now: by its `active` times and the clock, or because all cameras are paused."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from edge_classifierd.decision.active_times import ActiveTimes, Activity, activity_at

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from edge_classifierd.clock import Clock

CLOCK_PATIENCE_S: Final = 120.0
"""Time after boot for which a clock that is not synchronised is waited for."""


class Rest(Enum):
    """Whether a pipeline is to run."""

    ACTIVE = "active again"
    RESTING = "rests until the next of its `active` times"
    CLOCK_UNKNOWN = "waits for the clock, which is not synchronised, because it has `active` times"
    """The camera is closed, but active watches stay active, because the time is not known yet."""
    PAUSED = "pauses while a model is trained"

    def __str__(self) -> str:
        """Return the words for the log."""
        return self.value


class RestTimes:
    """Compares the `active` times of all pipelines with the clock; pauses all of them for a while. Any thread."""

    def __init__(self, clock: Clock, zone: tzinfo | None = None) -> None:
        """`zone` is the local time zone; None: that of the system."""
        self._clock = clock
        self._zone = zone
        self._known: dict[ActiveTimes, Activity] = {}
        self._paused_until_s = 0.0

    def pause(self, timeout_s: float) -> None:
        """Let all pipelines rest until `resume`, for `timeout_s` at most. A restart of the daemon ends it too."""
        self._paused_until_s = self._clock.monotonic() + timeout_s

    def resume(self) -> None:
        """End the pause, if there is one."""
        self._paused_until_s = 0.0

    @property
    def paused_until(self) -> datetime | None:
        """When the pause ends at the latest, UTC; None without one."""
        left_s = self._paused_until_s - self._clock.monotonic()
        return self._clock.utc() + timedelta(seconds=left_s) if left_s > 0 else None

    def rest(self, times: ActiveTimes) -> Rest:
        """Return whether a pipeline with these times is to run now. Takes about a microsecond except at a change."""
        if not times.ranges:
            return self._unless_paused()
        # A Raspberry Pi has no clock of its own: after a boot its time is wrong until the network has set it.
        if self._clock.monotonic() < CLOCK_PATIENCE_S and not self._clock.synchronised():
            return Rest.CLOCK_UNKNOWN
        now = self._clock.utc()
        activity = self._known.get(times)
        if activity is None or not activity.since <= now < activity.until:  # also after a step of the clock
            activity = activity_at(times, now, self._zone)
            self._known[times] = activity
        return self._unless_paused() if activity.active else Rest.RESTING

    def _unless_paused(self) -> Rest:
        return Rest.PAUSED if self._clock.monotonic() < self._paused_until_s else Rest.ACTIVE

    def active_again(self, times: ActiveTimes) -> datetime | None:
        """Return when the next of these times begins, UTC; None when that is unknown, or one contains this moment."""
        if self.rest(times) is not Rest.RESTING:
            return None
        begins = self._known[times].until
        return begins if activity_at(times, begins, self._zone).active else None
