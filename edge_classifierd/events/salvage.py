"""Damaged databases: set aside for a look by hand, their intact rows moved to a new one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

from edge_classifierd.errors import OutboxError
from edge_classifierd.events.tables import Ledger, Stored, checked_row
from edge_classifierd.state_file import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.events.database import EventDatabase

_SUFFIXES = ("", "-wal", "-shm")
_KEPT = 2
_PAGE = 500
_WAITING = "SELECT seq, topic, payload, made_s, crc FROM events ORDER BY seq"
_SENT = "SELECT seq, '', payload, 0.0, crc FROM sent ORDER BY seq"


def salvage_rows(damaged: Path, store: EventDatabase, ledger: Ledger) -> OutboxError | None:
    """Copy the intact rows of a damaged database to a new one.

    Args:
        damaged: the database that was set aside.
        store: the new one.
        ledger: the numbers as far as they are known; those of the rows are added.

    Returns:
        The error when the disk did not take all of them.
    """
    try:
        for page in _intact_rows(damaged, _WAITING):
            last_seq = max(ledger.last_seq, *(_seq(row.payload) for row in page))
            ledger = Ledger(last_seq, max(ledger.elapsed_s, page[-1].made_s), ledger.lost)
            store.insert(page, ledger, state={})
            store.last_position = max(last_seq, page[-1].position)
        for page in _intact_rows(damaged, _SENT):
            store.acknowledge((), ledger, from_memory=page)
    except OutboxError as error:
        return error
    return None


def set_aside(path: Path, stamp: str) -> Path:
    """Rename a database that cannot be used and remove all but the newest such; return the new path. Raises OSError."""
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    sync_directory(path.parent)
    others = [one for one in path.parent.glob(f"{path.name}.corrupt-*") if not one.name.endswith(("-wal", "-shm"))]
    older = sorted(one for one in others if one != aside)  # by a clock that may have been set back since
    for one in older[: 1 - _KEPT]:
        for suffix in _SUFFIXES:
            one.with_name(one.name + suffix).unlink(missing_ok=True)
    return aside


def _intact_rows(path: Path, query: str) -> Iterator[list[Stored]]:
    """Yield the intact rows of a damaged database in pages, in order, until the damage stops the reading."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA cache_size = -512")
        cursor = connection.execute(query)
        while True:
            page: list[Stored] = []
            try:
                for row in cursor:
                    stored = checked_row(row)
                    if stored is not None:
                        page.append(stored)
                    if len(page) == _PAGE:
                        break
            finally:
                if page:
                    yield page
            if len(page) < _PAGE:
                return


def _seq(payload: bytes) -> int:
    """Return the number in an event's payload, 0 when it has none."""
    with contextlib.suppress(ValueError, TypeError, LookupError):
        return int(json.loads(payload)["seq"] or 0)
    return 0
