"""The clock: monotonic seconds for durations, UTC for timestamps, and whether the wall clock can be trusted."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol

# systemd-timesyncd touches this file once the wall clock was set from NTP; chrony and ntpd are seen through adjtimex.
_TIMESYNC_MARKER = Path("/run/systemd/timesync/synchronized")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """The time source of the daemon; injected, so that tests never sleep."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start, never set back."""

    def utc(self) -> datetime:
        """Return the wall clock, aware, in UTC."""

    def synchronised(self) -> bool:
        """Return whether the wall clock was set from a time source since boot."""


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._synchronised_until = 0.0
        self._synchronised = False

    # Called a dozen times for each frame, so it is the library's function itself and no method that calls it.
    monotonic = staticmethod(time.monotonic)
    """Returns seconds since boot; the same for all processes of the machine."""

    def utc(self) -> datetime:
        """Return the wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def synchronised(self) -> bool:
        """Return whether the kernel's clock is disciplined or systemd-timesyncd has set it; checked every 10 s."""
        now = time.monotonic()
        if now >= self._synchronised_until:
            self._synchronised = _TIMESYNC_MARKER.exists() or _kernel_clock_synchronised()
            self._synchronised_until = now + 10.0
        return self._synchronised


@dataclass(frozen=True, slots=True)
class TimePoint:
    """A point in time that is compared with one after a restart, although the wall clock may have been stepped."""

    utc: datetime
    monotonic_s: float
    boot_id: str
    """The kernel's identifier of this boot, empty when unknown."""
    synchronised: bool
    """Whether the wall clock was set from a time source."""

    @classmethod
    def now(cls, clock: Clock) -> TimePoint:
        """Return the present."""
        return cls(clock.utc(), clock.monotonic(), boot_id(), clock.synchronised())

    def seconds_until(self, later: TimePoint) -> float | None:
        """Return the time between two moments; None when the wall clock may have been stepped in between."""
        if self.boot_id and self.boot_id == later.boot_id:
            elapsed_s = later.monotonic_s - self.monotonic_s
        elif self.synchronised and later.synchronised:
            elapsed_s = (later.utc - self.utc).total_seconds()
        else:
            return None
        return elapsed_s if elapsed_s >= 0 else None


@cache
def boot_id() -> str:
    """Return the kernel's identifier of this boot; empty where it cannot be read."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def process_age_s(process: int | None = None) -> float:
    """Return seconds since a process (default: this one) was started, to a hundredth; 0.0 where it is unknown."""
    try:
        ticks = int(Path(f"/proc/{process or 'self'}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        uptime_s = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, LookupError):
        return 0.0
    return max(0.0, uptime_s - ticks / os.sysconf("SC_CLK_TCK"))


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in UTC with milliseconds: `2026-11-21T22:26:11.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _kernel_clock_synchronised() -> bool:
    """Read adjtimex(2): STA_UNSYNC is cleared by every NTP daemon that disciplines the clock."""
    import ctypes  # noqa: PLC0415 - only for this one call, kept out of the start-up path

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        # struct timex is 208 bytes on 64-bit and smaller on 32-bit; `modes` is first (0: read only).
        buffer = ctypes.create_string_buffer(256)
        state = int(libc.adjtimex(buffer))
    except (OSError, AttributeError):
        return False
    clock_error = 5  # TIME_ERROR: not synchronised
    return 0 <= state < clock_error
