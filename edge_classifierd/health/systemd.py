"""systemd's notification protocol, sd_notify(3), without libsystemd, and the watchdog."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_classifierd.clock import Clock
    from edge_classifierd.health.heartbeat import Heartbeats, Stuck

_log = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 0.5  # a full queue of the service manager must not block the daemon


class Notifier:
    """Sends the daemon's state to the service manager. Does nothing without `NOTIFY_SOCKET`.

    Every method returns whether the message was sent and raises nothing. Any thread may call. The constructor reads
    the environment variables `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        self._address = _socket_address(variables.get("NOTIFY_SOCKET", ""))
        self._failing = False
        self._status = ""
        self.watchdog_interval_s = _watchdog_interval_s(variables)
        """Maximum time between two watchdog messages, in seconds; None when the unit has no watchdog."""

    @property
    def active(self) -> bool:
        """Return whether there is a service manager."""
        return self._address is not None

    def ready(self, status: str = "") -> bool:
        """Report the end of the start-up or of a reload."""
        return self._send("READY=1", *_status_line(status))

    def status(self, text: str) -> bool:
        """Set the text that `systemctl status` shows. The same text is not sent again."""
        if text == self._status:
            return self.active
        sent = self._send(*_status_line(text))
        if sent:
            self._status = text
        return sent

    def reloading(self) -> bool:
        """Report the start of a reload, with the time that `Type=notify-reload` requires. `ready` ends it."""
        # Not the injected clock: the manager compares this value with its own CLOCK_MONOTONIC.
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, status: str = "") -> bool:
        """Report the start of the shutdown."""
        return self._send("STOPPING=1", *_status_line(status))

    def watchdog(self) -> bool:
        """Feed the watchdog. Due within every `watchdog_interval_s`."""
        return self._send("WATCHDOG=1")

    def watchdog_trigger(self) -> bool:
        """Ask systemd to act as if the watchdog had expired."""
        return self._send("WATCHDOG=trigger")

    def _send(self, *lines: str) -> bool:
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(_SEND_TIMEOUT_S)
                channel.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failing:
                self._failing = True
                _log.warning("cannot notify systemd through NOTIFY_SOCKET: %s; the daemon continues without", error)
            return False
        if self._failing:
            self._failing = False
            _log.info("notifying systemd works again")
        return True


class Watchdog:
    """Feeds systemd's watchdog at a third of its interval, only while no stage is stuck.

    The service's loop calls `tick` at least every `period_s`. When a stage is still stuck one period after it was
    found stuck, systemd is asked to act at once. So a hung stage ends the daemon at most two periods after its
    deadline. Without systemd, `tick` still finds and logs stuck stages.
    """

    def __init__(self, heartbeats: Heartbeats, notifier: Notifier, clock: Clock) -> None:
        self._heartbeats = heartbeats
        self._notifier = notifier
        self._clock = clock
        interval_s = notifier.watchdog_interval_s
        self.period_s = None if interval_s is None else interval_s / 3
        """Maximum time between two calls of `tick`, in seconds; None without a watchdog."""
        self._fed_s: float | None = None
        self._stuck_since_s: float | None = None
        self._stuck_names: frozenset[str] = frozenset()

    def tick(self) -> tuple[Stuck, ...]:
        """Feed the watchdog if it is due and no stage is stuck; return the stuck stages."""
        now_s = self._clock.monotonic()
        stuck = self._heartbeats.stuck(now_s)
        self._log_transitions(stuck)
        if not stuck:
            self._stuck_since_s = None
            self._feed(now_s)
        elif self._stuck_since_s is None:
            self._stuck_since_s = now_s
        elif self.period_s is not None and now_s - self._stuck_since_s >= self.period_s:
            self._notifier.watchdog_trigger()
        return stuck

    def _feed(self, now_s: float) -> None:
        # A tick may be a little early. Otherwise a loop of exactly `period_s` would feed only every second time.
        if self.period_s is not None and (self._fed_s is None or now_s - self._fed_s >= 0.9 * self.period_s):
            self._notifier.watchdog()
            self._fed_s = now_s

    def _log_transitions(self, stuck: tuple[Stuck, ...]) -> None:
        names = frozenset(stage.name for stage in stuck)
        for stage in stuck:
            if stage.name not in self._stuck_names:
                _log.error("%s; the watchdog is not fed", stage)
        for name in sorted(self._stuck_names - names):
            _log.info("%s continues", name)
        self._stuck_names = names


def _status_line(text: str) -> tuple[str, ...]:
    # A line break would start another assignment.
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _socket_address(name: str) -> str | None:
    """Return the AF_UNIX address; `@` stands for the NUL of an abstract address. None for other families."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_interval_s(variables: Mapping[str, str]) -> float | None:
    if variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for another process of this unit
    try:
        microseconds = int(variables.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None
