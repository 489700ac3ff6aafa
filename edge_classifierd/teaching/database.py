"""The index of all taught models: one SQLite file, which decides what exists.

WAL with `synchronous=FULL`: what was stored survives a power loss. A picture's file is written inside the transaction
that adds its row, and removed after the one that removes it, so a process that ends at any moment leaves at most a file
without a row. `recover` removes such files, inside a transaction, when no other process can be adding one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
from typing import TYPE_CHECKING, Final

from edge_classifierd.state_file import lock_alone, replace_file
from edge_classifierd.teaching.records import TeachingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER: Final = "taught"
"""The folder of all taught models in the state directory."""
IMPORT_PREFIX: Final = ".import-"
"""How the folder of an import begins, which is locked while the import runs."""
_INDEX: Final = "index.sqlite"
_APPLICATION_ID: Final = 0x45435431  # "ECT1"
_SCHEMA_VERSION: Final = 1
_BUSY_TIMEOUT_S: Final = 10.0
# Result codes (https://sqlite.org/rescode.html) that blame neither the disk nor another process; 0: Python's own.
_BUGS: Final = {0, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE}

# Times are milliseconds since 1970, UTC.
_SCHEMA: Final = """
CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, pipeline TEXT, made_ms INTEGER NOT NULL);
CREATE TABLE classes (
    id TEXT PRIMARY KEY, model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE, slug TEXT NOT NULL,
    name TEXT NOT NULL, folded TEXT NOT NULL, removed_ms INTEGER);
CREATE UNIQUE INDEX class_slugs ON classes (model, slug) WHERE removed_ms IS NULL;
CREATE UNIQUE INDEX class_names ON classes (model, folded) WHERE removed_ms IS NULL;
CREATE TABLE recordings (
    id TEXT PRIMARY KEY, model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE, source TEXT NOT NULL,
    pipeline TEXT, class TEXT, began_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, side TEXT, step INTEGER);
CREATE INDEX newest_recordings ON recordings (model, source, last_ms);
CREATE TABLE pictures (
    id TEXT PRIMARY KEY, model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE, class TEXT, binned_ms INTEGER,
    recording TEXT NOT NULL, look TEXT NOT NULL, held_out INTEGER, source TEXT NOT NULL, origin TEXT,
    captured_ms INTEGER NOT NULL, added_ms INTEGER NOT NULL, placed_ms INTEGER NOT NULL, bytes INTEGER NOT NULL,
    hash BLOB NOT NULL, guess TEXT, confidence REAL);
CREATE INDEX places ON pictures (model, binned_ms, class, id, recording, look);
CREATE INDEX sizes ON pictures (model, bytes);
CREATE INDEX of_recordings ON pictures (recording);
CREATE UNIQUE INDEX origins ON pictures (model, origin) WHERE origin IS NOT NULL;
CREATE TABLE thumbnails (id TEXT PRIMARY KEY REFERENCES pictures ON DELETE CASCADE, jpeg BLOB NOT NULL);
CREATE TABLE steps (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    removed_class TEXT);
CREATE INDEX newest_steps ON steps (model, id);
CREATE TABLE moves (
    step INTEGER NOT NULL REFERENCES steps ON DELETE CASCADE,
    picture TEXT NOT NULL REFERENCES pictures ON DELETE CASCADE, added INTEGER NOT NULL,
    class_before TEXT, binned_before INTEGER, placed_before INTEGER, class_after TEXT, binned_after INTEGER);
