"""The outbox over real SQLite files: numbering, bounds, and what is left of a broken one."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from event_samples import FakeClock, sample

from edge_classifierd.errors import OutboxError
from edge_classifierd.events import buffer
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import decode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.events.schema import Event


def trouble(outbox: Outbox) -> str:
    assert outbox.durable == (outbox.trouble is None)
    return outbox.trouble or ""


class Box:
    """Opens the same outbox again and again; `crash` leaves it without the courtesy of `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self._open: list[Outbox] = []

    def __call__(self, max_events: int = 100_000, max_age_s: float = 14 * 86400.0) -> Outbox:
        outbox = Outbox(
            self.path, topic=lambda event: f"b/{event.pipeline}/event", clock=self.clock, max_events=max_events,
            max_age_s=max_age_s,
        )  # fmt: skip
        self._open.append(outbox)
        return outbox

    def crash(self, outbox: Outbox) -> None:
        """What a killed process leaves: files as they are, locks gone."""
        copies = {one.name: one.read_bytes() for one in self.path.parent.iterdir() if one.is_file()}
        outbox.close()
        for one in self.path.parent.iterdir():
            one.unlink()
        for name, content in copies.items():
            self.path.with_name(name).write_bytes(content)

    def close(self) -> None:
        for outbox in self._open:
            outbox.close()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "state" / "outbox.sqlite3")
    yield made
    made.close()


def fill(outbox: Outbox, count: int) -> list[int]:
    return [event.seq for _ in range(count) for event in outbox.append([sample()])]


def seqs(outbox: Outbox) -> list[int]:
    return [row.seq for row in outbox.pending(0, 1_000_000)]


def test_events_wait_in_order_with_their_topic_and_leave_only_when_acknowledged(box: Box) -> None:
    outbox = box()
    events = outbox.append([sample("dog"), sample("cat", active_s=3.0)])
    rows = outbox.pending(0, 10)
    assert [row.seq for row in rows] == [1, 2]
    assert rows[0].topic == "b/driveway/event"
    assert [decode(row.payload).event_id for row in rows] == [event.event_id for event in events]
    assert [row.payload for row in outbox.pending(0, 10)] == [row.payload for row in rows]
    outbox.acknowledge([1])
    assert seqs(outbox) == [2]
    assert outbox.depth == 1
    assert outbox.pending(2, 10) == []


def test_the_number_goes_on_after_a_restart_even_when_the_outbox_was_emptied(box: Box) -> None:
    outbox = box()
    outbox.acknowledge(fill(outbox, 3))
    outbox.close()
    outbox = box()
    assert outbox.depth == 0
    assert fill(outbox, 1) == [4]


def test_the_number_goes_on_without_a_gap_after_a_crash(box: Box) -> None:
    outbox = box()
    fill(outbox, 3)
    box.crash(outbox)
    outbox = box()
    assert seqs(outbox) == [1, 2, 3]
    assert fill(outbox, 1) == [4]


def test_numbers_are_not_given_again_when_the_database_is_gone(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    for suffix in ("", "-wal", "-shm"):
        box.path.with_name(box.path.name + suffix).unlink(missing_ok=True)
    first = fill(box(), 1)[0]
    assert 3 < first <= 2 * 1000 + 3
    assert "gone" in caplog.text


def test_numbers_are_not_given_again_when_only_the_reserved_block_is_known(box: Box) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    box.path.unlink()
    box.path.with_name(box.path.name + ".last").write_bytes(b"garbage")
    assert fill(box(), 1)[0] > 3


def test_a_truncated_log_loses_its_events_but_gives_no_number_twice(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    outbox = box()
    fill(outbox, 5)
    wal = box.path.with_name(box.path.name + "-wal")
    before = wal.stat().st_size
    fill(outbox, 20)
    box.crash(outbox)
    os.truncate(wal, before)
    outbox = box()
    assert seqs(outbox) == [1, 2, 3, 4, 5]
    assert fill(outbox, 1)[0] > 25
    assert "the newest may be lost" in caplog.text


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\0" + os.urandom(8192)])
def test_garbage_is_set_aside_and_a_new_database_started(
    box: Box, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    box.path.write_bytes(content)
    outbox = box()
    assert outbox.durable
    assert fill(outbox, 1)[0] > 3
    aside = [one for one in box.path.parent.iterdir() if ".corrupt-" in one.name]
    assert len(aside) == 1
    assert aside[0].read_bytes() == content
    assert [record.levelno for record in caplog.records if "set aside" in record.message] == [logging.ERROR]


def test_only_the_newest_two_broken_databases_are_kept(box: Box) -> None:
    for _ in range(4):
        box.path.parent.mkdir(exist_ok=True)
        box.path.write_bytes(b"garbage" * 100)
        box.clock.pass_s(1)
        box().close()
    assert len([one for one in box.path.parent.iterdir() if ".corrupt-" in one.name]) == 2


@pytest.mark.parametrize(
    "change", ["PRAGMA user_version = 2", "PRAGMA application_id = 7", "DROP TABLE events", "DELETE FROM ledger"]
)
def test_a_database_of_another_kind_is_set_aside(box: Box, change: str) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    connection = sqlite3.connect(box.path)
    connection.execute(change)
    connection.commit()
    connection.close()
    outbox = box()
    assert fill(outbox, 1)[0] > 3
    assert any(".corrupt-" in one.name for one in box.path.parent.iterdir())


def break_a_page(box: Box) -> None:
    """Change the 400th event's number behind the database's back."""
    content = bytearray(box.path.read_bytes())
    place = content.index(b'"seq":400,')
    content[place : place + 10] = b'"seq":444,'
    box.path.write_bytes(content)


def test_a_broken_page_costs_only_what_was_on_it(box: Box) -> None:
    outbox = box()
    fill(outbox, 500)
    outbox.close()
    break_a_page(box)
    outbox = box()
    assert seqs(outbox) == [one for one in range(1, 501) if one != 400]
    assert outbox.lost == {"corrupt": 1}
    assert outbox.durable


def test_garbage_under_an_open_database_is_no_end(box: Box) -> None:
    outbox = box()
    fill(outbox, 2000)
    outbox.acknowledge(seqs(outbox)[:1000])
    with sqlite3.connect(box.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    box.path.write_bytes(os.urandom(box.path.stat().st_size))
    given = fill(outbox, 50)
    found = seqs(outbox)
    assert given == list(range(2001, 2051))
    assert found[-50:] == given
    assert outbox.durable
    assert outbox.lost["corrupt"] == 1050 - len(found)
    outbox.close()
    assert fill(box(), 1) == [2051]


def test_the_oldest_go_first_and_it_is_said_once(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    outbox = box(max_events=10)
    fill(outbox, 25)
    assert seqs(outbox) == list(range(16, 26))
    assert outbox.lost == {"max_events": 15}
    assert outbox.depth == 10
    outbox.acknowledge([16])
    fill(outbox, 2)
    assert caplog.text.count("max_events") == 1, "a broker that keeps up for a moment ends no episode"
    outbox.acknowledge(range(16, 28))
    fill(outbox, 1)
    fill(outbox, 15)
    assert caplog.text.count("outbox.max_events are waiting") == 2, "a second episode is said again"
    outbox.close()
    assert box(max_events=10).lost == {"max_events": 22}, "the count survives"


def test_more_events_at_once_than_the_bound_leave_the_newest(box: Box) -> None:
    outbox = box(max_events=3)
    outbox.append([sample() for _ in range(8)])
    assert seqs(outbox) == [6, 7, 8]


def test_old_events_expire_by_running_time(box: Box) -> None:
    outbox = box(max_age_s=100)
    fill(outbox, 2)
    box.clock.pass_s(70)
    fill(outbox, 1)
    outbox.maintain()
    assert outbox.oldest_age_s == pytest.approx(70)
    box.clock.pass_s(61)
    outbox.maintain()
    assert seqs(outbox) == [3]
    assert outbox.lost == {"max_age": 2}


@pytest.mark.parametrize("days", [-9999, 9999])
def test_a_jump_of_the_wall_clock_expires_nothing(box: Box, days: int) -> None:
    outbox = box(max_age_s=100)
    fill(outbox, 2)
    box.clock.wall += timedelta(days=days)
    box.clock.now_s += 61
    outbox.maintain()
    assert seqs(outbox) == [1, 2]
    assert outbox.oldest_age_s == pytest.approx(61)


def test_age_goes_on_over_restarts_though_the_monotonic_clock_begins_anew(box: Box) -> None:
    outbox = box(max_age_s=100)
    fill(outbox, 1)
    box.clock.pass_s(80)
    outbox.close()
    box.clock.now_s = 3.0
    outbox = box(max_age_s=100)
    assert outbox.oldest_age_s == pytest.approx(80)
    box.clock.pass_s(61)
    outbox.maintain()
    assert seqs(outbox) == []


def test_threads_share_commits_and_every_event_has_its_own_number(box: Box) -> None:
    outbox = box()
    made: list[Event] = []

    def produce() -> None:
        for _ in range(100):
            made.extend(outbox.append([sample(), sample()]))

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.seq for event in made) == list(range(1, 801))
    assert len({event.event_id for event in made}) == 800
    waiting = {decode(row.payload).seq: decode(row.payload).event_id for row in outbox.pending(0, 1000)}
    assert waiting == {event.seq: event.event_id for event in made}


def test_event_ids_are_in_the_order_of_the_numbers(box: Box) -> None:
    outbox = box()
    fill(outbox, 50)
    ids = [decode(row.payload).event_id for row in outbox.pending(0, 100)]
    assert ids == sorted(ids)


def test_a_second_daemon_is_refused_in_one_sentence(box: Box) -> None:
    box()
    with pytest.raises(OutboxError, match="another process has this outbox open"):
        box()


def test_an_event_after_the_close_is_refused(box: Box) -> None:
    outbox = box()
    outbox.close()
    with pytest.raises(OutboxError, match="closed"):
        outbox.append([sample()])


def test_appending_wakes_the_publisher(box: Box) -> None:
    outbox = box()
    rung: list[int] = []
    outbox.on_append(lambda: rung.append(outbox.last_seq))
    fill(outbox, 2)
    assert rung == [1, 2]


@pytest.fixture
def blocked(box: Box) -> Box:
    """The directory cannot be made: a file stands in its place, which works for root too."""
    box.path.parent.write_text("in the way")
    return box


def test_without_a_directory_events_go_on_from_memory_and_return_to_the_disk_by_themselves(
    blocked: Box, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = blocked()
    given = fill(outbox, 20)
    assert "20 of at most 5000" in trouble(outbox)
    assert seqs(outbox) == given
    assert [row.seq for row in outbox.pending(given[4], 10)] == given[5:15]
    outbox.acknowledge(given[:5])
    blocked.path.parent.unlink()
    blocked.clock.pass_s(1)
    outbox.maintain()
    assert trouble(outbox), "the disk is tried every few seconds only"
    blocked.clock.pass_s(5)
    outbox.maintain()
    assert trouble(outbox) == ""
    given += fill(outbox, 1)
    assert seqs(outbox) == given[5:]
    assert outbox.depth == 16
    blocked.crash(outbox)
    assert seqs(blocked()) == given[5:]
    assert caplog.text.count("kept in memory only") == 1
    assert caplog.text.count("takes events again") == 1


def test_memory_is_bounded_and_what_it_drops_is_counted(blocked: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "MEMORY_EVENTS", 10)
    outbox = blocked()
    given = fill(outbox, 25)
    assert seqs(outbox) == given[15:]
    assert outbox.lost == {"memory_full": 15}


def test_two_starts_without_a_writable_disk_give_no_number_twice(blocked: Box) -> None:
    first = blocked()
    given = fill(first, 30)
    first.close()
    blocked.clock.pass_s(120)
    assert fill(blocked(), 1)[0] > given[-1]


def test_the_newest_broken_database_is_kept_though_the_clock_was_set_back(box: Box) -> None:
    for stamp in ("20270101T000000.000000Z", "20270102T000000.000000Z"):
        box.path.parent.mkdir(exist_ok=True)
        box.path.with_name(f"{box.path.name}.corrupt-{stamp}").write_bytes(b"an older one")
    outbox = box()
    fill(outbox, 500)
    outbox.close()
    break_a_page(box)
    outbox = box()
    assert len(seqs(outbox)) == 499, "the clock says 2026: what was set aside just now looks oldest"
    aside = sorted(one.name for one in box.path.parent.iterdir() if ".corrupt-" in one.name)
    assert len(aside) == 2
    assert ".corrupt-2026" in aside[0]


def test_how_many_wait_is_still_known_after_the_close(box: Box) -> None:
    outbox = box()
    outbox.acknowledge(fill(outbox, 5)[:2])
    outbox.close()
    assert outbox.depth == 3


def test_an_acknowledgement_of_what_memory_has_dropped_counts_nothing_twice(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer, "MEMORY_EVENTS", 10)
    outbox = box()
    on_disk = fill(outbox, 3)
    other = sqlite3.connect(box.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # another process holds the database
    try:
        given = fill(outbox, 25)
        outbox.acknowledge(given[:17])
        assert (outbox.depth, seqs(outbox)) == (11, on_disk + given[17:])
    finally:
        other.close()
    box.clock.pass_s(6)
    outbox.maintain()
    assert (outbox.depth, seqs(outbox)) == (11, on_disk + given[17:])
    outbox.close()
    assert outbox.lost == {"memory_full": 15}


def test_old_events_that_expire_one_by_one_are_one_episode(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outbox = box(max_age_s=3000)
    for _ in range(150):
        fill(outbox, 1)
        for _ in range(2):
            box.clock.pass_s(61)
            outbox.maintain()
    assert outbox.lost["max_age"] > 100
    assert caplog.text.count("outbox.max_age") == 1
    assert "no more events are lost" not in caplog.text
    outbox.acknowledge(seqs(outbox))
    box.clock.pass_s(61)
    outbox.maintain()
    assert caplog.text.count("no more events are lost") == 1


def test_what_an_earlier_start_left_is_forgotten_when_acknowledged(box: Box) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    outbox = box()
    outbox.acknowledge([1, 2])
    assert (outbox.depth, seqs(outbox)) == (1, [3])
    outbox.close()
    assert seqs(box()) == [3]


def test_the_age_of_what_was_in_memory_stays_true_when_the_database_turns_up_later(box: Box) -> None:
    outbox = box()
    fill(outbox, 1)
    box.clock.pass_s(1000)
    outbox.close()
    away = box.path.rename(box.path.with_name("away"))
    box.path.mkdir()
    outbox = box()
    in_memory = fill(outbox, 1)
    assert trouble(outbox)
    box.path.rmdir()
    away.rename(box.path)
    box.clock.pass_s(6)
    outbox.maintain()
    assert seqs(outbox) == [1, *in_memory]
    assert outbox.oldest_age_s == pytest.approx(1000)
    outbox.acknowledge([1])
    assert outbox.oldest_age_s == pytest.approx(6)


def test_the_age_outlives_a_kill_to_ten_minutes(box: Box) -> None:
    outbox = box()
    fill(outbox, 1)
    for _ in range(20):
        box.clock.pass_s(60)
        outbox.maintain()
    box.crash(outbox)
    assert box().oldest_age_s == pytest.approx(900, abs=300)


def test_what_no_disk_takes_until_the_close_is_said_to_be_lost(blocked: Box, caplog: pytest.LogCaptureFixture) -> None:
    outbox = blocked()
    fill(outbox, 4)
    outbox.close()
    assert "lost: 4 events that could not be saved" in caplog.text
    assert outbox.depth == 0


@pytest.mark.parametrize("record", [b"00000000000000099999 00000000\n", b"00000000000000099999", b"9" * 32, b""])
def test_a_damaged_counter_is_not_believed(box: Box, record: bytes) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    for suffix in (".last", ".seq"):
        box.path.with_name(box.path.name + suffix).write_bytes(record)
    assert fill(box(), 1) == [4]
