"""The pictures of stored events: one JPEG per detection in a bounded folder, removed with its event."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import OutboxError
from edge_classifierd.events.history import oldest_event_id
from edge_classifierd.events.ulid import is_ulid
from edge_classifierd.pipeline.image_store import ImageStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edge_classifierd.clock import Clock

MOST_BYTES: Final = 30_000_000
"""Size of all pictures together, at most."""
_PRUNE_EVERY_S: Final = 60.0


class EventPictures:
    """The files `<event_id>.jpg` of one folder. Thread-safe.

    Each is written to a temporary file and renamed: a reader, or a start after a power loss, finds whole pictures only.
    """

    def __init__(self, folder: Path, outbox: Path, clock: Clock, *, most: int) -> None:
        """Create the object; nothing is read or written.

        Args:
            folder: the folder for the pictures; created with the first.
            outbox: the database of the events.
            clock: the clock.
            most: how many pictures are stored at most; 0 stores none and removes those of an earlier run.
        """
        self._folder = folder
        self._outbox = outbox
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._store = ImageStore(folder, max_files=most, max_bytes=MOST_BYTES)
        self._prune_s = float("-inf")

    def add(self, event_ids: Iterable[str], jpeg: bytes) -> None:
        """Store a picture for each event; the oldest pictures give way."""
        with self._lock:
            for event_id in event_ids:
                self._store.add(event_id, jpeg)

    def read(self, event_id: str) -> bytes | None:
        """Return the picture of an event, None without one. Any text may be given."""
        if not is_ulid(event_id):
            return None
        with contextlib.suppress(OSError):
            return (self._folder / f"{event_id}.jpg").read_bytes()
        return None

    def ids(self) -> frozenset[str]:
        """Return the events that have a picture."""
        with self._lock:
            return self._store.names()

    @property
    def count(self) -> int:
        """Number of stored pictures; 0 before the folder was read."""
        return self._store.count

    @property
    def size(self) -> int:
        """Bytes of the stored pictures; 0 before the folder was read."""
        return self._store.size

    def tick(self) -> None:
        """Remove the pictures of events that are no longer stored, once a minute."""
        now_s = self._clock.monotonic()
        if now_s < self._prune_s:
            return
        self._prune_s = now_s + _PRUNE_EVERY_S
        with self._lock:
            if not self._store.names():
                return
            with contextlib.suppress(OutboxError):  # a database that cannot be read now may hold the events
                oldest = oldest_event_id(self._outbox) if self._most else None
                self._store.keep_only(lambda name: oldest is not None and name >= oldest)