CREATE INDEX moves_of_steps ON moves (step);
CREATE INDEX moves_of_pictures ON moves (picture);
CREATE TABLE folders (name TEXT PRIMARY KEY, becomes TEXT);
"""


class TeachingDatabase:
    """The open index. Thread-safe; any number of processes may have it open at the same time."""

    def __init__(self, state: Path) -> None:
        """Create the object; nothing is read or written. `state` is the state directory."""
        self._state = state
        self.folder = state / FOLDER
        self.path = self.folder / _INDEX
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._recovered = False
        self._written: list[Path] = []

    def pictures_folder(self, model: str) -> Path:
        """Return the folder of a model's pictures. The name was checked when the model was made."""
        return self.folder / model / "pictures"

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection for one consistent reading; None while there is no index. Raises TeachingError."""
        with self._lock, self.translated():
            if self._connection is None and not self.path.exists():
                yield None
                return
            connection = self._opened()
            inside = connection.in_transaction
            if not inside:
                connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if not inside:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside a transaction that is on the disk at the end. Raises TeachingError.

        The first one of a process removes what an interrupted process left behind.
        """
        with self._lock, self.translated():
            self.make_folder(self.folder)
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            self._written.clear()
            try:
                if not self._recovered:
                    self.finish_folders(connection)
                    self._recover(connection)
                    self._recovered = True
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                    connection.execute("ROLLBACK")
                for path in self._written:
                    path.unlink(missing_ok=True)
                raise

    def write_picture(self, model: str, picture: str, jpeg: bytes) -> None:
        """Write a picture's file durably inside `writing`, which removes it when the transaction fails.

        Raises OSError.
        """
        path = self.pictures_folder(model) / f"{picture}.jpg"
        self.make_folder(self.folder / model)
        self.make_folder(path.parent)
        self._written.append(path)
        replace_file(path, jpeg, durably=True)
        self.own(path)

    def own(self, path: Path) -> None:
        """Give a new file to the owner of the state directory, where root runs a command beside the daemon."""
        if os.geteuid() == 0:
            owner = self._state.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def finish_folders(self, connection: sqlite3.Connection) -> None:
        """Rename and remove the folders of renamed and removed models. Raises OSError; the rest is tried again."""
        for name, becomes in connection.execute("SELECT name, becomes FROM folders").fetchall():
            old = self.folder / name
            if becomes is None:
                shutil.rmtree(old, ignore_errors=True)
                if old.exists():
                    continue
            elif old.exists():
                old.rename(self.folder / becomes)
            connection.execute("DELETE FROM folders WHERE name = ?", (name,))

    def close(self) -> None:
        """Close the index; safe to call twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        """Close the index of a store that is dropped; Python 3.13 warns of each open database that it frees."""
        self.close()

    def _recover(self, connection: sqlite3.Connection) -> None:
        """Remove files without a row, and rows whose file is gone. The transaction keeps other processes out."""
        for folder in self.folder.glob(f"{IMPORT_PREFIX}*"):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(BlockingIOError):  # an import that runs
                lock_alone(descriptor)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)
        for number, name in connection.execute("SELECT id, name FROM models").fetchall():
            try:
                files = {entry.name for entry in os.scandir(self.pictures_folder(name))}
            except FileNotFoundError:
                continue  # an unmounted or foreign folder must not cost rows
            rows = {f"{one}.jpg" for (one,) in connection.execute("SELECT id FROM pictures WHERE model = ?", (number,))}
            for file in files - rows:
                (self.pictures_folder(name) / file).unlink(missing_ok=True)
            lost = [(file.removesuffix(".jpg"),) for file in rows - files]
            connection.executemany("DELETE FROM pictures WHERE id = ?", lost)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            new = not self.path.exists()
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection, new=new)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: sqlite3.Connection, *, new: bool) -> None:
        if new:
            self.own(self.path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("BEGIN IMMEDIATE" if new else "BEGIN")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            if not connection.in_transaction:
                connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            version = _SCHEMA_VERSION
        foreign = connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID
        connection.execute("COMMIT")
        if foreign:
            raise TeachingError(f"{self.path}: a database of another program; move it away")
        if version != _SCHEMA_VERSION:
            raise TeachingError(
                f"{self.path}: schema version {version}, not {_SCHEMA_VERSION}; install the newest program"
            )

    def make_folder(self, folder: Path) -> None:
        """Create a folder that belongs to the owner of the state directory, if it is not there. Raises OSError."""
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            self.own(folder)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raise TeachingError for errors of the disk and the index."""
        try:
            yield
        except PermissionError as error:
            raise TeachingError(
                f"{error.filename or self.path}: permission denied; run this as root (`sudo`)"
            ) from error
        except OSError as error:
            raise TeachingError(
                f"{error.filename or self.folder}: {error.strerror or error}; check the disk"
            ) from error
        except sqlite3.DatabaseError as error:
            if (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _BUGS:
                raise
            raise TeachingError(f"{self.path}: {_explained(error)}") from error


def _explained(error: sqlite3.DatabaseError) -> str:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return f"{error}; run this as root (`sudo`), or check the disk"
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return f"damaged ({error}); move the folder away and import the last export (`teach import`)"
    if code == sqlite3.SQLITE_BUSY:
        return "another process is writing to it; try again"
    return f"{error}; check the disk"
