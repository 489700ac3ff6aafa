"""A slot that hands the newest item from one thread to another."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """Holds the newest item. One thread offers items, another takes them; each can wait for the other.

    Locks serve as signals: a free lock is a set signal, and acquiring it waits for the signal and clears it. Every
    frame passes here, and `threading.Condition` is slower.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects all that follows
        self._item: T | None = None
        self._ended = False
        self._filled = threading.Lock()
        self._emptied = threading.Lock()
        self._filled.acquire()
        self._emptied.acquire()

    @property
    def ended(self) -> bool:
        """Whether no more items will be offered; an item may still be in the slot."""
        return self._ended

    @property
    def empty(self) -> bool:
        """Whether the slot is empty now."""
        return self._item is None

    @property
    def ready(self) -> bool:
        """Whether `take` returns at once: there is an item, or there will be none."""
        return self._item is not None or self._ended

    def put(self, item: T) -> bool:
        """Put `item` into the slot. Return whether it replaces one that was not taken. Does nothing after `end`."""
        with self._lock:
            if self._ended:
                return False
            replaced = self._item is not None
            self._item = item
            self._emptied.acquire(blocking=False)  # clear the signal of an earlier item
            _signal(self._filled)
            return replaced

    def wait_until_taken(self, patience_s: float | None) -> None:
        """Wait until the item is taken or the slot ends; at most `patience_s` seconds, None: without limit."""
        if not self._ended:
            self._emptied.acquire(timeout=-1 if patience_s is None else patience_s)

    def take(self, timeout_s: float, *, request_next: bool = True) -> T | None:
        """Take the item, waiting for one up to `timeout_s`. Return None when there is none; at once after `end`.

        With `request_next` False the offering thread continues to wait until `request_next` is called, or until a
        `take` finds the slot empty.
        """
        if self._item is None and not self._ended and timeout_s > 0:
            self.request_next()
            self._filled.acquire(timeout=timeout_s)
        with self._lock:
            item, self._item = self._item, None
            if item is not None:
                self._filled.acquire(blocking=False)
                if request_next:
                    _signal(self._emptied)
            return item

    def request_next(self) -> None:
        """Wake the offering thread if its item was taken; any thread."""
        if self._item is None:
            with self._lock:
                if self._item is None:
                    _signal(self._emptied)

    def end(self, *, discard: bool = False) -> None:
        """Accept no more items and wake both threads. With `discard`, also remove the item in the slot."""
        with self._lock:
            self._ended = True
            if discard:
                self._item = None
            _signal(self._filled)
            _signal(self._emptied)


def _signal(lock: threading.Lock) -> None:
    if lock.locked():
        lock.release()
