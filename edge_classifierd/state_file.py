"""A small JSON file in the state directory: written whole and atomically, and set aside when it cannot be read."""

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
        """`version` is the document's only key, so that others are told apart; `purpose` says what is at stake."""
        self._path = path
        self._version = version
        self._purpose = purpose
        self._failing = False

    def read(self, parse: Callable[[Any], T], empty: T) -> T:
        """What `parse` makes of the document; `empty` when there is none or, with a warning, when it makes no sense."""
        try:
            return parse(json.loads(self._path.read_text(encoding="utf-8"))[self._version])
        except FileNotFoundError:
            return empty
        except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            aside = self._path.with_name(f"{self._path.name}.unreadable")
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            _log.warning("%s: unreadable (%s); set aside as %s; %s", self._path, error, aside.name, self._purpose)
            return empty

    def write(self, document: object, *, durably: bool) -> bool:
        """Replace the file; `durably` waits for the disk. False when it failed: write it again later."""
        content = json.dumps({self._version: document}, ensure_ascii=False)
        try:
            replace_file(self._path, content.encode(), durably=durably)
        except OSError as error:
            if not self._failing:
                _log.warning("%s: cannot be written (%s); %s", self._path, error, self._purpose)
            self._failing = True
        else:
            self._failing = False
        return not self._failing


def replace_file(file: Path, content: bytes, *, durably: bool, mode: int | None = None) -> None:
    """Write it beside and rename it, so that nobody ever sees half of it; `durably` waits for the disk.

    `mode` sets the file's permissions whatever the umask is; without it they follow the umask. Raises OSError, and
    leaves nothing behind then.
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
    """Lock a file for this process alone, until it is closed; where the file system knows no locks, nothing is done.

    Raises BlockingIOError, the file closed, when another process has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass
