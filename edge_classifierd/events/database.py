"""The outbox's database: one SQLite file of events that wait for the broker.

WAL with `synchronous=FULL`: what was inserted survives a power loss. Not thread-safe: the outbox holds a lock.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.errors import OutboxError
from edge_classifierd.state_file import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_APPLICATION_ID = 0x45434431  # "ECD1"
_SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 2.0
_SUFFIXES = ("", "-wal", "-shm")
_KEPT_CORRUPT = 2
_SALVAGE_PAGE = 500
_PROBE_BYTES = 65536
# Result codes (https://sqlite.org/rescode.html) that blame the disk or another process, and may pass.
_PASSING = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_AUTH,
}


class StoreUnavailableError(OutboxError):
    """The disk is full, read-only, failing or locked: trying again later may help."""


class StoreCorruptError(OutboxError):
    """What is in the file cannot be used; `salvageable` says whether its rows may be worth reading."""

    def __init__(self, message: str, *, salvageable: bool = True) -> None:
        self.salvageable = salvageable
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Stored:
    """An event that waits: its number, and the topic and payload, every time the same bytes."""

    seq: int
    topic: str
    payload: bytes
    made_s: float
    """The outbox's accumulated running time when it was made."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is written with the rows: the last number given, the accumulated running time, the losses by reason."""

    last_seq: int
    elapsed_s: float
    lost: Mapping[str, int]


