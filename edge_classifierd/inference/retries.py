"""How long to wait before a failed accelerator is tried again: soon at first, rarely when it fails again and again."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock

QUICK_RETRIES: Final = 20
"""So many failures within an hour are answered at once or nearly so; those beyond wait for minutes."""

_HOUR_S: Final = 3600.0
_FIRST_S, _LONGEST_QUICK_S = 0.25, 3.0
_FIRST_SLOW_S, _LONGEST_SLOW_S = 30.0, 600.0


class RetryBudget:
    """Counts the failures of the last hour; used by one thread. Memory is bounded."""

    def __init__(self, clock: Clock, jitter: random.Random | None = None) -> None:
        self._clock = clock
        self._jitter = jitter or random.Random()  # noqa: S311 - no secret
        self._failures: deque[float] = deque(maxlen=QUICK_RETRIES + 64)

    def failed(self) -> float:
        """Note one failure; returns the seconds to wait before the next try.

        0.25 to 3 s, doubling, for the first 20 within an hour, then 30 to 600 s, doubling; a quarter less by chance.
        """
        now = self._clock.monotonic()
        while self._failures and self._failures[0] <= now - _HOUR_S:
            self._failures.popleft()
        earlier = len(self._failures)
        self._failures.append(now)
        if earlier < QUICK_RETRIES:
            pause_s = min(_LONGEST_QUICK_S, _FIRST_S * 2.0 ** min(earlier, 10))
        else:
            pause_s = min(_LONGEST_SLOW_S, _FIRST_SLOW_S * 2.0 ** min(earlier - QUICK_RETRIES, 10))
        return pause_s * self._jitter.uniform(0.75, 1.0)

    @property
    def exhausted(self) -> bool:
        """Whether the quick retries of this hour are used up."""
        return len(self._failures) > QUICK_RETRIES
