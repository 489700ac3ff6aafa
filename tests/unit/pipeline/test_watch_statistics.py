"""The tally: counts by day, begins anew at local midnight, survives restarts, and is honest about the clock."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from edge_classifierd.events.schema import EventType
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.watch_statistics import WatchStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.mqtt.retained_topics import RetainedTopics
    from edge_classifierd.pipeline.plan import Plan

TOPIC = "edge-classifierd/porch/driveway/dog/stats"
PLAN = cast("Plan", SimpleNamespace(section=SimpleNamespace(name="driveway"), rules=[SimpleNamespace(name="dog")]))


class FakeWorld:
    """Stands for the clock and the retained states."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.wall = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
        self.sure = True
        self.said: dict[str, dict[str, Any]] = {}
        self.manners: dict[str, dict[str, Any]] = {}

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return self.wall

    def synchronised(self) -> bool:
        return self.sure

    def set(self, topic: str, payload: str, **manner: object) -> None:
        self.said[topic], self.manners[topic] = json.loads(payload), manner

    def remove(self, topic: str, **_: object) -> None:
        self.said.pop(topic, None)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall += timedelta(seconds=seconds)


class Diary:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "tally.json"
        self.world = FakeWorld()
        self.restart()

    def restart(self) -> None:
        self.end()
        self.tally = WatchStatistics(
            self.file,
            Topics("edge-classifierd", "porch"),
            cast("RetainedTopics", self.world),
            cast("Clock", self.world),
        )
        self.tally.show(PLAN)

    def end(self) -> None:
        if hasattr(self, "tally"):
            self.tally.keep()

    def tell(self, *types: str) -> None:
        drafts = [
            SimpleNamespace(
                pipeline="driveway",
                watch="dog",
                type=EventType(one),
                time=self.world.wall,
                clock_synchronised=self.world.sure,
            )
            for one in types
        ]
        self.tally.note(cast("list[EventDraft]", drafts))

    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.tally.tick()

    @property
    def said(self) -> dict[str, Any]:
        return self.world.said[TOPIC]