class EventDatabase:
    """An open database. The constructor creates it when it is not there.

    Every method raises StoreUnavailableError or StoreCorruptError; after either, nothing was changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.created = not path.exists()
            """True when there was no file: nothing is known of the past."""
        except OSError as error:
            raise StoreUnavailableError(f"{path}: {error.strerror or error}") from error
        try:
            with self._translated():
                self._connection = sqlite3.connect(
                    path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=16
                )
                self._prepare(self._connection)
                self.ledger, self.depth = self._load(self._connection)
            sync_directory(path.parent)
        except OSError as error:
            self.close()
            raise StoreUnavailableError(f"{path}: {error.strerror or error}") from error
        except OutboxError:
            self.close()
            raise

    def insert(self, rows: Sequence[Stored], ledger: Ledger, *, drop_oldest: int = 0) -> None:
        """Add rows, forget the `drop_oldest` oldest ones, in one transaction that is on the disk when this returns."""
        with self._transaction("FULL") as connection:
            # A row that is there already was written by an attempt whose end was not seen.
            added = connection.executemany(
                "INSERT OR IGNORE INTO events (seq, made_s, topic, payload, crc) VALUES (?, ?, ?, ?, ?)",
                ((row.seq, row.made_s, row.topic, row.payload, zlib.crc32(row.payload)) for row in rows),
            ).rowcount
            dropped = 0
            if drop_oldest:
                dropped = connection.execute(
                    "DELETE FROM events WHERE seq IN (SELECT seq FROM events ORDER BY seq LIMIT ?)", (drop_oldest,)
                ).rowcount
            _write_ledger(connection, ledger)
        self.ledger = ledger
        self.depth += added - dropped

    def delete(self, seqs: Iterable[int], ledger: Ledger) -> int:
        """Forget rows; returns how many there were. Does not wait for the disk: losing this only repeats events."""
        with self._transaction("NORMAL") as connection:
            gone = connection.executemany("DELETE FROM events WHERE seq = ?", ((seq,) for seq in seqs)).rowcount
            _write_ledger(connection, ledger)
        self.ledger = ledger
        self.depth -= gone
        return gone

    def probe(self) -> None:
        """Find out whether the disk takes a write of some size, which the reuse of freed pages would hide."""
        with self._transaction("FULL") as connection:
            connection.execute("INSERT OR REPLACE INTO ledger VALUES ('probe', zeroblob(?))", (_PROBE_BYTES,))
        with self._transaction("NORMAL") as connection:
            connection.execute("DELETE FROM ledger WHERE name = 'probe'")

    def page(self, after_seq: int, limit: int) -> list[Stored]:
        """Rows with a greater number, in order, at most `limit`."""
        with self._translated() as connection:
            rows = connection.execute(
                "SELECT seq, topic, payload, made_s, crc FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
                (after_seq, limit),
            ).fetchall()
        stored = [_checked(row) for row in rows]
        intact = [one for one in stored if one is not None]
        if len(intact) < len(stored):
            raise StoreCorruptError(f"{self.path}: a row's checksum does not match its payload")
        return intact

    def ages(self, limit: int) -> list[tuple[int, float]]:
        """(seq, made_s) of the oldest rows, at most `limit`."""
        with self._translated() as connection:
            return connection.execute("SELECT seq, made_s FROM events ORDER BY seq LIMIT ?", (limit,)).fetchall()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA cache_size = -512")  # KiB; the rows are read once
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version == 0 and tables == 0:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE ledger (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID")
            connection.execute(
                "CREATE TABLE events (seq INTEGER PRIMARY KEY, made_s REAL NOT NULL, topic TEXT NOT NULL,"
                " payload BLOB NOT NULL, crc INTEGER NOT NULL)"
            )
            connection.execute("INSERT INTO ledger VALUES ('last_seq', 0), ('elapsed_s', 0)")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            connection.execute("COMMIT")
            self.created = True
        elif version != _SCHEMA_VERSION:
            raise StoreCorruptError(
                f"{self.path}: schema version {version} where this program knows {_SCHEMA_VERSION}", salvageable=False
            )
        elif connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise StoreCorruptError(f"{self.path}: a database of another program", salvageable=False)

    def _load(self, connection: sqlite3.Connection) -> tuple[Ledger, int]:
        values = dict(connection.execute("SELECT name, value FROM ledger WHERE name != 'probe'").fetchall())
        depth, newest, latest_s = connection.execute("SELECT count(*), max(seq), max(made_s) FROM events").fetchone()
        if "last_seq" not in values or "elapsed_s" not in values:
            raise StoreCorruptError(f"{self.path}: the ledger is not there")
        lost = {name.removeprefix("lost_"): int(value) for name, value in values.items() if name.startswith("lost_")}
        ledger = Ledger(max(int(values["last_seq"]), newest or 0), max(values["elapsed_s"], latest_s or 0.0), lost)
        return ledger, depth

    @contextlib.contextmanager
    def _transaction(self, synchronous: str) -> Iterator[sqlite3.Connection]:
        with self._translated() as connection:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error:
                with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection  # type: ignore[misc]  # None only before the constructor has connected
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", None)
            if isinstance(error, sqlite3.ProgrammingError):
                raise  # misuse of the module: a bug
            sentence = f"{self.path}: {error}"
            if code is not None and code & 0xFF in _PASSING:
                raise StoreUnavailableError(sentence) from error
            raise StoreCorruptError(sentence) from error


def set_aside(path: Path, stamp: str) -> Path:
    """Rename a database that cannot be used, keeping only the newest few; returns the new path. Raises OSError."""
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    sync_directory(path.parent)
    others = [one for one in path.parent.glob(f"{path.name}.corrupt-*") if not one.name.endswith(("-wal", "-shm"))]
    older = sorted(one for one in others if one != aside)  # by a clock that may have been set back since
    for one in older[: 1 - _KEPT_CORRUPT]:
        for suffix in _SUFFIXES:
            one.with_name(one.name + suffix).unlink(missing_ok=True)
    return aside


def salvage(path: Path) -> Iterator[list[Stored]]:
    """Pages of the rows of a damaged database that are still whole, in order, until the damage stops the reading."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA cache_size = -512")
        cursor = connection.execute("SELECT seq, topic, payload, made_s, crc FROM events ORDER BY seq")
        while True:
            page: list[Stored] = []
            try:
                for row in cursor:
                    stored = _checked(row)
                    if stored is not None:
                        page.append(stored)
                    if len(page) == _SALVAGE_PAGE:
                        break
            finally:
                if page:
                    yield page
            if len(page) < _SALVAGE_PAGE:
                return


def _checked(row: tuple[object, ...]) -> Stored | None:
    seq, topic, payload, made_s, crc = row
    if (
        isinstance(seq, int)
        and isinstance(topic, str)
        and isinstance(payload, bytes)
        and isinstance(made_s, float)
        and zlib.crc32(payload) == crc
    ):
        return Stored(seq, topic, payload, made_s)
    return None


def _write_ledger(connection: sqlite3.Connection, ledger: Ledger) -> None:
    values = {"last_seq": float(ledger.last_seq), "elapsed_s": ledger.elapsed_s}
    values.update({f"lost_{reason}": float(count) for reason, count in ledger.lost.items()})
    connection.executemany("INSERT OR REPLACE INTO ledger VALUES (?, ?)", values.items())
