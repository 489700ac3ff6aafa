"""The state stored with the events, identifiers over restarts, and the use of the database by an earlier version."""

from __future__ import annotations

import os
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from event_samples import sample
from outbox_box import Box, fill, hold, trouble, waiting

from edge_classifierd.events.buffer import EventBuffer
from edge_classifierd.events.database import EventDatabase, StoreUnavailableError
from edge_classifierd.events.schema import decode

if TYPE_CHECKING:
    import pytest


def test_state_is_stored_with_the_events_and_survives_a_crash(box: Box) -> None:
    outbox = box()
    outbox.append([sample()], {"watches/a": "on", "watches/b": "x"})
    outbox.append((), {"watches/b": None, "commands/ä": "grün"})
    box.crash(outbox)
    outbox = box()
    assert outbox.intact
    assert outbox.state("watches/") == {"a": "on"}
    assert outbox.state("commands/") == {"ä": "grün"}


def test_a_changed_value_of_the_state_is_damage_and_the_events_are_saved(box: Box) -> None:
    outbox = box()
    outbox.append([sample()], {"watches/a": "on"})
    outbox.close()
    with sqlite3.connect(box.path) as connection:
        connection.execute("UPDATE state SET value = 'off' WHERE name = 'watches/a'")
    connection.close()
    outbox = box()
    assert (outbox.intact, outbox.state("watches/")) == (False, {})
    assert waiting(outbox) == [1]


def test_a_database_that_is_damaged_while_open_keeps_the_state(box: Box) -> None:
    outbox = box()
    outbox.append([sample()], {"watches/a": "on"})
    with sqlite3.connect(box.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    box.path.write_bytes(os.urandom(box.path.stat().st_size))
    assert fill(outbox, 1) == [2]
    outbox.close()
    assert box().state("watches/") == {"a": "on"}


def test_identifiers_grow_with_the_numbers_though_the_clock_is_set_back_over_a_restart(box: Box) -> None:
    identifiers: list[str] = []
    for loses in ("nothing", "nothing", "database", "counter"):
        outbox = box()
        identifiers += [event.event_id for event in outbox.append([sample(), sample()])]
        box.crash(outbox)
        if loses == "database":
            box.path.write_bytes(b"garbage" * 1000)
        elif loses == "counter":
            box.path.with_name(box.path.name + ".last").unlink()
        box.clock.wall -= timedelta(days=365)
    identifiers += [event.event_id for event in box().append([sample()])]
    assert identifiers == sorted(identifiers)


def test_rows_of_a_failed_transaction_are_not_delivered_as_other_events(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit can fail although its pages reached the disk; then the event is held in memory and delivered once."""
    outbox = box()
    fill(outbox, 1)
    insert = EventDatabase.insert

    def insert_and_fail(self: EventDatabase, *arguments: Any, **options: Any) -> None:
        insert(self, *arguments, **options)
        raise StoreUnavailableError("disk I/O error")

    monkeypatch.setattr(EventDatabase, "insert", insert_and_fail)
    (failed,) = outbox.append([sample()])
    monkeypatch.undo()
    assert (failed.seq, failed.durable) == (None, False)
    monkeypatch.setattr(EventBuffer, "_takes_memory", lambda _self: False)  # the connection is of no use any more
    outbox.acknowledge([2])
    box.clock.pass_s(6)
    outbox.maintain()
    monkeypatch.undo()
    box.clock.pass_s(6)
    outbox.maintain()
    assert trouble(outbox) == ""
    assert fill(outbox, 1) == [2]
    assert [decode(row.payload).seq for row in outbox.pending(0, 10)] == [1, 2]


def test_an_earlier_version_can_read_the_database_and_gives_no_number_twice(box: Box) -> None:
    """The queries are those of the version before the table `state`; the installer may return to it."""
    outbox = box()
    fill(outbox, 3)
    with sqlite3.connect(box.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")  # the disk takes nothing
        hold(outbox, 2)
        other.execute("COMMIT")
    other.close()
    box.clock.pass_s(6)
    outbox.append([sample()], {"watches/a": "on"})
    outbox.close()
    connection = sqlite3.connect(box.path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("PRAGMA application_id").fetchone() == (0x45434431,)
    values = dict(connection.execute("SELECT name, value FROM ledger WHERE name != 'probe'").fetchall())
    depth, newest, _ = connection.execute("SELECT count(*), max(seq), max(made_s) FROM events").fetchone()
    rows = connection.execute(
        "SELECT seq, topic, payload, made_s, crc FROM events WHERE seq > 0 ORDER BY seq"
    ).fetchall()
    connection.execute("INSERT OR IGNORE INTO events (seq, made_s, topic, payload, crc) VALUES (7, 0.0, '', x'', 0)")
    connection.execute("INSERT OR REPLACE INTO ledger VALUES ('last_seq', 7.0)")
    connection.commit()
    connection.close()
    assert (depth, newest, values["last_seq"]) == (6, 6, 4.0)
    assert [decode(payload).seq for _, _, payload, _, _ in rows] == [1, 2, 3, None, None, 4]
    assert max(newest, values["last_seq"]) >= 4, "where the earlier version goes on"
    last = box.path.with_name(box.path.name + ".last").read_bytes()[:30]
    assert last.startswith(b"%020d " % 4)
    assert fill(box(), 1) == [8]
