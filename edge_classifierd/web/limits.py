"""A token bucket: how often something may happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock


class TokenBucket:
    """Holds up to `size` tokens; a new one comes every `every_s` seconds. Used by one thread."""

    def __init__(self, size: int, every_s: float, clock: Clock) -> None:
        self._size = size
        self._every_s = every_s
        self._clock = clock
        self._tokens = float(size)
        self._at_s = clock.monotonic()

    def wait_s(self) -> float:
        """Return the seconds until there is a token, 0 when there is one."""
        now_s = self._clock.monotonic()
        self._tokens = min(float(self._size), self._tokens + (now_s - self._at_s) / self._every_s)
        self._at_s = now_s
        return max(0.0, (1.0 - self._tokens) * self._every_s)

    def take(self) -> None:
        """Take a token."""
        self._tokens -= 1
