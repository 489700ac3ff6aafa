"""Reads the newest events from the outbox's database, waiting and sent ones, also while the daemon writes to it."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from edge_classifierd.errors import OutboxError, PayloadError
from edge_classifierd.events.schema import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from edge_classifierd.events.schema import Event

_BUSY_TIMEOUT_S: Final = 2.0
_WAITING: Final = "SELECT seq, payload, crc, 1 FROM events"
_SENT: Final = "SELECT seq, payload, crc, 0 FROM sent"


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event as it is stored."""

    event: Event
    payload: bytes
    """The JSON that subscribers receive."""
    waiting: bool
    """Whether the broker has not acknowledged it yet."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; None means any."""

    pipeline: str | None = None
    watch: str | None = None
    since: datetime | None = None
    before: str | None = None
    """An `event_id`: only events that were made earlier."""
    after: str | None = None
    """An `event_id`: only events that were made later."""
    event_id: str | None = None

    def accepts(self, event: Event) -> bool:
        """Return whether the event is wanted."""
        return (
            (self.before is None or event.event_id < self.before)
            and (self.after is None or event.event_id > self.after)
            and (self.pipeline is None or event.pipeline == self.pipeline)
            and (self.watch is None or event.watch == self.watch)
            and (self.event_id is None or event.event_id == self.event_id)
            and (self.since is None or event.time >= self.since)
        )


def read_events(
    path: Path, wanted: EventFilter | None = None, *, limit: int, most_read: int | None = None
) -> list[PastEvent]:
    """Return the newest events, newest first. Takes no lock that a daemon waits for, and changes no file.

    Args:
        path: the outbox's database.
        wanted: a condition on the events.
        limit: how many to return at most.
        most_read: how many to read at most while searching for those wanted; None reads all.

    Raises:
        OutboxError: there is no such database, or it cannot be read; one sentence.
    """
    chosen: list[PastEvent] = []
    with _opened(path) as connection:
        for read, row in enumerate(_rows(connection, "DESC")):
            if len(chosen) == limit or read == most_read:
                break
            past = _past_event(row)
            if past is not None and (wanted is None or wanted.accepts(past.event)):
                chosen.append(past)
    return chosen


def oldest_event_id(path: Path) -> str | None:
    """Return the `event_id` of the oldest stored event, None when there is none. Raises OutboxError."""
    with _opened(path) as connection:
        events = (past.event.event_id for past in map(_past_event, _rows(connection, "ASC")) if past is not None)
        return next(events, None)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for reading; its errors become an OutboxError."""
    try:
        with contextlib.closing(_connect(path)) as connection:
            yield connection
    except (sqlite3.Error, OSError) as error:
        raise OutboxError(_sentence(path, error)) from error


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file for reading. One that no process has open needs no auxiliary files and gets none."""
    with path.open("rb"):  # a missing permission is an OSError here; SQLite's message does not name it
        pass
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)


def _rows(connection: sqlite3.Connection, order: Literal["ASC", "DESC"]) -> Iterator[tuple[object, ...]]:
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "events" not in names:
        raise sqlite3.DatabaseError("not the database of an outbox")
    query = f"{_WAITING} UNION ALL {_SENT}" if "sent" in names else _WAITING  # an earlier version had no `sent`
    return connection.execute(f"{query} ORDER BY seq {order}")


def _past_event(row: Iterable[object]) -> PastEvent | None:
    """Return the event of a row; None when it is damaged."""
    _, payload, crc, waiting = row
    if not isinstance(payload, bytes) or zlib.crc32(payload) != crc:
        return None
    with contextlib.suppress(PayloadError):
        return PastEvent(decode(payload), payload, bool(waiting))
    return None


def _sentence(path: Path, error: sqlite3.Error | OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path}: there is no outbox; has the daemon run here, with this configuration?"
    if isinstance(error, PermissionError):
        return f"{path}: permission denied; run this as root (`sudo`)"
    if isinstance(error, OSError):
        return f"{path}: {error.strerror or error}"
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
        return f"{path}: the files beside it cannot be read ({error}); run this as root (`sudo`)"
    return f"{path}: cannot be read ({error})"
