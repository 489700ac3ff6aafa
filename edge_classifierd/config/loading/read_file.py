"""Reads a small text file. Never blocks (FIFO, device) and never reads more than a limit."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.errors import ConfigurationError, EdgeClassifierError, Problem

if TYPE_CHECKING:
    from pathlib import Path

# Characters that YAML 1.1 forbids (specification, section 5.1). PyYAML refuses them with a less helpful message.
# Two small character classes, because one across all planes takes 5 ms to compile.
_NOT_PRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]|[\ufffe\uffff]")
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}


class UnreadableError(EdgeClassifierError):
    """A file, credential or variable cannot be read. `str()` gives the reason without the name."""


@dataclass(frozen=True, slots=True)
class SmallFile:
    """The content of a regular file, and whether every account of the machine may read it."""

    content: bytes
    world_readable: bool


def read_small_file(path: Path, limit: int) -> SmallFile:
    """Return the content of a regular file of at most `limit` bytes; raises UnreadableError."""
    try:
        _refuse_special(path.stat().st_mode)  # before opening, because opening some devices has an effect
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            status = os.fstat(descriptor)
            _refuse_special(status.st_mode)
            if status.st_size > limit:
                raise UnreadableError(f"is {status.st_size:,} bytes long; at most {limit:,} are read")
            content = b""
            while len(content) <= limit and (more := stream.read(limit + 1 - len(content))):
                content += more
    except FileNotFoundError as error:
        raise UnreadableError("there is no such file") from error
    except PermissionError as error:
        raise UnreadableError("permission denied; use sudo, or let the account that runs this read it") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a possible path"
        raise UnreadableError(f"cannot be read: {reason}") from error
    if len(content) > limit:
        raise UnreadableError(f"is more than {limit:,} bytes long")
    return SmallFile(content=content, world_readable=bool(status.st_mode & stat.S_IROTH))


def is_absent(path: Path) -> bool:
    """Whether there is surely no such file; a file that this account may not see counts as present."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def decode(content: bytes, file: str) -> str:
    """Return the text of a UTF-8 file without its byte order mark; raises ConfigurationError at the first fault."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            raise ConfigurationError((Problem(file, 0, 0, "", f"is written in {encoding}; save it as UTF-8"),))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", errors="replace")
        message = f"is not UTF-8 (byte 0x{error.object[error.start]:02x} here); save the file as UTF-8"
        raise ConfigurationError((_at_end_of(before, file, message),)) from error
    if wrong := _NOT_PRINTABLE.search(text):
        message = f"has the character U+{ord(wrong[0]):04X}, which a YAML file cannot hold"
        raise ConfigurationError((_at_end_of(text[: wrong.start()], file, message),))
    return text


def _refuse_special(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise UnreadableError("is a directory; give the path of a file in it")
    if not stat.S_ISREG(mode):
        raise UnreadableError("is not a regular file")


def _at_end_of(text: str, file: str, message: str) -> Problem:
    return Problem(file, text.count("\n") + 1, len(text) - text.rfind("\n"), "", message)
