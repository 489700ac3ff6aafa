"""The pace of a training: it pauses where other work wants the processor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

_SCHEDSTAT: Final = Path("/proc/self/schedstat")
_LEAST_S: Final = 0.02
_CONTENDED: Final = 0.1
"""Share of the time that the process waits for the processor, from which on it pauses."""
_PAUSE: Final = 2.0
"""Length of a pause, in times of the work before it."""


class Pace:
    """Pauses after a step of the training that had to wait for the processor, twice as long as the step took.

    The lowest priority is not enough beside a classifier that takes all it can get: its threads wake hundreds of times
    a second, and a processor that is at work, with whatever priority, takes longer to answer than an idle one. It then
    lost a quarter of its rate (measured with `bench/training.py --only saturated`).
    """

    def __init__(self) -> None:
        self._begin()

    def step(self) -> None:
        """Pause if the last step had to wait. Call it after each step; short steps are judged together."""
        worked_s = time.monotonic() - self._since_s
        if worked_s < _LEAST_S:
            return
        if _waited_s() - self._waited_before_s > _CONTENDED * worked_s:
            time.sleep(_PAUSE * worked_s)
        self._begin()

    def _begin(self) -> None:
        self._since_s, self._waited_before_s = time.monotonic(), _waited_s()


def _waited_s() -> float:
    """Return how long the main thread was ready to run and had no processor; 0 where the kernel does not count it.

    Source: Documentation/scheduler/sched-stats.rst, the second number of /proc/PID/schedstat, in nanoseconds.
    """
    try:
        return int(_SCHEDSTAT.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
