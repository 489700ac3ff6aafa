"""The outbox while the disk does not take events."""

from __future__ import annotations

import sqlite3

import pytest
from event_samples import sample
from outbox_box import Box, fill, hold, trouble, waiting

from edge_classifierd.events import memory
from edge_classifierd.events.schema import decode


def test_without_a_directory_events_are_held_in_memory_until_the_disk_takes_them(
    blocked: Box, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = blocked()
    given = hold(outbox, 20)
    assert "20 of at most 5000" in trouble(outbox)
    assert waiting(outbox) == given
    assert [row.position for row in outbox.pending(given[4], 10)] == given[5:15]
    outbox.acknowledge(given[:5])
    blocked.path.parent.unlink()
    blocked.clock.pass_s(1)
    outbox.maintain()
    assert trouble(outbox), "the disk is tried every few seconds only"
    blocked.clock.pass_s(5)
    outbox.maintain()
    assert trouble(outbox) == ""
    assert [event.seq for event in outbox.append([sample()])] == [1], "no number was given that could not be stored"
    given.append(outbox.last_position)
    assert waiting(outbox) == given[5:]
    assert outbox.depth == 16
    blocked.crash(outbox)
    assert waiting(blocked()) == given[5:]
    assert caplog.text.count("held in memory only") == 1
    assert caplog.text.count("takes events again") == 1


def test_memory_is_bounded_and_dropped_events_are_counted(blocked: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MEMORY_EVENTS", 10)
    outbox = blocked()
    given = hold(outbox, 25)
    assert waiting(outbox) == given[15:]
    assert outbox.lost == {"memory_full": 15}


def test_starts_without_a_writable_disk_give_no_numbers_and_unique_identifiers(blocked: Box) -> None:
    identifiers = []
    for _ in range(3):
        outbox = blocked()
        hold(outbox, 10)
        identifiers += [decode(row.payload).event_id for row in outbox.pending(0, 100)]
        outbox.close()
        blocked.clock.pass_s(1)
    assert identifiers == sorted(set(identifiers))
    assert len(identifiers) == 30


def test_an_acknowledgement_of_dropped_events_changes_no_count(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MEMORY_EVENTS", 10)
    outbox = box()
    on_disk = fill(outbox, 3)
    other = sqlite3.connect(box.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # another process holds the database
    try:
        given = hold(outbox, 25)
        outbox.acknowledge(given[:17])
        assert (outbox.depth, waiting(outbox)) == (11, on_disk + given[17:])
    finally:
        other.close()
    box.clock.pass_s(6)
    outbox.maintain()
    assert (outbox.depth, waiting(outbox)) == (11, on_disk + given[17:])
    outbox.close()
    assert outbox.lost == {"memory_full": 15}


def test_the_age_of_events_in_memory_stays_true_when_the_database_is_found_later(box: Box) -> None:
    outbox = box()
    fill(outbox, 1)
    box.clock.pass_s(1000)
    outbox.close()
    away = box.path.rename(box.path.with_name("away"))
    box.path.mkdir()
    outbox = box()
    in_memory = hold(outbox, 1)
    assert trouble(outbox)
    box.path.rmdir()
    away.rename(box.path)
    box.clock.pass_s(6)
    outbox.maintain()
    assert waiting(outbox) == [1, *in_memory]
    assert outbox.oldest_age_s == pytest.approx(1000)
    outbox.acknowledge([1])
    assert outbox.oldest_age_s == pytest.approx(6)


def test_events_that_no_disk_takes_until_the_close_are_logged_as_lost(
    blocked: Box, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = blocked()
    hold(outbox, 4)
    outbox.close()
    assert "lost: 4 events that could not be saved" in caplog.text
    assert outbox.depth == 0


def test_events_of_two_starts_without_the_database_wait_in_it_in_order(box: Box) -> None:
    fill(box(), 2)
    box.close()
    expected = [1, 2]
    for _ in range(2):
        away = box.path.rename(box.path.with_name("away"))
        box.path.mkdir()
        box.clock.pass_s(60)
        outbox = box()
        expected += hold(outbox, 3)
        box.path.rmdir()
        away.rename(box.path)
        box.clock.pass_s(6)
        outbox.maintain()
        assert trouble(outbox) == ""
        outbox.close()
    assert waiting(box()) == expected == sorted(expected)
