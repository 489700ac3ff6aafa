"""Heartbeats: which stage makes progress, which one knowingly waits, and which one is stuck inside a call."""

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
    """A stage that is silent for longer than it may be; `str()` is a sentence."""

    name: str
    doing: str
    """The call it last said it was entering, empty when it named none."""
    silent_s: float
    deadline_s: float

    def __str__(self) -> str:
        inside = f" in {self.doing}" if self.doing else ""
        return f"{self.name} has been stuck{inside} for {self.silent_s:.1f} s (allowed: {self.deadline_s:g} s)"


class Beat:
    """One stage's own handle, called by the stage's thread alone.

    Each call is one tuple stored in one attribute: no lock, under 1 µs, and a reader sees all of it or none.
    """

    __slots__ = ("_clock", "_state", "deadline_s", "name")

    def __init__(self, name: str, deadline_s: float, clock: Clock) -> None:
        self.name = name
        self.deadline_s = deadline_s
        self._clock = clock
        self._state: tuple[float, float, str] = (clock.monotonic(), deadline_s, "")

    def progress(self) -> None:
        """Something was finished; the next thing has `deadline_s` from now."""
        self._state = (self._clock.monotonic(), self.deadline_s, "")

    def enter(self, call: str, deadline_s: float | None = None) -> None:
        """About to do something that may hang (open a camera, load a model), with a deadline of its own if given.

        It ends with the next `progress`, `waiting` or `enter`.
        """
        self._state = (self._clock.monotonic(), self.deadline_s if deadline_s is None else deadline_s, call)

    def waiting(self, reason: str) -> None:
        """Knowingly wait or retry (broker away, camera gone): no deadline until the next `progress` or `enter`.

        Only for waits that the stage itself can end. A call that tries again belongs between `enter` and `waiting`.
        """
        self._state = (self._clock.monotonic(), inf, reason)

    def check(self, now_s: float) -> Stuck | None:
        """Whether the stage is stuck at `now_s`; any thread."""
        since_s, deadline_s, doing = self._state
        silent_s = now_s - since_s
        return Stuck(self.name, doing, silent_s, deadline_s) if silent_s > deadline_s else None


class Heartbeats:
    """All stages under watch; any thread may register, release and ask."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stages: dict[str, Callable[[float], Stuck | None]] = {}

    def register(self, name: str, deadline_s: float) -> Beat:
        """Watch a stage from now on; the name is unique among those registered."""
        beat = Beat(name, deadline_s, self._clock)
        self._add(name, beat.check)
        return beat

    def watch(self, name: str, deadline_s: float, last_beat_s: Callable[[], float]) -> None:
        """Watch a stage that keeps its own last beat: the monotonic time at which it last progressed or chose to wait.

        For stages that do not know this package. A stage that waits for long must renew its beat while it does.
        `last_beat_s` must be quick, callable from any thread, and return infinity once the stage has ended.
        """

        def check(now_s: float) -> Stuck | None:
            silent_s = now_s - last_beat_s()
            return Stuck(name, "", silent_s, deadline_s) if silent_s > deadline_s else None

        self._add(name, check)

    def release(self, name: str) -> None:
        """Watch a stage no longer (it ended as it should); no matter when it is not registered."""
        with self._lock:
            self._stages.pop(name, None)

    def stuck(self, now_s: float | None = None) -> tuple[Stuck, ...]:
        """The stages that are stuck now, in the order of their registration; empty when all is well."""
        moment_s = self._clock.monotonic() if now_s is None else now_s
        with self._lock:
            checks = tuple(self._stages.values())
        return tuple(found for check in checks if (found := check(moment_s)) is not None)

    def _add(self, name: str, check: Callable[[float], Stuck | None]) -> None:
        with self._lock:
            if name in self._stages:
                raise ValueError(f"stage {name!r} is registered already")
            self._stages[name] = check
