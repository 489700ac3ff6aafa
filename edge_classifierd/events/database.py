"""The outbox's database: one SQLite file with the events that wait for the broker and the state stored with them.

WAL with `synchronous=FULL`: what was inserted survives a power loss. Not thread-safe: the outbox holds a lock.

The installer may take an upgrade back, so an older version must be able to use the file: only add tables, or columns
with a default; do not change `user_version`, nor the meaning of a column in a way that makes an older version give a
number twice. The tables `state` and `sent` were added in this way; the column `events.seq` is the position, never less
than the number of the event.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from typing import TYPE_CHECKING
from urllib.parse import quote

from edge_classifierd.errors import OutboxError
from edge_classifierd.events import tables
from edge_classifierd.events.tables import Ledger, Stored, checked_row
from edge_classifierd.state_file import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_APPLICATION_ID = 0x45434431  # "ECD1"
_SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 2.0
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
    """The content of the file cannot be used; `salvageable` is False when its rows are not worth reading."""

    def __init__(self, message: str, *, salvageable: bool = True) -> None:
        self.salvageable = salvageable
        super().__init__(message)


class EventDatabase:
    """An open database. The constructor creates it when it is not there.

    Every method raises StoreUnavailableError or StoreCorruptError; after either, nothing was changed.
    """

    def __init__(self, path: Path, *, keep_sent: int, read_only: bool = False) -> None:
        """Open the file.

        Args:
            path: the file.
            keep_sent: how many acknowledged events stay, the newest.
            read_only: open it although the disk is full or read-only, where SQLite cannot make its auxiliary files.
                No other connection can be opened until this one is closed.
        """
        self.path = path
        self.read_only = read_only
        self._keep_sent = keep_sent
        self._sent = 0
        self._connection: sqlite3.Connection | None = None
        self._synchronous = ""  # as it was set last
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
                    self._sent = tables.count_sent(connection)
                    self._sent -= tables.remove_oldest(connection, "sent", self._sent - keep_sent)
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
            added = tables.add_waiting(connection, rows)
            dropped = tables.remove_oldest(connection, "events", drop_oldest)
            tables.write_ledger(connection, ledger)
            tables.write_state(connection, state)
        self.ledger = ledger
        self.depth += added - dropped

    def acknowledge(self, positions: Iterable[int], ledger: Ledger, *, from_memory: Sequence[Stored] = ()) -> None:
        """Move rows that the broker has to the sent ones. Does not wait for the disk: losing this only repeats events.

        Args:
            positions: the rows to move.
            ledger: the numbers as they are after this transaction.
            from_memory: sent rows that are not in the database, older than those above.
        """
        acknowledged = sorted(positions)
        kept = acknowledged[-self._keep_sent :] if self._keep_sent else []
        with self._transaction("NORMAL") as connection:
            added = tables.copy_to_sent(connection, kept) + tables.add_sent(connection, from_memory)
            gone = tables.remove_waiting(connection, acknowledged)
            removed = tables.remove_oldest(connection, "sent", self._sent + added - self._keep_sent)
            tables.write_ledger(connection, ledger)
        self.ledger = ledger
        self.depth -= gone
        self._sent += added - removed

    def delete(self, positions: Iterable[int], ledger: Ledger) -> None:
        """Remove rows that are given up. Does not wait for the disk."""
        with self._transaction("NORMAL") as connection:
            gone = tables.remove_waiting(connection, positions)
            tables.write_ledger(connection, ledger)
        self.ledger = ledger
        self.depth -= gone

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
            cached_statements=32,
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
        existing = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if version == 0 and not existing:
            if self.read_only:
                raise StoreUnavailableError(f"{self.path}: empty")
            connection.execute("BEGIN IMMEDIATE")
            for create in (tables.CREATE_LEDGER, tables.CREATE_EVENTS, *tables.ADDED.values()):
                connection.execute(create)
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
        elif not self.read_only:
            tables.add_missing(connection, existing)
        if self.created or "state" in existing:
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
            if synchronous != self._synchronous:
                connection.execute(f"PRAGMA synchronous = {synchronous}")
                self._synchronous = synchronous
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
