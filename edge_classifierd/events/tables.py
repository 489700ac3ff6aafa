"""The tables of the outbox's database, and the statements that change them inside the transactions of `EventDatabase`.

`events` holds what waits for the broker. `sent` holds the newest acknowledged events, for people to look at: losing one
of its rows costs nobody an event.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping, Sequence

CREATE_LEDGER = "CREATE TABLE ledger (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID"
CREATE_EVENTS = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, made_s REAL NOT NULL, topic TEXT NOT NULL,"
    " payload BLOB NOT NULL, crc INTEGER NOT NULL)"
)
ADDED = {
    "state": "CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID",
    "sent": "CREATE TABLE sent (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL, crc INTEGER NOT NULL)",
}
"""Tables that a database of an earlier version lacks, by name."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An event that waits; its topic and payload are the same bytes at every delivery."""

    position: int
    """Its place in the order of delivery: the event's `seq` plus the events before it that have none."""
    topic: str
    payload: bytes
    made_s: float
    """The outbox's accumulated running time when it was made."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is written with the rows: the last `seq` given, the accumulated running time, the losses by reason."""

    last_seq: int
    elapsed_s: float
    lost: Mapping[str, int]


def checked_row(row: tuple[object, ...]) -> Stored | None:
    """Return a row of `events`, None when its checksum does not match."""
    position, topic, payload, made_s, crc = row
    if (
        isinstance(position, int)
        and isinstance(topic, str)
        and isinstance(payload, bytes)
        and isinstance(made_s, float)
        and zlib.crc32(payload) == crc
    ):
        return Stored(position, topic, payload, made_s)
    return None


def add_missing(connection: sqlite3.Connection, existing: Collection[str]) -> None:
    """Create the tables that an earlier version did not have."""
    for table, create in ADDED.items():
        if table not in existing:
            connection.execute(create)


def add_waiting(connection: sqlite3.Connection, rows: Sequence[Stored]) -> int:
    """Add rows that wait; return how many."""
    added = connection.executemany(
        "INSERT INTO events (seq, made_s, topic, payload, crc) VALUES (?, ?, ?, ?, ?)",
        ((row.position, row.made_s, row.topic, row.payload, zlib.crc32(row.payload)) for row in rows),
    ).rowcount
    return max(0, added)  # -1 without rows


def remove_waiting(connection: sqlite3.Connection, positions: Iterable[int]) -> int:
    """Remove rows that wait; return how many."""
    statement = "DELETE FROM events WHERE seq = ?"
    return max(0, connection.executemany(statement, ((position,) for position in positions)).rowcount)


def remove_oldest(connection: sqlite3.Connection, table: str, count: int) -> int:
    """Remove the oldest rows of `events` or `sent`; return how many."""
    if count <= 0:
        return 0
    return connection.execute(
        f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} ORDER BY seq LIMIT ?)",  # noqa: S608 - a constant
        (count,),
    ).rowcount


def copy_to_sent(connection: sqlite3.Connection, positions: Sequence[int]) -> int:
    """Copy rows that wait to `sent`; return how many were there."""
    copied = connection.executemany(
        "INSERT OR IGNORE INTO sent SELECT seq, payload, crc FROM events WHERE seq = ?",
        ((position,) for position in positions),
    ).rowcount
    return max(0, copied)


def add_sent(connection: sqlite3.Connection, rows: Sequence[Stored]) -> int:
    """Add rows to `sent` that never were in `events`; return how many were new."""
    added = connection.executemany(
        "INSERT OR IGNORE INTO sent VALUES (?, ?, ?)",
        ((row.position, row.payload, zlib.crc32(row.payload)) for row in rows),
    ).rowcount
    return max(0, added)


def count_sent(connection: sqlite3.Connection) -> int:
    """Return the number of rows in `sent`."""
    count: int = connection.execute("SELECT count(*) FROM sent").fetchone()[0]
    return count


def write_ledger(connection: sqlite3.Connection, ledger: Ledger) -> None:
    """Replace the numbers."""
    values = {"last_seq": float(ledger.last_seq), "elapsed_s": ledger.elapsed_s}
    values.update({f"lost_{reason}": float(count) for reason, count in ledger.lost.items()})
    connection.executemany("INSERT OR REPLACE INTO ledger VALUES (?, ?)", values.items())


def write_state(connection: sqlite3.Connection, state: Mapping[str, str | None]) -> None:
    """Change values of the state; None removes one."""
    for name, value in state.items():
        if value is None:
            connection.execute("DELETE FROM state WHERE name = ?", (name,))
        else:
            crc = zlib.crc32(f"{name}={value}".encode())
            connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (name, value, crc))
