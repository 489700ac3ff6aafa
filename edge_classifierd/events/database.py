"""The outbox's database: one SQLite file with the events that wait for the broker and the state stored with them.

WAL with `synchronous=FULL`: what was inserted survives a power loss. Not thread-safe: the outbox holds a lock.

The installer may take an upgrade back, so an older version must be able to use the file: only add tables, or columns
with a default; do not change `user_version`, nor the meaning of a column in a way that makes an older version give a
number twice. The table `state` was added in this way; the column `events.seq` is the position, never less than the
number of the event.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from edge_classifierd.errors import OutboxError
from edge_classifierd.state_file import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_APPLICATION_ID = 0x45434431  # "ECD1"
_SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 2.0
_PROBE_BYTES = 65536
_CREATE_STATE = "CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"
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
    """The content of the file cannot be used; `salvageable` is False when its rows are not worth reading."""

    def __init__(self, message: str, *, salvageable: bool = True) -> None:
        self.salvageable = salvageable
        super().__init__(message)


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


class EventDatabase:
    """An open database. The constructor creates it when it is not there.

    Every method raises StoreUnavailableError or StoreCorruptError; after either, nothing was changed.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file.

        Args:
            path: the file.
            read_only: open it although the disk is full or read-only, where SQLite cannot make its auxiliary files.
                No other connection can be opened until this one is closed.
        """
        self.path = path
        self.read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self.state: dict[str, str] = {}
        """The stored state by name, as it was when the database was opened."""
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            self.created = not path.exists()
            """True when there was no file: nothing is known of the past."""
        except OSError as error:
            raise StoreUnavailableError(f"{path}: {error.strerror or error}") from error
        try:
            with self._translated():
                connection = self._connect()
                self._prepare(connection)
                self.ledger, self.depth, self.last_position = self._load(connection)
            if not read_only:
                sync_directory(path.parent)
        except OSError as error:
            self.close()
            raise StoreUnavailableError(f"{path}: {error.strerror or error}") from error
        except OutboxError:
            self.close()
            raise

    def insert(
        self, rows: Sequence[Stored], ledger: Ledger, *, state: Mapping[str, str | None], drop_oldest: int = 0
    ) -> None:
        """Add rows and change the state in one transaction that is on the disk when this returns.

        Args:
            rows: the rows, at positions above all others.
            ledger: the numbers as they are after this transaction.
            state: the values to store by name; None removes one.
            drop_oldest: how many of the oldest rows to remove.
        """
        with self._transaction("FULL") as connection:
            added = connection.executemany(
                "INSERT INTO events (seq, made_s, topic, payload, crc) VALUES (?, ?, ?, ?, ?)",
                ((row.position, row.made_s, row.topic, row.payload, zlib.crc32(row.payload)) for row in rows),
            ).rowcount
            dropped = 0
            if drop_oldest:
                dropped = connection.execute(
                    "DELETE FROM events WHERE seq IN (SELECT seq FROM events ORDER BY seq LIMIT ?)", (drop_oldest,)
                ).rowcount
            _write_ledger(connection, ledger)
            _write_state(connection, state)
        self.ledger = ledger
        self.depth += max(0, added) - dropped

    def delete(self, positions: Iterable[int], ledger: Ledger) -> None:
        """Remove rows. Does not wait for the disk: losing this only repeats events."""
        with self._transaction("NORMAL") as connection:
            gone = connection.executemany(
                "DELETE FROM events WHERE seq = ?", ((position,) for position in positions)
            ).rowcount
            _write_ledger(connection, ledger)
        self.ledger = ledger
        self.depth -= max(0, gone)

    def delete_after(self, position: int) -> None:
        """Remove rows above a position: they are of a transaction that was reported as failed."""
        if self.last_position > position:
            with self._transaction("FULL") as connection:
                self.depth -= connection.execute("DELETE FROM events WHERE seq > ?", (position,)).rowcount
            self.last_position = position

    def probe(self) -> None:
        """Test whether the disk takes a write of some size, which the reuse of freed pages would hide."""
        with self._transaction("FULL") as connection:
            connection.execute("INSERT OR REPLACE INTO ledger VALUES ('probe', zeroblob(?))", (_PROBE_BYTES,))
        with self._transaction("NORMAL") as connection:
            connection.execute("DELETE FROM ledger WHERE name = 'probe'")

    def page(self, after: int, limit: int) -> list[Stored]:
        """Return the rows at positions above `after`, in order, at most `limit`."""
        with self._translated() as connection:
            rows = connection.execute(
                "SELECT seq, topic, payload, made_s, crc FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, limit),
            ).fetchall()
        stored = [checked_row(row) for row in rows]
        intact = [one for one in stored if one is not None]
        if len(intact) < len(stored):
            raise StoreCorruptError(f"{self.path}: a row's checksum does not match its payload")
        return intact

    def ages(self, limit: int) -> list[tuple[int, float]]:
        """Return (position, made_s) of the oldest rows, at most `limit`."""
        with self._translated() as connection:
            return connection.execute("SELECT seq, made_s FROM events ORDER BY seq LIMIT ?", (limit,)).fetchall()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        name = str(self.path)
        if self.read_only:
            wal = self.path.with_name(self.path.name + "-wal")
            immutable = "&immutable=1" if not wal.exists() or wal.stat().st_size == 0 else ""
            name = f"file:{quote(name)}?mode={'ro' if immutable else 'rw'}{immutable}"
        # Kept before anything is read: what is no database must be closed, too.
        self._connection = connection = sqlite3.connect(
            name,
            uri=self.read_only,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=16,
        )
        connection.execute("PRAGMA cache_size = -512")  # KiB; the rows are read once
        connection.execute("PRAGMA temp_store = MEMORY")
        if self.read_only:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # holds the index of the WAL in memory
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 4194304")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Check that the database is an outbox, or create its tables."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if version == 0 and not tables:
            if self.read_only:
                raise StoreUnavailableError(f"{self.path}: empty")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE ledger (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID")
            connection.execute(
                "CREATE TABLE events (seq INTEGER PRIMARY KEY, made_s REAL NOT NULL, topic TEXT NOT NULL,"
                " payload BLOB NOT NULL, crc INTEGER NOT NULL)"
            )
            connection.execute("INSERT INTO ledger VALUES ('last_seq', 0), ('elapsed_s', 0)")
            connection.execute(_CREATE_STATE)
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
        elif "state" not in tables and not self.read_only:
            connection.execute(_CREATE_STATE)
        if self.created or "state" in tables:
            for name, value, crc in connection.execute("SELECT name, value, crc FROM state"):
                if zlib.crc32(f"{name}={value}".encode()) != crc:
                    raise StoreCorruptError(f"{self.path}: the checksum of the state `{name}` does not match")
                self.state[name] = value

    def _load(self, connection: sqlite3.Connection) -> tuple[Ledger, int, int]:
        """Read the ledger, the number of rows and the last position."""
        values = dict(connection.execute("SELECT name, value FROM ledger WHERE name != 'probe'").fetchall())
        depth, newest, latest_s = connection.execute("SELECT count(*), max(seq), max(made_s) FROM events").fetchone()
        if "last_seq" not in values or "elapsed_s" not in values:
            raise StoreCorruptError(f"{self.path}: the ledger is not there")
        lost = {name.removeprefix("lost_"): int(value) for name, value in values.items() if name.startswith("lost_")}
        ledger = Ledger(int(values["last_seq"]), max(values["elapsed_s"], latest_s or 0.0), lost)
        return ledger, depth, max(ledger.last_seq, newest or 0)

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


def may_exist(path: Path) -> bool:
    """Return False only when there is certainly no file."""
    try:
        return path.is_file()
    except OSError:
        return True


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


def _write_ledger(connection: sqlite3.Connection, ledger: Ledger) -> None:
    values = {"last_seq": float(ledger.last_seq), "elapsed_s": ledger.elapsed_s}
    values.update({f"lost_{reason}": float(count) for reason, count in ledger.lost.items()})
    connection.executemany("INSERT OR REPLACE INTO ledger VALUES (?, ?)", values.items())


def _write_state(connection: sqlite3.Connection, state: Mapping[str, str | None]) -> None:
    for name, value in state.items():
        if value is None:
            connection.execute("DELETE FROM state WHERE name = ?", (name,))
        else:
            crc = zlib.crc32(f"{name}={value}".encode())
            connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (name, value, crc))
