"""A small JSON file in the state directory: written whole and atomically, and set aside when it is damaged."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger(__name__)

T = TypeVar("T")


class StateFile:
    """One file; its owner holds a lock over its methods. A disk that fails costs durability and one warning."""

    def __init__(self, path: Path, version: str, purpose: str) -> None:
        """Create the object; no file is touched.

        Args:
            path: the file.
            version: the only key of the document; a file with another one is not used.
            purpose: the consequence of losing the file, for log messages.
        """
        self._path = path
        self._version = version
        self._purpose = purpose
        self._failing = False
        self.unreadable = False
        """Whether the file exists and could not be read, for instance for want of permission: it may be intact."""

    def read(self, parse: Callable[[Any], T], empty: T) -> T:
        """Return the parsed document; `empty` without a file or, with a warning, when it is damaged or unreadable.

        A damaged file is set aside. One that cannot be read (EACCES, EIO) stays in its place.
        """
        try:
            content = self._path.read_text(encoding="utf-8")
            return parse(json.loads(content)[self._version])
        except (FileNotFoundError, NotADirectoryError):
            return empty
        except OSError as error:
            self.unreadable = True
            _log.warning("%s: cannot be read (%s); %s", self._path, error.strerror or error, self._purpose)
            return empty
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            _log.warning("%s: damaged (%s); set aside as %s; %s", self._path, error, self._aside.name, self._purpose)
            self._set_aside()
            return empty

    def write(self, document: object, *, durably: bool) -> bool:
        """Replace the file; `durably` waits for the disk. False when it failed: write it again later."""
        content = json.dumps({self._version: document}, ensure_ascii=False)
        if self.unreadable:
            self._set_aside()
            self.unreadable = False
        try:
            replace_file(self._path, content.encode(), durably=durably)
        except OSError as error:
            if not self._failing:
                _log.warning("%s: cannot be written (%s); %s", self._path, error, self._purpose)
            self._failing = True
        else:
            self._failing = False
        return not self._failing

    @property
    def _aside(self) -> Path:
        return self._path.with_name(f"{self._path.name}.unreadable")

    def _set_aside(self) -> None:
        with contextlib.suppress(OSError):
            self._path.replace(self._aside)


def replace_file(file: Path, content: bytes, *, durably: bool, mode: int | None = None) -> None:
    """Write the content to a temporary file and rename it, so that no reader ever sees a part of it.

    Args:
        file: the file to replace.
        content: its new content.
        durably: wait for the disk.
        mode: the permissions of the file whatever the umask is; without it they follow the umask.

    Raises:
        OSError: the file is unchanged, and nothing is left behind.
    """
    temporary = file.with_name(f".{file.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if durably:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durably:
        sync_directory(file.parent)


def sync_directory(directory: Path) -> None:
    """Make creations and renames in a directory survive a power loss. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_alone(descriptor: int) -> None:
    """Lock a file for this process alone, until it is closed; does nothing where the file system has no locks.

    Raises:
        BlockingIOError: another process holds the lock; the file was closed.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass
