"""systemd's notification protocol, sd_notify(3), without libsystemd, and the watchdog that speaks it."""

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

_SEND_TIMEOUT_S = 0.5  # a full queue at the service manager must not hold the daemon up


class Notifier:
    """Tells the service manager how the daemon is doing; does nothing when none asked to be told.

    Every method returns whether the message was handed over and raises nothing. Any thread may call. The environment
    is read once, when the object is made: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        self._address = _socket_address(variables.get("NOTIFY_SOCKET", ""))
        self._failing = False
        self._status = ""
        self.watchdog_interval_s = _watchdog_interval_s(variables)
        """Within how many seconds each watchdog message must come; None when the unit has no watchdog."""

    @property
    def active(self) -> bool:
        """Whether a service manager listens."""
        return self._address is not None

    def ready(self, status: str = "") -> bool:
        """Start-up or a reload is done."""
        return self._send("READY=1", *_status_line(status))

    def status(self, text: str) -> bool:
        """Say in plain words how it goes, for `systemctl status`; the same text again is not sent."""
        if text == self._status:
            return self.active
        sent = self._send(*_status_line(text))
        if sent:
            self._status = text
        return sent

    def reloading(self) -> bool:
        """A reload begins (`Type=notify-reload` wants the time with it); `ready` ends it."""
        # Not the injected clock: the manager compares this figure with its own CLOCK_MONOTONIC.
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, status: str = "") -> bool:
        """Shutdown begins."""
        return self._send("STOPPING=1", *_status_line(status))

    def watchdog(self) -> bool:
        """All is well; due within every `watchdog_interval_s`."""
        return self._send("WATCHDOG=1")

    def watchdog_trigger(self) -> bool:
        """Ask to be treated as if the watchdog had run out."""
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
                _log.warning("cannot notify systemd through NOTIFY_SOCKET: %s; going on without", error)
            return False
        if self._failing:
            self._failing = False
            _log.info("notifying systemd works again")
        return True


class Watchdog:
    """Feeds systemd's watchdog at a third of its interval, and only while no stage is stuck.

    The supervisor's loop calls `tick`, at least every `period_s`. A stage that is still stuck a period after it was
    found so ends the wait: systemd is asked to act at once. So a hung stage is gone at most two periods after its own
    deadline, which is within the interval for deadlines up to a third of it.
    Without systemd, `tick` still finds and logs what is stuck.
    """

    def __init__(self, heartbeats: Heartbeats, notifier: Notifier, clock: Clock) -> None:
        self._heartbeats = heartbeats
        self._notifier = notifier
        self._clock = clock
        interval_s = notifier.watchdog_interval_s
        self.period_s = None if interval_s is None else interval_s / 3
        """How often `tick` is due at the latest; None without a watchdog."""
        self._fed_s: float | None = None
        self._stuck_since_s: float | None = None
        self._stuck_names: frozenset[str] = frozenset()

    def tick(self) -> tuple[Stuck, ...]:
        """Feed when due and deserved; returns what is stuck."""
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
        # A tick that comes a little early counts, or a loop of exactly `period_s` would feed every second time only.
        if self.period_s is not None and (self._fed_s is None or now_s - self._fed_s >= 0.9 * self.period_s):
            self._notifier.watchdog()
            self._fed_s = now_s

    def _log_transitions(self, stuck: tuple[Stuck, ...]) -> None:
        names = frozenset(stage.name for stage in stuck)
        for stage in stuck:
            if stage.name not in self._stuck_names:
                _log.error("%s; the watchdog is not fed", stage)
        for name in sorted(self._stuck_names - names):
            _log.info("%s goes on again", name)
        self._stuck_names = names


def _status_line(text: str) -> tuple[str, ...]:
    # A line break would start another assignment.
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _socket_address(name: str) -> str | None:
    """The address to send to; `@` stands for the NUL that begins an abstract address. Only AF_UNIX is known here."""
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
