"""Logging to stderr: plain lines, with the priority prefix of sd-daemon(3) when stderr is the journal."""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from edge_classifierd.errors import ConfigurationError, message_text, printable

# sd-daemon(3): `<N>` at the start of a line sets its syslog priority.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

_LONGEST: Final = 1000

LEVELS = ("debug", "info", "warning", "error")


def configure(level: str = "info") -> None:
    """Send every record at or above `level` to stderr; one of `LEVELS`."""
    handler = logging.StreamHandler(sys.stderr)
    terminal = _PrintableFormatter("%(asctime)s %(levelname)-7s %(message)s")
    handler.setFormatter(_JournalFormatter("%(message)s") if _stderr_is_journal() else terminal)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


@dataclass(frozen=True, slots=True)
class LoggedWarning:
    """A warning or an error of the log."""

    time: datetime
    level: Literal["warning", "error"]
    message: str
    """Printable, without a traceback, at most 1,000 characters."""


class RecentWarnings(logging.Handler):
    """Holds the newest warnings and errors of this process. Thread-safe; `install` adds it to the log."""

    def __init__(self, most: int = 100) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(_PrintableFormatter("%(message)s"))
        self._newest: deque[LoggedWarning] = deque(maxlen=most)

    def install(self) -> None:
        """Receive what is logged from now on."""
        logging.getLogger().addHandler(self)

    def remove(self) -> None:
        """Receive nothing more."""
        logging.getLogger().removeHandler(self)

    @property
    def newest(self) -> tuple[LoggedWarning, ...]:
        """Return the warnings and errors, oldest first."""
        with self.lock or nullcontext():
            return tuple(self._newest)

    def emit(self, record: logging.LogRecord) -> None:
        """Store a record; called by logging with the handler's lock."""
        plain = copy.copy(record)
        plain.exc_info = plain.exc_text = plain.stack_info = None
        level: Literal["warning", "error"] = "warning" if record.levelno < logging.ERROR else "error"
        message = self.format(plain)[:_LONGEST]
        self._newest.append(LoggedWarning(datetime.fromtimestamp(record.created, UTC), level, message))


def event_level() -> int:
    """Return the level of a line for each event: INFO on a terminal, where somebody watches, DEBUG in the journal."""
    return logging.INFO if sys.stderr.isatty() else logging.DEBUG


def _stderr_is_journal() -> bool:
    """Return whether stderr is the journal. Terminals of a desktop inherit $JOURNAL_STREAM, so the file decides."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or not a file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _PrintableFormatter(logging.Formatter):
    """Escapes what could forge a line or control a terminal: names come from files, topics and cameras."""

    _indent = "  "

    def format(self, record: logging.LogRecord) -> str:
        """Format a record: one line, and the lines of its traceback."""
        plain = copy.copy(record)
        if isinstance(record.args, tuple):
            plain.args = tuple(_printable(one) for one in record.args)
        plain.msg, plain.args = message_text(plain.getMessage(), keep="\n" if record.args else ""), None
        return printable(super().format(plain), keep="\n\t")

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - as in logging
        """Format a traceback, indented, so that no line of it looks like one of the log."""
        text = message_text(super().formatException(ei), keep="\n\t")
        return self._indent + text.replace("\n", f"\n{self._indent}")


def _printable(argument: object) -> object:
    """Return an argument of a log message on one line, or on one line per problem."""
    if isinstance(argument, ConfigurationError):
        return str(argument)
    return message_text(str(argument)) if isinstance(argument, str | os.PathLike | BaseException) else argument


class _JournalFormatter(_PrintableFormatter):
    """Formats without a time, which journald adds. Each line of a traceback gets the priority."""

    _indent = ""  # the priority marks each line

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())
