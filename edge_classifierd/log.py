"""Logging to stderr: plain lines, with the priority prefix of sd-daemon(3) when stderr is the journal."""

from __future__ import annotations

import logging
import os
import sys

# sd-daemon(3): `<N>` at the start of a line sets its syslog priority.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

LEVELS = ("debug", "info", "warning", "error")


def configure(level: str = "info") -> None:
    """Send every record at or above `level` to stderr; one of `LEVELS`."""
    handler = logging.StreamHandler(sys.stderr)
    terminal = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
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


class _JournalFormatter(logging.Formatter):
    """Formats without a time, which journald adds. Each line of a traceback gets the priority."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())
