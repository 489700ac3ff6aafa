"""Where numbered events lie: in the database, or in bounded memory for as long as the disk does not take them.

It keeps the bounds (count, age), counts what is lost and why, sets a corrupt database aside, and moves back to the disk
by itself. Not thread-safe: the outbox holds a lock around every call.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from edge_classifierd.errors import OutboxError, counted
from edge_classifierd.events.database import (
    EventDatabase,
    Ledger,
    StoreCorruptError,
    Stored,
    StoreUnavailableError,
    salvage,
    set_aside,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edge_classifierd.clock import Clock

log = logging.getLogger(__name__)

MEMORY_EVENTS = 5000
"""How many events are kept while the disk does not take them."""

_RETRY_S = 5.0
_EXPIRE_EVERY_S = 60.0
_LEDGER_EVERY_S = 600.0
_EXPIRE_PAGE = 500


class Loss(StrEnum):
    """Why an event never reached the broker."""

    MAX_EVENTS = "max_events"
    MAX_AGE = "max_age"
    MEMORY_FULL = "memory_full"
    CORRUPT = "corrupt"


_EPISODES = {
    Loss.MAX_EVENTS: "%s: outbox.max_events are waiting for the broker; the oldest are dropped for new ones",
    Loss.MAX_AGE: "%s: events have waited for outbox.max_age; they are dropped",
    Loss.MEMORY_FULL: f"%s: {MEMORY_EVENTS} events are in memory; the oldest are dropped until the disk is back",
}


class EventBuffer:
    """Opened on the database's path. Never raises for a broken disk or file: `trouble` then says what is wrong.

    Ages are counted in accumulated running time, kept in the database: no jump of the wall clock expires anything, and
    time during which the daemon did not run does not count.
    """

    def __init__(self, path: Path, *, clock: Clock, max_events: int, max_age_s: float) -> None:
        self._path = path
        self._clock = clock
        self._max_events = max_events
        self._max_age_s = max_age_s
        self._store: EventDatabase | None = None
        self._memory: deque[Stored] = deque()
        self._delivered: set[int] = set()  # acknowledged rows that the disk has not let go yet
        self._written_seq = 0  # no row above it is on the disk
        self._left = 0  # on the disk when it was closed
        self._episodes: set[Loss] = set()
        self._elapsed_base_s = -clock.monotonic()
        self._retry_s = self._expire_s = self._ledger_s = 0.0
        self.lost: dict[str, int] = {}
        self.trouble: str | None = None
        self.last_seq = 0
        """The last number given: the database's when opened, then that of the newest row kept."""
        self._open()

    @property
    def intact(self) -> bool:
        """Whether the database was found and is readable, so that `last_seq` can be believed."""
        return self._store is not None and not self._store.created

    @property
    def reachable(self) -> bool:
        """Whether there is an open database."""
        return self._store is not None

    @property
    def depth(self) -> int:
        """How many events wait."""
        on_disk = self._store.depth - len(self._delivered) if self._store is not None else self._left
        return on_disk + len(self._memory)

    @property
    def in_memory(self) -> int:
        """How many of them only memory holds."""
        return len(self._memory)

    @property
    def elapsed_s(self) -> float:
        """The accumulated running time."""
        return self._elapsed_base_s + self._clock.monotonic()

    def oldest_made_s(self) -> float | None:
        """When the oldest event was made, in running time."""
        try:
            oldest = self._store.ages(1) if self._store is not None else []
        except OutboxError:
            oldest = []
        return oldest[0][1] if oldest else self._memory[0].made_s if self._memory else None

    def keep(self, rows: Sequence[Stored]) -> None:
        """Take new rows: on the disk when this returns, or in memory and `trouble` says why."""
        if self.trouble is not None and self._clock.monotonic() >= self._retry_s:
            self._recover()
        self.last_seq = rows[-1].seq
        if self.trouble is not None or not self._write(rows):
            self._remember(rows)

    def page(self, after_seq: int, limit: int) -> list[Stored]:
        """Rows that wait, in order, with a greater number; at most `limit`."""
        found: list[Stored] = []
        cursor = after_seq
        while self._store is not None and len(found) < limit:
            try:
                rows = self._store.page(cursor, limit - len(found))
            except StoreCorruptError as error:
                if not self._replace(error):
                    break
                continue
            except StoreUnavailableError as error:
                self._degrade(error)
                break
            if not rows:
                break
            cursor = rows[-1].seq
            found.extend(row for row in rows if row.seq not in self._delivered)
        found.extend(row for row in self._memory if row.seq > cursor)
        return found[:limit]

    def forget(self, seqs: Iterable[int]) -> None:
        """The broker has these."""
        wanted = set(seqs)
        while self._memory and self._memory[0].seq in wanted:
            wanted.discard(self._memory.popleft().seq)
        for row in [row for row in self._memory if row.seq in wanted]:
            wanted.discard(row.seq)
            self._memory.remove(row)
        self._delivered.update(seq for seq in wanted if seq <= self._written_seq)  # memory may have dropped others
        if self.trouble is None:
            self._let_go()

    def maintain(self) -> None:
        """What is due: another try of the disk, the expiry of the old, the running time."""
        now = self._clock.monotonic()
        if self.trouble is not None and now >= self._retry_s:
            self._recover()
        if now >= self._expire_s:
            self._expire_s = now + _EXPIRE_EVERY_S
            self._expire()
        if now >= self._ledger_s and self.depth and self.trouble is None:
            self._ledger_s = now + _LEDGER_EVERY_S
            self._write(())

    def close(self) -> bool:
        """Move what is in memory to the disk if it takes it, and close the database; False when events are lost."""
        if self.trouble is not None:
            self._recover()
        else:
            self._write(())
        lost = len(self._memory)
        if lost:
            log.error("%s: lost: %s that could not be saved", self._path, counted(lost, "event"))
            self._memory.clear()
        if self._store is not None:
            self._left = self.depth
            self._store.close()
            self._store = None
        return not lost

    def _open(self) -> None:
        try:
            self._store = EventDatabase(self._path)
        except StoreCorruptError as error:
            self._replace(error)
        except StoreUnavailableError as error:
            self._degrade(error)
        else:
            self._adopt(self._store)

    def _adopt(self, store: EventDatabase) -> None:
        """Go on from what a database knows of the past."""
        self._written_seq = store.ledger.last_seq
        self.last_seq = max(self.last_seq, store.ledger.last_seq)
        for reason, count in store.ledger.lost.items():
            self.lost[reason] = max(self.lost.get(reason, 0), count)
        ahead_s = store.ledger.elapsed_s - self.elapsed_s
        if ahead_s > 0:
            self._elapsed_base_s += ahead_s
            self._memory = deque(replace(row, made_s=row.made_s + ahead_s) for row in self._memory)

    def _write(self, rows: Sequence[Stored]) -> bool:
        """Rows into the database, within its bounds; False when the disk does not take them."""
        for _ in range(2):
            if self._store is None:
                return False
            surplus = max(0, self._store.depth + len(rows) - self._max_events)
            lost = dict(self.lost)
            if surplus:
                lost[Loss.MAX_EVENTS] = lost.get(Loss.MAX_EVENTS, 0) + surplus
            try:
                self._store.insert(rows, Ledger(self.last_seq, self.elapsed_s, lost), drop_oldest=surplus)
            except StoreUnavailableError as error:
                self._degrade(error)
                return False
            except StoreCorruptError as error:
                self._replace(error)
            else:
                self._written_seq = rows[-1].seq if rows else self._written_seq
                self._count(Loss.MAX_EVENTS, surplus, over=self._store.depth < self._max_events * 0.9)
                return True
        return False

    def _remember(self, rows: Sequence[Stored]) -> None:
        self._memory.extend(rows)
        surplus = max(0, len(self._memory) - MEMORY_EVENTS)
        for _ in range(surplus):
            self._memory.popleft()
        self._count(Loss.MEMORY_FULL, surplus)

    def _let_go(self) -> None:
        if self._store is None or not self._delivered:
            return
        try:
            self._store.delete(self._delivered, Ledger(self.last_seq, self.elapsed_s, self.lost))
        except StoreUnavailableError as error:
            self._degrade(error)
        except StoreCorruptError as error:
            self._replace(error)
        else:
            self._delivered.clear()

    def _recover(self) -> None:
        """Try the disk again; what is in memory goes there first, so that order holds."""
        self._retry_s = self._clock.monotonic() + _RETRY_S
        if not self._takes_memory():  # a disk that was full takes it; one that was read-only needs a new handle
            try:
                fresh = EventDatabase(self._path)
            except StoreCorruptError as error:
                self._replace(error)
            except StoreUnavailableError as error:
                self._degrade(error)
                return
            else:
                previous, self._store = self._store, fresh
                self._adopt(fresh)
                if previous is not None:
                    previous.close()
            if not self._takes_memory():
                return
        self._memory.clear()
        self.trouble = None
        self._count(Loss.MEMORY_FULL, 0, over=True)
        self._let_go()
        log.warning("%s: the disk takes events again, all of them are on it", self._path)

    def _takes_memory(self) -> bool:
        if self._store is None:
            return False
        try:
            self._store.probe()
        except StoreUnavailableError as error:
            self._degrade(error)
            return False
        except StoreCorruptError as error:
            if not self._replace(error):
                return False
        return self._write(tuple(self._memory))

    def _degrade(self, error: Exception) -> None:
        if self.trouble is None:
            log.error("%s; events are kept in memory only until the disk takes them again", error)
            self._retry_s = self._clock.monotonic() + _RETRY_S
        self.trouble = str(error)

    def _replace(self, error: StoreCorruptError) -> bool:
        """Set the database aside, start a new one with the rows that are still whole; False when the disk refuses."""
        expected, saved, aside = None, 0, None
        store: EventDatabase | None = None
        if self._store is not None:
            expected = self._store.depth
            self._store.close()
            self._store = None
        try:
            aside = set_aside(self._path, self._clock.utc().strftime("%Y%m%dT%H%M%S.%fZ"))
            store = EventDatabase(self._path)
            for page in salvage(aside) if error.salvageable else ():
                ledger = Ledger(max(self.last_seq, page[-1].seq), max(self.elapsed_s, page[-1].made_s), self.lost)
                store.insert(page, ledger)
                saved += len(page)
        except (OSError, OutboxError) as failure:
            if store is not None:
                store.close()
            self._degrade(failure)
        else:
            store.created = True  # what the old one knew of numbers is gone
            self._store = store
            self._adopt(store)
        if aside is None:
            return False
        missing = max(0, (expected or 0) - saved)
        if missing:
            self.lost[Loss.CORRUPT] = self.lost.get(Loss.CORRUPT, 0) + missing
        number = "an unknown number" if expected is None else str(missing)
        kept = counted(saved, "event")
        log.error("%s; set aside as %s, %s saved, %s lost; a new one is started", error, aside, kept, number)
        return self._store is not None

    def _expire(self) -> None:
        """Let go of what is older than the bound."""
        oldest_s = self.elapsed_s - self._max_age_s
        expired = 0
        try:
            while self._store is not None and self.trouble is None:
                old = [seq for seq, made_s in self._store.ages(_EXPIRE_PAGE) if made_s < oldest_s]
                if not old:
                    break
                lost = {**self.lost, Loss.MAX_AGE: self.lost.get(Loss.MAX_AGE, 0) + expired + len(old)}
                self._store.delete(old, Ledger(self.last_seq, self.elapsed_s, lost))
                expired += len(old)
        except StoreUnavailableError as error:
            self._degrade(error)
        except StoreCorruptError as error:
            self._replace(error)
        made_s = self.oldest_made_s()
        self._count(Loss.MAX_AGE, expired, over=made_s is None or self.elapsed_s - made_s < self._max_age_s * 0.9)

    def _count(self, reason: Loss, events: int, *, over: bool = False) -> None:
        """Add to the losses; say so once per episode, and when it is over."""
        if events:
            self.lost[reason] = self.lost.get(reason, 0) + events
            if reason not in self._episodes:
                self._episodes.add(reason)
                log.warning(_EPISODES[reason], self._path)
        elif over and reason in self._episodes:
            self._episodes.discard(reason)
            log.info("%s: no more events are lost (%s: %d in all)", self._path, reason.value, self.lost[reason])
