"""Reads a small text file without ever blocking on it or filling the memory, whatever the path turns out to be."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.errors import ConfigurationError, EdgeClassifierError, Problem

if TYPE_CHECKING:
    from pathlib import Path

# What YAML 1.1 does not call printable (section 5.1 of its specification); PyYAML refuses it too, less helpfully.
# Two small classes: a class across all planes takes 5 ms to compile.
_NOT_PRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]|[\ufffe\uffff]")
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}


class UnreadableError(EdgeClassifierError):
    """Something that a configuration names cannot be read; `str()` says why, without naming it."""


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A regular file's content, and whether every account of the machine may read it."""

    content: bytes
    world_readable: bool


def read_small_file(path: Path, limit: int) -> SmallFile:
    """The whole of a regular file of at most `limit` bytes; raises UnreadableError."""
    try:
        _refuse_special(path.stat().st_mode)  # before opening: some devices act on being opened
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
        raise UnreadableError("permission denied; let the account that runs this read it") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a possible path"
        raise UnreadableError(f"cannot be read: {reason}") from error
    if len(content) > limit:
        raise UnreadableError(f"is more than {limit:,} bytes long")
    return SmallFile(content=content, world_readable=bool(status.st_mode & stat.S_IROTH))


def decode(content: bytes, file: str) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; raises ConfigurationError at the first fault."""
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
        raise UnreadableError("is a directory; name the file in it")
    if not stat.S_ISREG(mode):
        raise UnreadableError("is not a regular file")


def _at_end_of(text: str, file: str, message: str) -> Problem:
    return Problem(file, text.count("\n") + 1, len(text) - text.rfind("\n"), "", message)
