"""A slot for one item between one thread that fills it and one that empties it."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """Holds the newest item; both sides sleep while they wait, and wake each other.

    A lock that is free is a signal, and to take it is to wait: this is on the way of every frame, and
    `threading.Condition` does more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # over all that follows
        self._item: T | None = None
        self._ended = False
        self._filled = threading.Lock()
        self._emptied = threading.Lock()
        self._filled.acquire()
        self._emptied.acquire()

    @property
    def ended(self) -> bool:
        """True when nothing will be offered any more; an item may still be there."""
        return self._ended

    @property
    def empty(self) -> bool:
        """True when there is nothing to take now."""
        return self._item is None

    def offer(self, item: T, patience_s: float | None) -> bool:
        """Put `item` in, over one that was not taken, and wait for its being taken: `patience_s`, None for ever.

        True when it replaced another. Does nothing once ended.
        """
        with self._lock:
            if self._ended:
                return False
            replaced = self._item is not None
            self._item = item
            self._emptied.acquire(blocking=False)  # what it said of an earlier item
            _signal(self._filled)
        self._emptied.acquire(timeout=-1 if patience_s is None else patience_s)
        return replaced

    def take(self, timeout_s: float, *, ask: bool = True) -> T | None:
        """Take the item out, waiting up to `timeout_s` for one; None when none came, at once when ended and empty.

        With `ask` False the other side learns of it later: from `ask`, or from a `take` that finds nothing.
        """
        if self._item is None and not self._ended and timeout_s > 0:
            self.ask()
            self._filled.acquire(timeout=timeout_s)
        with self._lock:
            item, self._item = self._item, None
            if item is not None:
                self._filled.acquire(blocking=False)
                if ask:
                    _signal(self._emptied)
            return item

    def ask(self) -> None:
        """Let the other side go on, if its item was taken; any thread."""
        with self._lock:
            if self._item is None:
                _signal(self._emptied)

    def end(self, *, discard: bool = False) -> None:
        """Offer no more; wakes both sides. `discard` also drops the item that is there."""
        with self._lock:
            self._ended = True
            if discard:
                self._item = None
            _signal(self._filled)
            _signal(self._emptied)


def _signal(lock: threading.Lock) -> None:
    if lock.locked():
        lock.release()
