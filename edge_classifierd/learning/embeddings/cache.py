"""Embeddings that an earlier training computed, in an SQLite file, so that the next one computes the new ones only."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from typing import TYPE_CHECKING, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

_MOST: Final = 3000
"""Embeddings in a file: about 60 MB with the bundled models."""
_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID"


class EmbeddingCache:
    """A file of embeddings, for one thread. A context manager, which writes the file at its end.

    A key is made of all that an embedding is computed from, so nothing in the file is ever out of date. What a training
    that succeeds has not used is removed. A file that cannot be used is removed and costs time, not the training.
    """

    def __init__(self, path: Path | None) -> None:
        """`path` is the file, which is made if it is not there; None: nothing is kept."""
        self._path = path
        self._used: set[bytes] = set()
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Open the file."""
        if self._path is not None:
            with self._usable():
                self._connection = sqlite3.connect(self._path, isolation_level=None)
                self._connection.execute(_SCHEMA)
                self._connection.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write and close the file."""
        with self._usable():
            if self._connection is not None:
                if kind is None:
                    stored = {key for (key,) in self._connection.execute("SELECT key FROM embeddings")}
                    gone = [(key,) for key in stored - self._used]
                    self._connection.executemany("DELETE FROM embeddings WHERE key = ?", gone)
                self._connection.execute("COMMIT")
                self._connection.close()
        self._connection = None

    def get(self, key: bytes, columns: int, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the embedding of a key (`key_of`), shape (columns,), which is computed when the file lacks it."""
        known = self._read(key)
        if known is not None and len(known) == columns * 4:
            return np.frombuffer(known, np.float32)
        computed = compute()
        self._write(key, computed)
        return computed

    def _read(self, key: bytes) -> bytes | None:
        with self._usable():
            if self._connection is not None:
                found = self._connection.execute("SELECT content FROM embeddings WHERE key = ?", (key,)).fetchone()
                if found is not None:
                    self._used.add(key)
                    return bytes(found[0])
        return None

    def _write(self, key: bytes, computed: NDArray[np.float32]) -> None:
        with self._usable():
            if self._connection is not None and len(self._used) < _MOST:
                content = np.ascontiguousarray(computed, np.float32).tobytes()
                self._connection.execute("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", (key, content))
                self._used.add(key)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """After an error of SQLite, continue without the file and remove it."""
        try:
            yield
        except sqlite3.Error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            assert self._path is not None
            for path in (self._path.with_name(f"{self._path.name}-journal"), self._path):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def key_of(*parts: bytes) -> bytes:
    """Return a key for what is computed from `parts`, 16 bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()
