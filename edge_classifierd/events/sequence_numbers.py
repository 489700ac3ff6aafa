"""The numbers already given to events, kept beside the database so that none is given twice when the database is lost.

Two small files. `<outbox>.seq` holds an upper bound, reserved a block ahead and replaced atomically and durably, so
that it costs a write per thousand events. `<outbox>.last` holds the last number given, written in place without waiting
for the disk: it survives the process, though perhaps not the power, and shows when a database has silently lost its
newest rows. An orderly end is marked in it: then no number was given beyond it, and no event was lost.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from typing import TYPE_CHECKING

from edge_classifierd.errors import OutboxError
from edge_classifierd.state_file import lock_alone, replace_file

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 1000
"""How many numbers are reserved at once, and the largest gap that a lost database causes."""

_RECORD = 30
_ORDERLY = b"closed\n"
_RUNNING = b" " * len(_ORDERLY)


class SequenceNumbers:
    """The two files, read once when opened; the second also is the lock against a second daemon.

    Used under the outbox's lock. Raises OutboxError when another process has this outbox open; unreadable or unwritable
    files are not an error here: they read as 0.
    """

    def __init__(self, outbox: Path) -> None:
        self._reserved_path = outbox.with_name(outbox.name + ".seq")
        self._last_path = outbox.with_name(outbox.name + ".last")
        self._last_file = self._open_last()
        self.reserved = _read(self._reserved_path)
        """No number above this was ever given by a durable append."""
        self.last = _read(self._last_path)
        """The last number given, as far as known."""
        self.orderly = self._take_mark()
        """Whether the process that gave it ended orderly, with every event delivered or in the database."""

    @property
    def writable(self) -> bool:
        """Whether `note` leaves a trace."""
        return self._last_file is not None

    def reserve(self, seq: int) -> None:
        """Make sure that the bound covers `seq`, a block ahead; durable when it returns. Raises OSError."""
        if seq <= self.reserved:
            return
        bound = seq + BLOCK
        replace_file(self._reserved_path, _record(bound), durably=True)
        self.reserved = bound

    def note(self, seq: int) -> None:
        """Remember the last number given; best effort, does not wait for the disk."""
        self.last = seq
        if self._last_file is None:
            self._last_file = self._open_last()
        if self._last_file is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._last_file, _record(seq) + _RUNNING, 0)

    def close(self, *, orderly_at: int | None = None) -> None:
        """Release the lock; `orderly_at`, the last number given, leaves the mark, best effort. Safe to call twice."""
        if self._last_file is not None:
            if orderly_at is not None:
                with contextlib.suppress(OSError):
                    os.pwrite(self._last_file, _record(orderly_at) + _ORDERLY, 0)
            os.close(self._last_file)
            self._last_file = None

    def _take_mark(self) -> bool:
        """Take the mark away for good, or do not believe it: the next start must not find it again."""
        try:
            if self._last_file is None or os.pread(self._last_file, len(_ORDERLY), _RECORD) != _ORDERLY:
                return False
            os.ftruncate(self._last_file, _RECORD)
            os.fsync(self._last_file)
        except OSError:
            return False
        return self.last > 0

    def _open_last(self) -> int | None:
        try:
            descriptor = os.open(self._last_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError:
            return None  # a read-only or missing directory: the outbox itself says so
        try:
            lock_alone(descriptor)
        except BlockingIOError as error:
            raise OutboxError(
                f"{self._last_path}: another process has this outbox open; stop it, or give each its own outbox.path"
                " and state directory (EDGE_CLASSIFIERD_STATE)"
            ) from error
        return descriptor


def _record(seq: int) -> bytes:
    number = f"{seq:020d}".encode()
    return b"%s %08x\n" % (number, zlib.crc32(number))


def _read(path: Path) -> int:
    try:
        record = path.read_bytes()[:_RECORD]
    except OSError:
        return 0
    number = record[:20]
    return int(number) if len(number) == 20 and number.isdigit() and record == _record(int(number)) else 0
