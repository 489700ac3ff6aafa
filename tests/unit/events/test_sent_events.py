"""Events stay in the database after their acknowledgement, bounded, and are read from there."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from event_samples import sample
from outbox_box import Box, fill, hold, waiting

from edge_classifierd.errors import OutboxError
from edge_classifierd.events.history import EventFilter, oldest_event_id, read_events
from edge_classifierd.events.schema import decode

if TYPE_CHECKING:
    from pathlib import Path


def stored(path: Path, wanted: EventFilter | None = None) -> list[tuple[int | None, bool]]:
    """Return number and whether it waits, newest first."""
    return [(past.event.seq, past.waiting) for past in read_events(path, wanted, limit=1000)]


def sent(path: Path) -> list[int | None]:
    return [seq for seq, waits in stored(path) if not waits]


def test_an_acknowledged_event_stays_beside_those_that_wait(box: Box) -> None:
    outbox = box()
    (first, _, _) = outbox.append([sample("dog"), sample("cat"), sample("dog")])
    payload = outbox.pending(0, 1)[0].payload
    outbox.acknowledge([1])
    assert stored(box.path) == [(3, True), (2, True), (1, False)]
    assert outbox.depth == 2
    oldest = read_events(box.path, limit=3)[-1]
    assert (oldest.event, oldest.payload) == (decode(payload), payload)
    assert oldest_event_id(box.path) == first.event_id
    outbox.acknowledge([1, 2])
    assert sent(box.path) == [2, 1], "a repeated acknowledgement adds nothing"


@pytest.mark.parametrize("batch", [1, 3, 8, 20])
def test_only_the_newest_are_kept(box: Box, batch: int) -> None:
    outbox = box(keep_sent=5)
    numbers = fill(outbox, 20)
    for start in range(0, 20, batch):
        outbox.acknowledge(numbers[start : start + batch])
    assert sent(box.path) == [20, 19, 18, 17, 16]
    outbox.close()
    outbox = box(keep_sent=5)
    outbox.acknowledge(fill(outbox, 1))
    assert sent(box.path) == [21, 20, 19, 18, 17], "the bound holds over a restart"


def test_fewer_or_none_are_kept_after_the_configuration_has_changed(box: Box) -> None:
    outbox = box()
    outbox.acknowledge(fill(outbox, 4))
    outbox.close()
    outbox = box(keep_sent=2)
    assert sent(box.path) == [4, 3]
    outbox.close()
    outbox = box(keep_sent=0)
    assert stored(box.path) == []
    outbox.acknowledge(fill(outbox, 1))
    assert stored(box.path) == []


def test_events_that_were_dropped_are_not_kept(box: Box) -> None:
    outbox = box(max_events=3, max_age_s=100)
    fill(outbox, 5)
    box.clock.pass_s(161)
    outbox.maintain()
    assert stored(box.path) == []
    assert outbox.lost == {"max_events": 2, "max_age": 3}


def test_events_survive_a_crash_after_their_acknowledgement(box: Box) -> None:
    outbox = box()
    outbox.acknowledge(fill(outbox, 3)[:2])
    box.crash(outbox)
    assert waiting(box()) == [3]
    assert stored(box.path) == [(3, True), (2, False), (1, False)]


def test_events_acknowledged_while_the_disk_fails_are_kept_once_it_works(box: Box) -> None:
    outbox = box()
    on_disk = fill(outbox, 2)
    other = sqlite3.connect(box.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # another process holds the database
    try:
        held = hold(outbox, 3)
        outbox.acknowledge([*on_disk, *held[:2]])
    finally:
        other.close()
    assert len(stored(box.path)) == 2
    box.clock.pass_s(6)
    outbox.maintain()
    assert stored(box.path) == [(None, True), (None, False), (None, False), (2, False), (1, False)]
    assert waiting(outbox) == held[2:]


def test_a_database_of_an_earlier_version_is_extended(box: Box) -> None:
    outbox = box()
    fill(outbox, 2)
    outbox.close()
    with sqlite3.connect(box.path) as connection:
        connection.execute("DROP TABLE sent")
    connection.close()
    assert stored(box.path) == [(2, True), (1, True)], "it can be read before the daemon has extended it"
    outbox = box()
    outbox.acknowledge([1])
    assert stored(box.path) == [(2, True), (1, False)]


def test_sent_events_are_saved_from_a_damaged_database(box: Box) -> None:
    outbox = box()
    outbox.acknowledge(fill(outbox, 5)[:4])
    outbox.append((), {"watches/a": "on"})
    outbox.close()
    with sqlite3.connect(box.path) as connection:
        connection.execute("UPDATE sent SET crc = crc + 1 WHERE seq = 2")
        connection.execute("UPDATE state SET crc = crc + 1")
    connection.close()
    assert [seq for seq, _ in stored(box.path)] == [5, 4, 3, 1], "a damaged row is left out"
    outbox = box(keep_sent=2)
    assert stored(box.path) == [(5, True), (4, False), (3, False)]
    assert fill(outbox, 1) == [1002], "a number of the reserved block is not given again"


def test_events_are_filtered_and_paged(box: Box) -> None:
    outbox = box()
    events = [outbox.append([sample("dog" if number % 2 else "cat")])[0] for number in range(6)]
    assert stored(box.path, EventFilter(watch="cat")) == [(5, True), (3, True), (1, True)]
    assert stored(box.path, EventFilter(pipeline="garden")) == []
    assert stored(box.path, EventFilter(before=events[2].event_id)) == [(2, True), (1, True)]
    moment = datetime(2026, 11, 21, 22, 26, 11, 123000, UTC)
    assert len(stored(box.path, EventFilter(since=moment))) == 6
    assert stored(box.path, EventFilter(since=moment + timedelta(seconds=1))) == []
    assert len(read_events(box.path, limit=4)) == 4
    assert len(read_events(box.path, EventFilter(watch="cat"), limit=6, most_read=3)) == 1


def test_reading_leaves_no_files_and_needs_no_daemon(box: Box) -> None:
    outbox = box()
    fill(outbox, 1)
    outbox.close()
    before = sorted(one.name for one in box.path.parent.iterdir())
    assert stored(box.path) == [(1, True)]
    assert sorted(one.name for one in box.path.parent.iterdir()) == before


def test_what_cannot_be_read_is_named_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutboxError, match=r"missing.sqlite3: there is no outbox; has the daemon run here"):
        read_events(tmp_path / "missing.sqlite3", limit=1)
    (tmp_path / "text").write_text("no database at all, but long enough to be one " * 100)
    with pytest.raises(OutboxError, match=r"text: cannot be read \(file is not a database\)"):
        read_events(tmp_path / "text", limit=1)
    sqlite3.connect(tmp_path / "empty").close()
    (tmp_path / "empty").touch()
    with pytest.raises(OutboxError, match=r"empty: cannot be read \(not the database of an outbox\)"):
        read_events(tmp_path / "empty", limit=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", [True, False])
def test_another_user_is_told_to_use_sudo(box: Box, closed: bool) -> None:
    outbox = box()
    fill(outbox, 1)
    if closed:
        outbox.close()
    for file in box.path.parent.iterdir():
        file.chmod(0o600)
    for folder in box.path.parents[:-2]:
        folder.chmod(0o755)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            text = str(stored(box.path))
        except OutboxError as error:
            text = str(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert os.read(reader, 1000).decode().endswith("permission denied; run this as root (`sudo`)")
    os.close(reader)
