"""Logging to stderr: plain lines, with the priority prefix of sd-daemon(3) when stderr is the journal."""

from __future__ import annotations

import copy
import logging
import os
import sys
from typing import Any

from edge_classifierd.errors import ConfigurationError, message_text, printable

# sd-daemon(3): `<N>` at the start of a line sets its syslog priority.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

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
