"""The outbox: numbers events, and keeps each from the moment it is decided until the broker has acknowledged it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from edge_classifierd.errors import OutboxError
from edge_classifierd.events.buffer import MEMORY_EVENTS, EventBuffer
from edge_classifierd.events.database import Stored
from edge_classifierd.events.schema import Event, EventDraft, encode, number
from edge_classifierd.events.sequence_numbers import BLOCK, SequenceNumbers
from edge_classifierd.events.ulid import UlidGenerator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from edge_classifierd.clock import Clock

log = logging.getLogger(__name__)

_EPOCH_2026_S = 1_767_225_600


class Outbox:
    """Opened on a path; every method may be called from any thread.

    `topic` gives the topic of an event. Only another process that holds the outbox open stops it from opening
    (OutboxError): a broken disk or file makes a degraded outbox, not an error.
    """

    def __init__(
        self,
        path: Path,
        *,
        topic: Callable[[Event], str],
        clock: Clock,
        max_events: int = 100_000,
        max_age_s: float = 14 * 86400.0,
    ) -> None:
        self._path = path
        self._topic = topic
        self._clock = clock
        self._ids = UlidGenerator(clock)
        self._lock = threading.Lock()  # over the shelf, the numbers and the flag
        self._closed = False
        self._queue_lock = threading.Lock()  # over the batches that wait for the next commit
        self._queue: list[_Batch] = []
        self._rings: tuple[Callable[[], None], ...] = ()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.debug("%s: %s", path.parent, error)  # the shelf says so
        self._numbers = SequenceNumbers(path)
        self._shelf = EventBuffer(path, clock=clock, max_events=max_events, max_age_s=max_age_s)
        self._next = self._first_number()

    def append(self, drafts: Sequence[EventDraft]) -> tuple[Event, ...]:
        """Number the drafts, in order; durable when it returns, unless `durable` is False.

        Drafts of several threads that wait at once share one commit. Raises OutboxError after `close`.
        """
        if not drafts:
            return ()
        batch = _Batch(tuple(drafts))
        with self._queue_lock:
            self._queue.append(batch)
        with self._lock:
            if batch.events is None:
                with self._queue_lock:
                    batches, self._queue = self._queue, []
                if not self._closed:
                    self._commit(batches)
        if batch.events is None:
            raise OutboxError(f"{self._path}: the outbox is closed, an event came too late and is lost")
        return batch.events

    def pending(self, after_seq: int, limit: int) -> list[Stored]:
        """Events that wait, in order, whose number is greater than `after_seq`; at most `limit`."""
        with self._lock:
            return self._shelf.page(after_seq, limit)

    def acknowledge(self, seqs: Iterable[int]) -> None:
        """Forget events that the broker has; best for many at once. A crash soon after may repeat them."""
        with self._lock:
            self._shelf.forget(seqs)

    def on_append(self, ring: Callable[[], None]) -> None:
        """Have `ring` called, on the appending thread, after each append: it may only wake somebody."""
        self._rings = (*self._rings, ring)

    def maintain(self) -> None:
        """Expire the old and try to get back to the disk, when due: call it every second or so."""
        with self._lock:
            if not self._closed:
                self._shelf.maintain()

    @property
    def depth(self) -> int:
        """How many events wait."""
        with self._lock:
            return self._shelf.depth

    @property
    def lost(self) -> Mapping[str, int]:
        """Events lost by reason (`max_events`, `max_age`, `memory_full`, `corrupt`), over the life of the database."""
        with self._lock:
            return dict(self._shelf.lost)

    @property
    def durable(self) -> bool:
        """Whether what is appended survives a power loss."""
        return self._shelf.trouble is None

    @property
    def trouble(self) -> str | None:
        """Why the outbox is not durable, in one sentence."""
        with self._lock:
            if self._shelf.trouble is None:
                return None
            held = f"{self._shelf.in_memory} of at most {MEMORY_EVENTS}"
            return f"{self._shelf.trouble}; events are kept in memory only ({held}) until the disk takes them again"

    @property
    def oldest_age_s(self) -> float | None:
        """How long the oldest event has waited, in running time; None when none waits."""
        with self._lock:
            made_s = self._shelf.oldest_made_s()
            return None if made_s is None else max(0.0, self._shelf.elapsed_s - made_s)

    @property
    def last_seq(self) -> int:
        """The last number given, 0 before the first."""
        return self._next - 1

    def close(self) -> None:
        """Move what is in memory to the disk if it takes it, and release the files; safe to call twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                nothing_lost = self._shelf.close()
                self._numbers.close(orderly_at=self.last_seq if nothing_lost else None)

    def _commit(self, batches: Sequence[_Batch]) -> None:
        """Number and keep what all waiting threads brought; under the lock."""
        seq, made_s = self._next, self._shelf.elapsed_s
        numbered: list[tuple[Event, ...]] = []
        rows: list[Stored] = []
        for batch in batches:
            events = tuple(number(one, seq=seq + at, event_id=self._ids.new()) for at, one in enumerate(batch.drafts))
            seq += len(events)
            numbered.append(events)
            rows.extend(Stored(event.seq, self._topic(event), encode(event), made_s) for event in events)
        self._next = seq
        try:
            self._numbers.reserve(seq - 1)
        except OSError as error:
            log.debug("%s: cannot reserve numbers: %s", self._path, error)  # the shelf finds the same disk
        self._shelf.keep(rows)
        self._numbers.note(seq - 1)
        for batch, events in zip(batches, numbered, strict=True):
            batch.events = events
        for ring in self._rings:
            ring()

    def _first_number(self) -> int:
        """Go on after the last number given, or after every number that may have been given when that is not known."""
        witnessed, beyond = self._numbers.last, max(self._numbers.last, self._numbers.reserved) + 1
        if self._shelf.intact and witnessed <= self._shelf.last_seq:
            return self._shelf.last_seq + 1
        if self._shelf.intact and self._numbers.orderly:
            return witnessed + 1  # the disk took no rows, but the broker had them all
        if self._shelf.intact:
            log.error(
                "%s: the database ends at event %d although %d was given: the newest may be lost; going on with %d",
                self._path, self._shelf.last_seq, witnessed, beyond,
            )  # fmt: skip
            return beyond
        if self._shelf.reachable:
            if beyond > 1:
                log.error("%s: the database with the last number is gone; going on with event %d", self._path, beyond)
            return max(beyond, self._shelf.last_seq + 1)
        if self._numbers.writable:
            return beyond
        # Nothing can be written, so the next start will find what this one found: only time tells the two apart.
        minutes = max(0, int(self._clock.utc().timestamp() - _EPOCH_2026_S)) // 60
        return beyond + minutes * BLOCK


class _Batch:
    """What one thread brought, and what became of it."""

    __slots__ = ("drafts", "events")

    def __init__(self, drafts: tuple[EventDraft, ...]) -> None:
        self.drafts = drafts
        self.events: tuple[Event, ...] | None = None
