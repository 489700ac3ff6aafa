"""How long to wait before the next attempt: doubling waits with jitter, and limits on frequent failures."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock

QUICK_RETRIES: Final = 20
"""Number of failures within an hour after which `RetryBudget` waits for minutes."""

_HOUR_S: Final = 3600.0
_JITTER: Final = Random()  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first_s` to `longest_s`.

    A random part of each wait is left out, at most the fraction `jitter`, so that a fleet does not return all at once.
    """

    first_s: float = 2.0
    longest_s: float = 120.0
    jitter: float = 0.5

    def delay_s(self, failures: int, random: Random = _JITTER) -> float:
        """Return the wait after `failures` consecutive failures; counts below 1 are taken as 1."""
        doubled_s = self.first_s * 2.0 ** min(max(failures, 1) - 1, 32)
        return min(self.longest_s, doubled_s) * random.uniform(1.0 - self.jitter, 1.0)

    def refused_s(self, random: Random = _JITTER) -> float:
        """Return the wait after a refusal that only a person can end: the longest, less at most a tenth."""
        return self.longest_s * random.uniform(0.9, 1.0)


class RecentFailures:
    """Counts the failures of the last `window_s` seconds; for one thread. Memory is bounded."""

    def __init__(self, clock: Clock, window_s: float) -> None:
        self._clock = clock
        self._window_s = window_s
        self._times_s: deque[float] = deque(maxlen=100)

    def __len__(self) -> int:
        return len(self._times_s)

    def add(self) -> None:
        """Record a failure that happened now, and drop those before the window."""
        now_s = self._clock.monotonic()
        while self._times_s and now_s - self._times_s[0] >= self._window_s:
            self._times_s.popleft()
        self._times_s.append(now_s)

    @property
    def span_s(self) -> float:
        """Seconds between the first and the last failure that are counted."""
        return self._times_s[-1] - self._times_s[0] if self._times_s else 0.0


class RetryBudget:
    """Waits between retries of a device: short at first, minutes after many failures in an hour; for one thread."""

    _quick = Backoff(0.25, 3.0, jitter=0.25)
    _slow = Backoff(30.0, 600.0, jitter=0.25)

    def __init__(self, clock: Clock, random: Random = _JITTER) -> None:
        self._failures = RecentFailures(clock, _HOUR_S)
        self._random = random

    def failed(self) -> float:
        """Record a failure; return the seconds to wait before the next attempt.

        0.25 to 3 s for the first `QUICK_RETRIES` failures within an hour, then 30 to 600 s.
        """
        self._failures.add()
        count = len(self._failures)
        if count <= QUICK_RETRIES:
            return self._quick.delay_s(count, self._random)
        return self._slow.delay_s(count - QUICK_RETRIES, self._random)

    @property
    def exhausted(self) -> bool:
        """Whether this hour's short waits are used up."""
        return len(self._failures) > QUICK_RETRIES
