"""Where events and state are stored: in the database, or in bounded memory while the disk does not take them.

Applies the bounds (count, age), counts losses, replaces a damaged database. The outbox holds a lock around every call.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from edge_classifierd.errors import OutboxError, counted
from edge_classifierd.events.database import EventDatabase, StoreCorruptError, StoreUnavailableError, may_exist
from edge_classifierd.events.losses import Loss, Losses
from edge_classifierd.events.memory import EventMemory
from edge_classifierd.events.salvage import salvage_rows, set_aside
from edge_classifierd.events.tables import Ledger, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.sequence_numbers import SequenceNumbers

log = logging.getLogger(__name__)

_RETRY_S = 2.0
_EXPIRE_EVERY_S = 60.0
_LEDGER_EVERY_S = 600.0
_HOLD_S = 60.0  # how long events in memory wait for older ones in a database that cannot be read


class EventBuffer:
    """Opened on the database's path. Never raises for a broken disk or file: `trouble` then describes it.

    Ages are counted in accumulated running time, stored in the database: a step of the wall clock expires nothing, and
    time during which the daemon did not run does not count.
    """

    def __init__(
        self, path: Path, *, clock: Clock, numbers: SequenceNumbers, max_events: int, max_age_s: float, keep_sent: int
    ) -> None:
        self._path = path
        self._database = partial(EventDatabase, path, keep_sent=keep_sent)
        self._clock = clock
        self._numbers = numbers
        self._max_events = max_events
        self._max_age_s = max_age_s
        self._store: EventDatabase | None = None
        self._delivered: set[int] = set()  # acknowledged rows that could not be deleted yet
        self._written = self._left = 0  # the last position on the disk; the rows there when it was closed
        self._unsaved: dict[str, str | None] = {}  # changes of the state that are not on the disk
        self._opened = False
        self._elapsed_base_s = -clock.monotonic()
        self._unreadable_since_s: float | None = None
        self._retry_s = self._expire_s = self._ledger_s = 0.0
        self.memory = EventMemory(keep_sent)
        self.losses = Losses(path)
        self.trouble: str | None = None
        self.last_seq = 0
        """The last number given."""
        self.last_position = 0
        """The position of the newest row."""
        self.state: dict[str, str] = {}
        """The state by name, as it was changed last."""
        self.intact = False
        """Whether the database was found with its newest rows, so that `state` is the newest as well."""
        self._open()

    @property
    def depth(self) -> int:
        """How many events wait."""
        on_disk = self._store.depth - len(self._delivered) if self._store is not None else self._left
        return on_disk + len(self.memory)

    @property
    def readable(self) -> bool:
        """Whether the last `page` could read all that waits."""
        return self._unreadable_since_s is None

    @property
    def elapsed_s(self) -> float:
        """The accumulated running time."""
        return self._elapsed_base_s + self._clock.monotonic()

    def oldest_made_s(self) -> float | None:
        """Return when the oldest event was made, in running time."""
        with suppress(OutboxError):
            oldest = self._store.ages(1) if self._store is not None else []
            return oldest[0][1] if oldest else self.memory.oldest_made_s()
        return self.memory.oldest_made_s()

    def change_state(self, changes: Mapping[str, str | None]) -> None:
        """Change values of the state; None removes one. They are stored with the next write."""
        self._unsaved.update(changes)
        for name, value in changes.items():
            if value is None:
                self.state.pop(name, None)
            else:
                self.state[name] = value

    def ready(self) -> bool:
        """Return whether the disk takes writes as far as known; a disk that failed is tried again when due."""
        if self.trouble is not None and self._clock.monotonic() >= self._retry_s:
            self._recover()
        return self.trouble is None

    def write(self, rows: Sequence[Stored], *, last_seq: int | None = None) -> bool:
        """Store rows and the changed state, within the bounds; False when the disk does not take them.

        The rows are at positions above all others; `last_seq` is the last number given with them, None for none.
        """
        last_seq = self.last_seq if last_seq is None else last_seq
        for _ in range(2):
            if self._store is None:
                return False
            surplus = max(0, self._store.depth + len(rows) - self._max_events)
            ledger = Ledger(last_seq, self.elapsed_s, self.losses.plus(Loss.MAX_EVENTS, surplus))
            try:
                self._store.insert(rows, ledger, state=self._unsaved, drop_oldest=surplus)
            except StoreUnavailableError as error:
                self._degrade(error)
                return False
            except StoreCorruptError as error:
                self._replace(error)
            else:
                self._unsaved = {}
                self.last_seq = last_seq
                if rows:
                    self._written = self.last_position = max(self.last_position, rows[-1].position)
                self.losses.add(Loss.MAX_EVENTS, surplus)
                if self._store.depth < self._max_events * 0.9:
                    self.losses.end_episode(Loss.MAX_EVENTS)
                return True
        return False

    def remember(self, rows: Sequence[Stored]) -> None:
        """Hold rows in memory until the disk takes them."""
        self.losses.add(Loss.MEMORY_FULL, self.memory.add(rows))
        self.last_position = rows[-1].position

    def page(self, after: int, limit: int) -> list[Stored]:
        """Return rows that wait at positions above `after`, in order, at most `limit`."""
        found: list[Stored] = []
        cursor, readable = after, self._store is not None or not may_exist(self._path)
        while self._store is not None and len(found) < limit:
            try:
                rows = self._store.page(cursor, limit - len(found))
            except StoreCorruptError as error:
                if not self._replace(error):
                    break
                continue
            except StoreUnavailableError as error:
                self._degrade(error)
                readable = False
                break
            if not rows:
                break
            cursor = rows[-1].position
            found.extend(row for row in rows if row.position not in self._delivered)
        now_s = self._clock.monotonic()
        self._unreadable_since_s = None if readable else self._unreadable_since_s or now_s
        if readable or now_s - (self._unreadable_since_s or now_s) > _HOLD_S:
            found.extend(row for row in self.memory.rows if row.position > cursor)
        return found[:limit]

    def forget(self, positions: Iterable[int]) -> None:
        """Take out rows that the broker has acknowledged; the newest are kept for people to look at."""
        wanted = self.memory.remove(set(positions))
        self._delivered.update(one for one in wanted if one <= self._written)  # memory may have dropped others
        if self.trouble is None:
            self._delete_delivered()

    def maintain(self) -> None:
        """Do what is due: try the disk again, remove what is too old, store the running time."""
        now = self._clock.monotonic()
        self.ready()
        if now >= self._expire_s:
            self._expire_s = now + _EXPIRE_EVERY_S
            self._expire()
        if self.trouble is None and (self._unsaved or (now >= self._ledger_s and self.depth)):
            self._ledger_s = now + _LEDGER_EVERY_S
            self.write(())

    def close(self) -> None:
        """Move what is in memory to the disk if it takes it, and close the database."""
        if self.trouble is not None:
            self._recover()
        else:
            self.write(())
        if self.memory:
            log.error("%s: lost: %s that could not be saved", self._path, counted(len(self.memory), "event"))
            self.memory.clear()
        if self._store is not None:
            self._left = self.depth
            self._store.close()
            self._store = None

    def _open(self) -> None:
        try:
            self._adopt(self._database())
        except StoreCorruptError as error:
            self._replace(error)
        except StoreUnavailableError as error:
            self._degrade(error)
            self._open_read_only()
        if self._store is None:  # milliseconds: above every position in a database that is found later
            self.last_position = int(self._clock.utc().timestamp() * 1000)

    def _open_read_only(self) -> None:
        """Read at least what waits in a database that cannot be opened for writing."""
        if may_exist(self._path):
            with suppress(OutboxError, OSError):
                self._adopt(self._database(read_only=True))

    def _adopt(self, store: EventDatabase) -> None:
        """Use a database that was opened, and continue its numbers, state, losses and running time."""
        if not self._opened:
            self.intact = not store.created and self._numbers.last <= store.ledger.last_seq
            self.last_seq = self._numbers.continue_after(store.ledger.last_seq, lost=store.created)
            self.state = {**store.state, **self.state}
            self._written = store.last_position
            self._opened = True
        elif not store.read_only:
            store.delete_after(self._written)
        if store.created:
            self._unsaved = {**self.state, **self._unsaved}
        self._store = store
        self.last_position = max(self.last_position, store.last_position, self.last_seq)
        self.losses.restore(store.ledger.lost)
        ahead_s = max(0.0, store.ledger.elapsed_s - self.elapsed_s)
        self._elapsed_base_s += ahead_s
        self.memory.make_younger(ahead_s)

    def _delete_delivered(self) -> None:
        with self._handled_errors():
            if self._store is not None and (self._delivered or self.memory.sent):
                ledger = Ledger(self.last_seq, self.elapsed_s, self.losses.counts)
                self._store.acknowledge(self._delivered, ledger, from_memory=self.memory.sent)
                self._delivered.clear()
                self.memory.sent.clear()

    @contextmanager
    def _handled_errors(self) -> Iterator[None]:
        """Degrade or replace the database instead of raising."""
        try:
            yield
        except StoreUnavailableError as error:
            self._degrade(error)
        except StoreCorruptError as error:
            self._replace(error)

    def _recover(self) -> None:
        """Try the disk again; what is in memory goes there first, so that the order holds."""
        self._retry_s = self._clock.monotonic() + _RETRY_S
        if not self._takes_memory():  # a disk that was full takes it; one that was read-only needs a new connection
            previous = self._store
            if previous is not None and previous.read_only:
                previous.close()
            try:
                self._adopt(self._database())
            except StoreCorruptError as error:
                self._replace(error)
            except StoreUnavailableError as error:
                self._degrade(error)
                if previous is not None and previous.read_only:
                    self._store = None
                    self._open_read_only()
                return
            if previous is not None:
                previous.close()
            if not self._takes_memory():
                return
        self.memory.clear()
        self.trouble = None
        self.losses.end_episode(Loss.MEMORY_FULL)
        self._delete_delivered()
        log.warning("%s: the disk takes events again, all of them are stored", self._path)

    def _takes_memory(self) -> bool:
        if self._store is None or self._store.read_only:
            return False
        try:
            self._store.probe()
        except StoreUnavailableError as error:
            self._degrade(error)
            return False
        except StoreCorruptError as error:
            if not self._replace(error):
                return False
        return self.write(self.memory.rows)

    def _degrade(self, error: Exception) -> None:
        if self.trouble is None:
            log.error("%s; events and commands are held in memory only until the disk takes them again", error)
            self._retry_s = self._clock.monotonic() + _RETRY_S
        self.trouble = str(error)

    def _replace(self, error: StoreCorruptError) -> bool:
        """Set the database aside, start a new one with the intact rows; False when the disk refuses."""
        expected, saved, aside = None, 0, None
        if self._store is not None:
            expected = self._store.depth
            self._store.close()
            self._store = None
        self._unsaved = {**self.state, **self._unsaved}
        try:
            aside = set_aside(self._path, self._clock.utc().strftime("%Y%m%dT%H%M%S.%fZ"))
            ledger = Ledger(self.last_seq, self.elapsed_s, self.losses.counts)
            store = self._database()
            failure = salvage_rows(aside, store, ledger) if error.salvageable else None
            store.created = True  # what the damaged one held of numbers and state is gone
            saved = store.depth
            self._adopt(store)
            if failure is not None:
                self._degrade(failure)
        except (OSError, OutboxError) as refusal:
            self._degrade(refusal)
        if aside is None:
            return False
        missing = max(0, (expected or 0) - saved)
        self.losses.add(Loss.CORRUPT, missing)
        lost, kept = "an unknown number" if expected is None else missing, counted(saved, "event")
        log.error("%s; set aside as %s, %s saved, %s lost; a new one is started", error, aside, kept, lost)
        return self._store is not None

    def _expire(self) -> None:
        """Remove what is older than the bound."""
        oldest_s = self.elapsed_s - self._max_age_s
        expired = 0
        with self._handled_errors():
            while self._store is not None and self.trouble is None:
                old = [position for position, made_s in self._store.ages(500) if made_s < oldest_s]
                if not old:
                    break
                lost = self.losses.plus(Loss.MAX_AGE, expired + len(old))
                self._store.delete(old, Ledger(self.last_seq, self.elapsed_s, lost))
                expired += len(old)
        self.losses.add(Loss.MAX_AGE, expired)
        made_s = self.oldest_made_s()
        if made_s is None or self.elapsed_s - made_s < self._max_age_s * 0.9:
            self.losses.end_episode(Loss.MAX_AGE)
