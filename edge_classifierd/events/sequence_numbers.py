"""The numbers already given to events, stored beside the database: none is given twice when the database is lost.

Two small files. `<outbox>.seq` holds an upper bound, reserved a block ahead and replaced atomically and durably: one
write per thousand events. `<outbox>.last` holds the last number given and its `event_id`, written in place without a
wait for the disk: it survives a crash of the process and shows when a database has lost its newest rows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from typing import TYPE_CHECKING

from edge_classifierd.errors import OutboxError
from edge_classifierd.events.ulid import LENGTH as ID_LENGTH
from edge_classifierd.state_file import lock_alone, replace_file

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

BLOCK = 1000
"""How many numbers are reserved at once: the largest gap that a lost database causes."""

_RECORD = 30
_ID_OFFSET = 37  # an earlier version used the seven bytes between for a mark


class SequenceNumbers:
    """The two files, read once when opened; the second is also the lock against a second daemon.

    Used under the outbox's lock. Unreadable or unwritable files are not an error: they read as 0.
    """

    def __init__(self, outbox: Path) -> None:
        """Read the files beside the database `outbox`.

        Raises:
            OutboxError: another process has this outbox open.
        """
        self._path = outbox
        self._reserved_path = outbox.with_name(outbox.name + ".seq")
        self._last_path = outbox.with_name(outbox.name + ".last")
        self._last_file = self._open_last()
        self._reserved, _ = _read(self._reserved_path)
        self.last, self.last_id = _read(self._last_path)
        """The last number given and the `event_id` of its event; 0 and empty when unknown."""

    def continue_after(self, stored: int, *, lost: bool) -> int:
        """Return the last number that may have been given.

        Args:
            stored: the last number according to the database.
            lost: whether the database is a new one; logged if there were numbers before.
        """
        if not lost and self.last <= stored:
            return stored
        bound = max(self._reserved, self.last, stored)
        if lost and bound:
            log.error("%s: the database with the last number is gone; continuing with %d", self._path, bound + 1)
        elif not lost:
            log.error(
                "%s: the database ends at event %d although %d was given: the newest may be lost; continuing with %d",
                self._path, stored, self.last, bound + 1,
            )  # fmt: skip
        return bound

    def reserve(self, seq: int) -> None:
        """Make sure that the bound covers `seq`, a block ahead; durable when it returns. Raises OSError."""
        if seq <= self._reserved:
            return
        bound = seq + BLOCK
        replace_file(self._reserved_path, _record(bound), durably=True)
        self._reserved = bound

    def record_last(self, seq: int, event_id: str) -> None:
        """Write the last number given; best effort, without a wait for the disk."""
        self.last, self.last_id = seq, event_id
        if self._last_file is None:
            self._last_file = self._open_last()
        if self._last_file is not None:
            record = _record(seq).ljust(_ID_OFFSET) + f"{event_id} {zlib.crc32(event_id.encode()):08x}\n".encode()
            with contextlib.suppress(OSError):
                os.pwrite(self._last_file, record, 0)

    def close(self) -> None:
        """Release the lock; safe to call twice."""
        if self._last_file is not None:
            os.close(self._last_file)
            self._last_file = None

    def _open_last(self) -> int | None:
        try:
            descriptor = os.open(self._last_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError:
            return None  # a read-only or missing directory: the outbox reports it
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


def _read(path: Path) -> tuple[int, str]:
    """The number and the event_id in a file; 0 and empty for what is missing or damaged."""
    try:
        content = path.read_bytes()[: _ID_OFFSET + ID_LENGTH + 10]
    except OSError:
        return 0, ""
    number = content[:20]
    seq = int(number) if number.isdigit() and content[:_RECORD] == _record(int(number)) else 0
    event_id, _, checksum = content[_ID_OFFSET:].rstrip().partition(b" ")
    intact = bool(event_id) and checksum == b"%08x" % zlib.crc32(event_id)
    return seq, event_id.decode("ascii", "replace") if intact else ""
