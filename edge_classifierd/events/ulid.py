"""Event identifiers: ULIDs, unique everywhere and in the order in which they were made."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock

# Crockford's base 32: no I, L, O, U. https://github.com/ulid/spec
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS = 80
LENGTH = 26
"""Characters of a ULID."""


class UlidGenerator:
    """Makes ULIDs: 26 characters, 48 bits of milliseconds and 80 random bits. Thread-safe.

    Each is greater than the one before, also within one millisecond. When the wall clock steps back, the time in the
    identifiers stands still until the clock has caught up.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0

    def new(self) -> str:
        """Return the next identifier."""
        milliseconds = max(0, int(self._clock.utc().timestamp() * 1000)) & ((1 << 48) - 1)
        with self._lock:
            fresh = milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
            # A step of random size keeps identifiers of one millisecond unique and hard to guess.
            self._last = fresh if fresh > self._last else self._last + 1 + secrets.randbits(32)
            return _crockford(self._last)

    def continue_after(self, ulid: str) -> None:
        """Make only identifiers greater than `ulid`; a text that is not a ULID is ignored."""
        if is_ulid(ulid):
            number = 0
            for character in ulid:
                number = number << 5 | _ALPHABET.index(character)
            with self._lock:
                self._last = max(self._last, number)


def is_ulid(text: str) -> bool:
    """Return whether a text has the form of an identifier made here; such a text is safe as a file name."""
    return len(text) == LENGTH and all(character in _ALPHABET for character in text)


def _crockford(number: int) -> str:
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5))