@pytest.fixture(autouse=True)
def _berlin() -> Iterator[None]:
    """One hour ahead of UTC in winter."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path)


def test_each_detection_counts_and_the_last_event_says_when_it_was_on(diary: Diary) -> None:
    assert diary.said == {
        "schema": 1,
        "count_today": 0,
        "day": "2026-11-21",
        "last_seen": None,
        "clock_synchronised": True,
    }
    diary.tell("detected")
    diary.wait(60)
    diary.tell("cleared")
    assert (diary.said["count_today"], diary.said["last_seen"]) == (1, "2026-11-21T12:01:00.000Z")
    diary.tell("detected", "cleared", "detected")
    assert diary.said["count_today"] == 3


def test_the_count_begins_anew_at_local_midnight(diary: Diary) -> None:
    diary.tell("detected")
    diary.wait(10 * 3600 + 59 * 60)
    assert (diary.said["count_today"], diary.said["day"]) == (1, "2026-11-21")
    diary.wait(120)  # 23:01 in UTC, 00:01 here
    assert (diary.said["count_today"], diary.said["day"]) == (0, "2026-11-22")
    assert diary.said["last_seen"] == "2026-11-21T12:00:00.000Z"
    diary.tell("detected")
    assert diary.said["count_today"] == 1


def test_the_first_detection_after_midnight_counts_for_the_new_day(diary: Diary) -> None:
    diary.tell("detected", "cleared", "detected")
    diary.world.pass_time(86400)
    diary.tell("detected")
    assert (diary.said["count_today"], diary.said["day"]) == (1, "2026-11-22")


def test_counts_survive_a_restart_of_the_same_day_only(diary: Diary) -> None:
    diary.tell("detected")
    diary.restart()
    assert (diary.said["count_today"], diary.said["last_seen"]) == (1, "2026-11-21T12:00:00.000Z")
    diary.world.pass_time(86400)
    diary.restart()
    assert (diary.said["count_today"], diary.said["last_seen"]) == (0, "2026-11-21T12:00:00.000Z")


def test_what_was_counted_by_a_wrong_clock_is_put_right_when_it_is_synchronised(diary: Diary) -> None:
    world = diary.world
    world.sure, world.wall = False, datetime(2026, 1, 1, 12, 0, tzinfo=UTC)  # no battery behind this clock
    diary.restart()
    diary.tell("detected")
    assert (diary.said["clock_synchronised"], diary.said["count_today"]) == (False, 1)
    diary.wait(600)
    diary.tell("detected")
    world.sure, world.wall = True, datetime(2026, 11, 21, 23, 5, tzinfo=UTC)  # five past midnight here
    diary.wait(60)
    assert diary.said == {
        "schema": 1,
        "count_today": 1,  # the first was 11 minutes ago: yesterday
        "day": "2026-11-22",
        "last_seen": "2026-11-21T23:05:00.000Z",
        "clock_synchronised": True,
    }


def test_a_clock_that_stands_before_the_last_known_day_ends_no_day(diary: Diary) -> None:
    diary.tell("detected")
    diary.world.sure, diary.world.wall = False, datetime(2026, 1, 1, tzinfo=UTC)
    diary.restart()
    diary.tell("detected")
    assert (diary.said["count_today"], diary.said["day"]) == (2, "2026-11-21")
    diary.world.sure, diary.world.wall = True, datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    diary.wait(10)
    assert (diary.said["count_today"], diary.said["day"]) == (2, "2026-11-21")


def test_a_moment_of_an_earlier_process_with_a_wrong_clock_is_not_claimed(diary: Diary) -> None:
    diary.world.sure, diary.world.wall = False, datetime(2026, 1, 1, tzinfo=UTC)
    diary.restart()
    diary.tell("detected")
    assert diary.said["last_seen"] == "2026-01-01T00:00:00.000Z"
    diary.world.sure, diary.world.wall = True, datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    diary.restart()
    assert (diary.said["last_seen"], diary.said["count_today"]) == (None, 0)


def test_a_watch_that_is_withdrawn_is_forgotten(diary: Diary) -> None:
    diary.tell("detected")
    diary.tally.withdraw("driveway", ["dog"])
    assert TOPIC not in diary.world.said
    diary.restart()
    assert diary.said["count_today"] == 0


def test_a_damaged_file_counts_from_zero_and_says_so(diary: Diary, caplog: pytest.LogCaptureFixture) -> None:
    for damage in ("", "{", "[]", '{"tally, version 1": {"driveway": {"dog": {}}}}', "null"):
        diary.end()
        diary.file.write_text(damage)
        caplog.clear()
        diary.restart()
        assert "unreadable" in caplog.text
        assert diary.said["count_today"] == 0


def test_a_file_that_cannot_be_written_is_said_once(diary: Diary, caplog: pytest.LogCaptureFixture) -> None:
    diary.file = diary.file.parent / "absent" / "tally.json"
    diary.restart()
    diary.tell("detected")
    diary.end()
    diary.tell("cleared")
    diary.end()
    assert caplog.text.count("cannot be written") == 1
    assert diary.said["count_today"] == 1


def test_the_last_event_of_a_watch_that_was_withdrawn_does_not_bring_it_back(diary: Diary) -> None:
    diary.tell("detected")
    diary.tally.withdraw("driveway", ["dog"])
    diary.tell("cleared")
    assert TOPIC not in diary.world.said
    diary.end()
    assert json.loads(diary.file.read_text()) == {"tally, version 1": {}}
    diary.tally.show(PLAN)
    assert (diary.said["count_today"], diary.said["last_seen"]) == (0, None)


def test_the_midnight_of_a_wrong_clock_loses_nothing_of_today(diary: Diary) -> None:
    world = diary.world
    world.sure, world.wall = False, datetime(2026, 1, 1, 22, 59, tzinfo=UTC)  # a minute before midnight here
    diary.restart()
    diary.tell("detected")
    diary.wait(120)
    assert (diary.said["count_today"], diary.said["day"]) == (0, "2026-01-02")
    diary.tell("detected")
    world.sure, world.wall = True, datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    diary.wait(10)
    assert (diary.said["count_today"], diary.said["day"]) == (2, "2026-11-21")


def test_a_clock_that_is_no_longer_synchronised_takes_nothing_back(diary: Diary) -> None:
    diary.tell("detected")
    diary.world.sure, diary.world.wall = False, datetime(2026, 1, 1, tzinfo=UTC)
    diary.wait(10)
    assert (diary.said["count_today"], diary.said["day"]) == (1, "2026-11-21")
    assert diary.said["clock_synchronised"] is False


def test_what_was_put_right_once_is_not_put_right_again(diary: Diary) -> None:
    diary.world.sure = False
    diary.restart()
    diary.tell("detected")
    diary.world.sure = True
    diary.wait(86400)
    assert diary.said["count_today"] == 0, "it was yesterday"
    diary.tell("detected")
    for diary.world.sure in (False, True):
        diary.wait(10)
    assert diary.said["count_today"] == 1


def test_what_was_put_right_stays_right_after_a_restart(diary: Diary) -> None:
    diary.world.sure, diary.world.wall = False, datetime(2026, 1, 1, tzinfo=UTC)
    diary.restart()
    diary.tell("detected")
    diary.end()
    diary.world.sure, diary.world.wall = True, datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    diary.wait(10)
    diary.restart()
    assert (diary.said["count_today"], diary.said["last_seen"]) == (1, "2026-11-21T13:00:00.000Z")


def test_a_day_in_the_future_ends_when_the_clock_is_set_back(diary: Diary) -> None:
    diary.world.wall = datetime(2030, 1, 1, tzinfo=UTC)
    diary.wait(10)
    diary.tell("detected")
    assert diary.said["day"] == "2030-01-01"
    diary.world.wall = datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    diary.wait(10)
    assert (diary.said["count_today"], diary.said["day"]) == (0, "2026-11-21")


def test_the_file_is_written_when_something_has_changed_and_only_then(diary: Diary) -> None:
    diary.tell("detected")
    diary.end()
    before = diary.file.stat().st_ino, diary.file.stat().st_mtime_ns
    diary.end()
    assert (diary.file.stat().st_ino, diary.file.stat().st_mtime_ns) == before
    diary.tally.withdraw("driveway", ["dog"])
    diary.end()
    assert json.loads(diary.file.read_text()) == {"tally, version 1": {}}


def test_a_count_expires_with_its_device(diary: Diary) -> None:
    assert diary.world.manners[TOPIC] == {"content_type": "application/json", "schema": 1, "expiry_s": 3600}


def test_what_a_wrong_clock_split_over_its_midnight_is_counted_once_on_the_right_day(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    diary.world.sure = False
    diary.world.wall = datetime(2026, 11, 21, 22, 58, tzinfo=UTC)
    diary.tell("detected", "detected", "detected")
    diary.wait(180)
    diary.tell("detected")
    assert (diary.said["count_today"], diary.said["day"]) == (1, "2026-11-22")
    diary.world.wall, diary.world.sure = datetime(2026, 11, 22, 12, 0, tzinfo=UTC), True
    diary.wait(1)
    assert (diary.said["count_today"], diary.said["day"]) == (4, "2026-11-22")
