"""Heartbeats of the stages (threads): which one makes progress, waits on purpose, or is stuck in a call."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock


@dataclass(frozen=True, slots=True)
class Stuck:
    """A stage that exceeded its deadline. `str()` gives a sentence."""

    name: str
    doing: str
    """The call that it entered last; empty when unknown."""
    silent_s: float
    deadline_s: float

    def __str__(self) -> str:
        inside = f" in {self.doing}" if self.doing else ""
        return f"{self.name} has been stuck{inside} for {self.silent_s:.1f} s (allowed: {self.deadline_s:g} s)"


class Beat:
    """Heartbeat of one stage. Called by the thread of that stage only.

    Each call stores one tuple in one attribute: no lock, less than 1 µs, and readers always see a complete state.
    """

    __slots__ = ("_clock", "_state", "deadline_s", "name")

    def __init__(self, name: str, deadline_s: float, clock: Clock) -> None:
        self.name = name
        self.deadline_s = deadline_s
        self._clock = clock
        self._state: tuple[float, float, str] = (clock.monotonic(), deadline_s, "")

    def progress(self) -> None:
        """Record progress. The next progress is due within `deadline_s`."""
        self._state = (self._clock.monotonic(), self.deadline_s, "")

    def enter(self, call: str, deadline_s: float | None = None) -> None:
        """Record the start of a call that may hang (open a camera, load a model), with its own deadline if given.

        The call ends with the next `progress`, `waiting` or `enter`.
        """
        self._state = (self._clock.monotonic(), self.deadline_s if deadline_s is None else deadline_s, call)

    def waiting(self, reason: str) -> None:
        """Record a wait on purpose (broker away, camera gone). No deadline until the next `progress` or `enter`.

        Use it only for waits that the stage can end itself. Put a call that retries between `enter` and `waiting`.
        """
        self._state = (self._clock.monotonic(), inf, reason)

    def check(self, now_s: float) -> Stuck | None:
        """Return a `Stuck` if the deadline has passed at `now_s`, else None. Any thread."""
        since_s, deadline_s, doing = self._state
        silent_s = now_s - since_s
        return Stuck(self.name, doing, silent_s, deadline_s) if silent_s > deadline_s else None


class Heartbeats:
    """All supervised stages. Any thread may call every method."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stages: dict[str, Callable[[float], Stuck | None]] = {}

    def register(self, name: str, deadline_s: float) -> Beat:
        """Supervise a stage and return its heartbeat. Raises ValueError when the name is registered already."""
        beat = Beat(name, deadline_s, self._clock)
        self._add(name, beat.check)
        return beat

    def watch(self, name: str, deadline_s: float, last_beat_s: Callable[[], float]) -> None:
        """Supervise a stage that stores the monotonic time of its last progress itself.

        For stages that do not import this package. A stage that waits for long must renew that time while it waits.
        `last_beat_s` must be quick, callable from any thread, and return infinity after the stage has ended.
        """

        def check(now_s: float) -> Stuck | None:
            silent_s = now_s - last_beat_s()
            return Stuck(name, "", silent_s, deadline_s) if silent_s > deadline_s else None

        self._add(name, check)

    def release(self, name: str) -> None:
        """Stop supervising a stage that ended normally. Does nothing when it is not registered."""
        with self._lock:
            self._stages.pop(name, None)

    def stuck(self, now_s: float | None = None) -> tuple[Stuck, ...]:
        """Return the stages that are stuck, in the order of registration."""
        moment_s = self._clock.monotonic() if now_s is None else now_s
        with self._lock:
            checks = tuple(self._stages.values())
        return tuple(found for check in checks if (found := check(moment_s)) is not None)

    def _add(self, name: str, check: Callable[[float], Stuck | None]) -> None:
        with self._lock:
            if name in self._stages:
                raise ValueError(f"stage {name!r} is registered already")
            self._stages[name] = check
