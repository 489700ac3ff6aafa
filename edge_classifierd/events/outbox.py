"""The outbox: numbers events and stores them, with the state that belongs to them, until the broker has them."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from itertools import count, repeat
from typing import TYPE_CHECKING

from edge_classifierd.errors import OutboxError
from edge_classifierd.events.buffer import EventBuffer
from edge_classifierd.events.history import read_events
from edge_classifierd.events.memory import MEMORY_EVENTS
from edge_classifierd.events.schema import Event, EventDraft, encode, number
from edge_classifierd.events.sequence_numbers import SequenceNumbers
from edge_classifierd.events.tables import Stored
from edge_classifierd.events.ulid import UlidGenerator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from edge_classifierd.clock import Clock

log = logging.getLogger(__name__)


class Outbox:
    """Opened on a path; every method may be called from any thread.

    Beside the events it stores the daemon's state: short texts by name (what is on, commands, daily counts), changed in
    the transaction of the events that they belong to.
    """

    def __init__(
        self,
        path: Path,
        *,
        topic: Callable[[Event], str],
        clock: Clock,
        max_events: int = 100_000,
        max_age_s: float = 14 * 86400.0,
        keep_sent: int = 500,
    ) -> None:
        """Open the outbox. A broken disk or file makes it degraded, which is no error.

        Args:
            path: the database.
            topic: returns the topic of an event.
            clock: the clock.
            max_events: how many events wait at most; more drop the oldest.
            max_age_s: how long an event waits at most, in seconds of running time.
            keep_sent: how many acknowledged events stay in the database, the newest.

        Raises:
            OutboxError: another process has this outbox open.
        """
        self._path = path
        self._topic = topic
        self._ids = UlidGenerator(clock)
        self._lock = threading.Lock()  # over the buffer, the numbers and the flag
        self._closed = False
        self._queue_lock = threading.Lock()  # over the batches that wait for the next commit
        self._queue: list[_Batch] = []
        self._callbacks: tuple[Callable[[], None], ...] = ()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.debug("%s: %s", path.parent, error)  # the buffer logs it
        self._numbers = SequenceNumbers(path)
        self._ids.continue_after(self._numbers.last_id)
        with suppress(OutboxError):  # the buffer meets the same file, and logs it
            for newest in read_events(path, limit=1):
                self._ids.continue_after(newest.event.event_id)
        self._buffer = EventBuffer(
            path, clock=clock, numbers=self._numbers, max_events=max_events, max_age_s=max_age_s, keep_sent=keep_sent
        )

    def append(self, drafts: Sequence[EventDraft], state: Mapping[str, str | None] | None = None) -> tuple[Event, ...]:
        """Number and store the drafts, in order; durable when it returns, unless the events say that they are not.

        Drafts of several threads that wait at once share one commit.

        Args:
            drafts: the events; may be empty.
            state: values to store by name in the same transaction; None removes one.

        Raises:
            OutboxError: the outbox is closed.
        """
        if not drafts and not state:
            return ()
        batch = _Batch(tuple(drafts), state or {})
        with self._queue_lock:
            self._queue.append(batch)
        with self._lock:
            if batch.events is None:
                with self._queue_lock:
                    batches, self._queue = self._queue, []
                if not self._closed:
                    self._commit(batches)
        if batch.events is None:
            raise OutboxError(f"{self._path}: the outbox is closed; an event came too late and is lost")
        return batch.events

    def pending(self, after: int, limit: int) -> list[Stored]:
        """Return events that wait at positions above `after`, in order, at most `limit`."""
        with self._lock:
            return self._buffer.page(after, limit)

    def acknowledge(self, positions: Iterable[int]) -> None:
        """Take out events that the broker has; best for many at once. A crash soon after may repeat them.

        The newest `keep_sent` of them stay in the database for people to look at (`events/history`).
        """
        with self._lock:
            self._buffer.forget(positions)

    def on_append(self, callback: Callable[[], None]) -> None:
        """Have `callback` called on the appending thread after each append; it must not block."""
        self._callbacks = (*self._callbacks, callback)

    def maintain(self) -> None:
        """Remove what is too old and try a failed disk again, when due: call it every second or so."""
        with self._lock:
            if not self._closed:
                self._buffer.maintain()

    def state(self, prefix: str) -> dict[str, str]:
        """Return the stored state whose names begin with `prefix`, by the rest of the name."""
        with self._lock:
            return {
                name.removeprefix(prefix): value
                for name, value in self._buffer.state.items()
                if name.startswith(prefix)
            }

    @property
    def intact(self) -> bool:
        """Whether the database was found whole when it was opened, so that its state is the newest."""
        return self._buffer.intact

    @property
    def readable(self) -> bool:
        """Whether the last `pending` could read all that waits."""
        return self._buffer.readable

    @property
    def depth(self) -> int:
        """How many events wait."""
        with self._lock:
            return self._buffer.depth

    @property
    def lost(self) -> Mapping[str, int]:
        """Events lost by reason (`max_events`, `max_age`, `memory_full`, `corrupt`), over the life of the database."""
        with self._lock:
            return dict(self._buffer.losses.counts)

    @property
    def durable(self) -> bool:
        """Whether what is appended survives a power loss."""
        return self._buffer.trouble is None

    @property
    def trouble(self) -> str | None:
        """Why the outbox is not durable, in one sentence."""
        with self._lock:
            if self._buffer.trouble is None:
                return None
            held = f"{len(self._buffer.memory)} of at most {MEMORY_EVENTS}"
            return f"{self._buffer.trouble}; events are held in memory only ({held}) until the disk takes them again"

    @property
    def oldest_age_s(self) -> float | None:
        """How long the oldest event has waited, in seconds of running time; None when none waits."""
        with self._lock:
            made_s = self._buffer.oldest_made_s()
            return None if made_s is None else max(0.0, self._buffer.elapsed_s - made_s)

    @property
    def last_position(self) -> int:
        """The position of the newest event, 0 before the first."""
        return self._buffer.last_position

    def close(self) -> None:
        """Move what is in memory to the disk if it takes it, and release the files; safe to call twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._buffer.close()
                self._numbers.close()

    def _commit(self, batches: Sequence[_Batch]) -> None:
        """Number and store the batches of all waiting threads; under the lock."""
        drafts = [draft for batch in batches for draft in batch.drafts]
        ids = [self._ids.new() for _ in drafts]
        for batch in batches:
            self._buffer.change_state(batch.state)
        events = self._store(drafts, ids)
        if drafts and events is None:
            events = [number(draft, seq=None, event_id=event_id) for draft, event_id in zip(drafts, ids, strict=True)]
            self._buffer.remember(self._rows(events))
        remaining = iter(events or ())
        for batch in batches:
            batch.events = tuple(next(remaining) for _ in batch.drafts)
        for callback in self._callbacks if drafts else ():
            callback()

    def _store(self, drafts: Sequence[EventDraft], ids: Sequence[str]) -> list[Event] | None:
        """Return the events with their numbers; None when the disk does not take them."""
        if not self._buffer.ready():
            return None
        first = self._buffer.last_seq + 1
        numbered = zip(drafts, ids, count(first), strict=False)
        events = [number(draft, seq=seq, event_id=event_id) for draft, event_id, seq in numbered]
        last_seq = first + len(events) - 1
        try:
            self._numbers.reserve(last_seq)
        except OSError as error:
            log.debug("%s: cannot reserve numbers: %s", self._path, error)  # the buffer meets the same disk
        if not self._buffer.write(self._rows(events), last_seq=last_seq):
            return None
        if events:
            self._numbers.record_last(last_seq, events[-1].event_id)
        return events

    def _rows(self, events: Sequence[Event]) -> list[Stored]:
        positions = count(self._buffer.last_position + 1)
        made_s = repeat(self._buffer.elapsed_s)
        return [
            Stored(position, self._topic(event), encode(event), made)
            for event, position, made in zip(events, positions, made_s, strict=False)
        ]


class _Batch:
    """What one thread appends, and the events made of it."""

    __slots__ = ("drafts", "events", "state")

    def __init__(self, drafts: tuple[EventDraft, ...], state: Mapping[str, str | None]) -> None:
        self.drafts = drafts
        self.state = state
        self.events: tuple[Event, ...] | None = None
