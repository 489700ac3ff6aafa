"""The outbox over real SQLite files: numbers, order, bounds and age."""

from __future__ import annotations

import logging
import sqlite3
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from event_samples import sample
from outbox_box import Box, fill, waiting

from edge_classifierd.errors import OutboxError
from edge_classifierd.events.schema import decode

if TYPE_CHECKING:
    from edge_classifierd.events.schema import Event


def test_events_wait_in_order_with_their_topic_and_leave_only_when_acknowledged(box: Box) -> None:
    outbox = box()
    events = outbox.append([sample("dog"), sample("cat", active_s=3.0)])
    rows = outbox.pending(0, 10)
    assert [row.position for row in rows] == [1, 2]
    assert rows[0].topic == "b/driveway/event"
    assert [decode(row.payload).event_id for row in rows] == [event.event_id for event in events]
    assert [row.payload for row in outbox.pending(0, 10)] == [row.payload for row in rows]
    outbox.acknowledge([1])
    assert waiting(outbox) == [2]
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
    assert waiting(outbox) == [1, 2, 3]
    assert fill(outbox, 1) == [4]


def test_the_oldest_are_dropped_first_and_it_is_logged_once(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    outbox = box(max_events=10)
    fill(outbox, 25)
    assert waiting(outbox) == list(range(16, 26))
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
    assert waiting(outbox) == [6, 7, 8]


def test_old_events_expire_by_running_time(box: Box) -> None:
    outbox = box(max_age_s=100)
    fill(outbox, 2)
    box.clock.pass_s(70)
    fill(outbox, 1)
    outbox.maintain()
    assert outbox.oldest_age_s == pytest.approx(70)
    box.clock.pass_s(61)
    outbox.maintain()
    assert waiting(outbox) == [3]
    assert outbox.lost == {"max_age": 2}


@pytest.mark.parametrize("days", [-9999, 9999])
def test_a_step_of_the_wall_clock_expires_nothing(box: Box, days: int) -> None:
    outbox = box(max_age_s=100)
    fill(outbox, 2)
    box.clock.wall += timedelta(days=days)
    box.clock.now_s += 61
    outbox.maintain()
    assert waiting(outbox) == [1, 2]
    assert outbox.oldest_age_s == pytest.approx(61)


def test_age_continues_over_restarts_although_the_monotonic_clock_restarts(box: Box) -> None:
    outbox = box(max_age_s=100)
    fill(outbox, 1)
    box.clock.pass_s(80)
    outbox.close()
    box.clock.now_s = 3.0
    outbox = box(max_age_s=100)
    assert outbox.oldest_age_s == pytest.approx(80)
    box.clock.pass_s(61)
    outbox.maintain()
    assert waiting(outbox) == []


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
    assert sorted(event.seq or 0 for event in made) == list(range(1, 801))
    assert len({event.event_id for event in made}) == 800
    stored = {decode(row.payload).seq: decode(row.payload).event_id for row in outbox.pending(0, 1000)}
    assert stored == {event.seq: event.event_id for event in made}


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
    outbox.on_append(lambda: rung.append(outbox.last_position))
    fill(outbox, 2)
    assert rung == [1, 2]


def test_the_number_of_waiting_events_is_known_after_the_close(box: Box) -> None:
    outbox = box()
    outbox.acknowledge(fill(outbox, 5)[:2])
    outbox.close()
    assert outbox.depth == 3


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
    outbox.acknowledge(waiting(outbox))
    box.clock.pass_s(61)
    outbox.maintain()
    assert caplog.text.count("no more events are lost") == 1


def test_events_of_an_earlier_start_are_removed_when_acknowledged(box: Box) -> None:
    outbox = box()
    fill(outbox, 3)
    outbox.close()
    outbox = box()
    outbox.acknowledge([1, 2])
    assert (outbox.depth, waiting(outbox)) == (1, [3])
    outbox.close()
    assert waiting(box()) == [3]


def test_the_age_survives_a_kill_to_ten_minutes(box: Box) -> None:
    outbox = box()
    fill(outbox, 1)
    for _ in range(20):
        box.clock.pass_s(60)
        outbox.maintain()
    box.crash(outbox)
    assert box().oldest_age_s == pytest.approx(900, abs=300)


def test_appending_waits_for_the_disk_and_acknowledging_does_not(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    connections: list[sqlite3.Connection] = []

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connections.append(connection := sqlite3_connect(*args, **options))
        return connection

    sqlite3_connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    outbox = box()
    (connection,) = connections
    levels = []
    for _ in range(2):
        positions = fill(outbox, 2)
        levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])
        outbox.acknowledge(positions)
        levels.append(connection.execute("PRAGMA synchronous").fetchone()[0])
    full, normal = 2, 1
    assert levels == [full, normal, full, normal]
