"""Event identifiers: ULIDs, unique everywhere and in the order of their making."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock

# Crockford's base 32: no I, L, O, U. https://github.com/ulid/spec
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS = 80
_LENGTH = 26


class UlidGenerator:
    """Makes ULIDs: 26 characters, 48 bits of milliseconds and 80 random ones. Safe for several threads.

    Each is greater than the one before, also within one millisecond and when the wall clock steps back: time then
    stands still in the identifiers until the clock has caught up.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0

    def new(self) -> str:
        """The next identifier."""
        milliseconds = max(0, int(self._clock.utc().timestamp() * 1000)) & ((1 << 48) - 1)
        with self._lock:
            fresh = milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
            # A step of random size keeps identifiers of one millisecond hard to guess and apart.
            self._last = fresh if fresh > self._last else self._last + 1 + secrets.randbits(32)
            return _crockford(self._last)


def _crockford(number: int) -> str:
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))
