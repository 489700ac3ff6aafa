"""A clock that tests move, and a camera that does what a test tells it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING

import av

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.now_s)

    def synchronised(self) -> bool:
        return True


PICTURE = av.VideoFrame(16, 16, "rgb24")

Step = Exception | str | int


class ScriptedCamera:
    """Each `open` takes one script: an exception to raise, or the steps of its reads.

    A step is `"frame"`, `"hang"` (until cancelled), `"deaf"` (until `wake` is set, whatever is cancelled), `"end"`, or
    an exception. After the last script the camera delivers frames for ever.
    """

    def __init__(self, scripts: Iterable[Exception | list[Exception | str]] = (), *, live: bool = True) -> None:
        self.live = live
        self.skipped = 0
        self.pauses_until_s = -inf
        self.opened = self.closed = 0
        self.reads = 0
        self.wake = threading.Event()
        self.cancelled = threading.Event()
        self.before_read: Callable[[], None] = lambda: None
        self._scripts = iter(scripts)
        self._steps: Iterator[Exception | str] | None = None
        self._sequence = 0

    def open(self) -> None:
        self.opened += 1
        script = next(self._scripts, None)
        if isinstance(script, Exception):
            raise script
        self._steps = None if script is None else iter(script)

    def read(self) -> Frame | None:
        self.reads += 1
        self.before_read()
        step = "frame" if self._steps is None else next(self._steps, "end")
        if isinstance(step, Exception):
            raise step
        if step == "hang":
            self.cancelled.wait(20)
        if step == "deaf":
            self.wake.wait(20)
        if self.cancelled.is_set():
            raise SourceError("camera: cancelled")
        if step == "end":
            return None
        frame = Frame(PICTURE, self._sequence, 0.0, datetime.now(UTC))
        self._sequence += 1
        return frame

    def close(self) -> None:
        self.closed += 1
        self.cancelled.clear()

    def cancel(self) -> None:
        self.cancelled.set()
