"""A slot for one item between one thread that fills it and one that empties it."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Slot(Generic[T]):
    """Holds the newest item; both sides sleep while they wait, and wake each other."""

    def __init__(self) -> None:
        lock = threading.Lock()
        self._filled = threading.Condition(lock)
        self._emptied = threading.Condition(lock)
        self._item: T | None = None
        self._ended = False

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
        with self._filled:
            if self._ended:
                return False
            replaced = self._item is not None
            self._item = item
            self._filled.notify()
            if patience_s is not None:
                self._emptied.wait(patience_s)
            else:
                while self._item is item and not self._ended:
                    self._emptied.wait()
            return replaced

    def take(self, timeout_s: float) -> T | None:
        """Take the item out, waiting up to `timeout_s` for one; None when none came, at once when ended and empty."""
        with self._filled:
            if self._item is None and not self._ended and timeout_s > 0:
                self._filled.wait(timeout_s)
            item = self._item
            if item is not None:
                self._item = None
                self._emptied.notify()
            return item

    def end(self, *, discard: bool = False) -> None:
        """Offer no more; wakes both sides. `discard` also drops the item that is there."""
        with self._filled:
            self._ended = True
            if discard:
                self._item = None
            self._filled.notify_all()
            self._emptied.notify_all()
