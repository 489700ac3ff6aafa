"""Daily statistics: counts per day, restarts at local midnight, survives restarts and corrects a wrong clock."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventType
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.watch_statistics import WatchStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.mqtt.retained_topics import RetainedTopics
    from edge_classifierd.pipeline.planning.plan import Plan

TOPIC = "edge-classifierd/porch/driveway/dog/stats"
PLAN = cast("Plan", SimpleNamespace(section=SimpleNamespace(name="driveway"), rules=[SimpleNamespace(name="dog")]))


class FakeWorld:
    """Stands for the clock and the retained topics."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.wall = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
        self.sure = True
        self.published: dict[str, dict[str, Any]] = {}
        self.options: dict[str, dict[str, Any]] = {}

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return self.wall

    def synchronised(self) -> bool:
        return self.sure

    def set(self, topic: str, payload: str, **options: object) -> None:
        self.published[topic], self.options[topic] = json.loads(payload), options

    def remove(self, topic: str, **_: object) -> None:
        self.published.pop(topic, None)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall += timedelta(seconds=seconds)


class Scene:
    def __init__(self, folder: Path) -> None:
        self.world = FakeWorld()
        self.outbox = Outbox(folder / "outbox.sqlite3", topic=lambda event: event.pipeline, clock=self.world)
        self.restart()

    def restart(self) -> None:
        self.statistics = WatchStatistics(
            self.outbox,
            Topics("edge-classifierd", "porch"),
            cast("RetainedTopics", self.world),
            cast("Clock", self.world),
        )
        self.statistics.show(PLAN)

    def record(self, *types: str) -> None:
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
        self.outbox.append((), self.statistics.count(cast("list[EventDraft]", drafts)))
        self.statistics.tick()

    def wait(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.statistics.tick()

    @property
    def published(self) -> dict[str, Any]:
        return self.world.published[TOPIC]


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
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.outbox.close()


def test_each_detection_counts_and_the_last_event_sets_last_seen(scene: Scene) -> None:
    assert scene.published == {
        "schema": 1,
        "count_today": 0,
        "day": "2026-11-21",
        "last_seen": None,
        "clock_synchronised": True,
    }
    scene.record("detected")
    scene.wait(60)
    scene.record("cleared")
    assert (scene.published["count_today"], scene.published["last_seen"]) == (1, "2026-11-21T12:01:00.000Z")
    scene.record("detected", "cleared", "detected")
    assert scene.published["count_today"] == 3


def test_the_count_restarts_at_local_midnight(scene: Scene) -> None:
    scene.record("detected")
    scene.wait(10 * 3600 + 59 * 60)
    assert (scene.published["count_today"], scene.published["day"]) == (1, "2026-11-21")
    scene.wait(120)  # 23:01 in UTC, 00:01 here
    assert (scene.published["count_today"], scene.published["day"]) == (0, "2026-11-22")
    assert scene.published["last_seen"] == "2026-11-21T12:00:00.000Z"
    scene.record("detected")
    assert scene.published["count_today"] == 1


def test_the_first_detection_after_midnight_counts_for_the_new_day(scene: Scene) -> None:
    scene.record("detected", "cleared", "detected")
    scene.world.pass_time(86400)
    scene.record("detected")
    assert (scene.published["count_today"], scene.published["day"]) == (1, "2026-11-22")


def test_counts_survive_a_restart_of_the_same_day_only(scene: Scene) -> None:
    scene.record("detected")
    scene.restart()
    assert (scene.published["count_today"], scene.published["last_seen"]) == (1, "2026-11-21T12:00:00.000Z")
    scene.world.pass_time(86400)
    scene.restart()
    assert (scene.published["count_today"], scene.published["last_seen"]) == (0, "2026-11-21T12:00:00.000Z")


def test_counts_by_a_wrong_clock_are_corrected_when_it_is_synchronised(scene: Scene) -> None:
    world = scene.world
    world.sure, world.wall = False, datetime(2026, 1, 1, 12, 0, tzinfo=UTC)  # no battery behind this clock
    scene.restart()
    scene.record("detected")
    assert (scene.published["clock_synchronised"], scene.published["count_today"]) == (False, 1)
    scene.wait(600)
    scene.record("detected")
    world.sure, world.wall = True, datetime(2026, 11, 21, 23, 5, tzinfo=UTC)  # five past midnight here
    scene.wait(60)
    assert scene.published == {
        "schema": 1,
        "count_today": 1,  # the first was 11 minutes ago: yesterday
        "day": "2026-11-22",
        "last_seen": "2026-11-21T23:05:00.000Z",
        "clock_synchronised": True,
    }


def test_a_clock_before_the_last_known_day_ends_no_day(scene: Scene) -> None:
    scene.record("detected")
    scene.world.sure, scene.world.wall = False, datetime(2026, 1, 1, tzinfo=UTC)
    scene.restart()
    scene.record("detected")
    assert (scene.published["count_today"], scene.published["day"]) == (2, "2026-11-21")
    scene.world.sure, scene.world.wall = True, datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    scene.wait(10)
    assert (scene.published["count_today"], scene.published["day"]) == (2, "2026-11-21")


def test_last_seen_by_a_wrong_clock_of_an_earlier_process_becomes_unknown(scene: Scene) -> None:
    scene.world.sure, scene.world.wall = False, datetime(2026, 1, 1, tzinfo=UTC)
    scene.restart()
    scene.record("detected")
    assert scene.published["last_seen"] == "2026-01-01T00:00:00.000Z"
    scene.world.sure, scene.world.wall = True, datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    scene.restart()
    assert (scene.published["last_seen"], scene.published["count_today"]) == (None, 0)


def test_a_watch_that_is_removed_is_forgotten(scene: Scene) -> None:
    scene.record("detected")
    scene.statistics.remove("driveway", ["dog"])
    assert TOPIC not in scene.world.published
    scene.restart()
    assert scene.published["count_today"] == 0


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", "null", '{"day": "2026-11-21", "count": 1e999}'])
def test_a_damaged_value_counts_from_zero(scene: Scene, damage: str) -> None:
    scene.outbox.append((), {"statistics/driveway/dog": damage})
    scene.restart()
    assert scene.published["count_today"] == 0


def test_a_watch_that_is_not_configured_any_more_is_removed_at_the_start(scene: Scene) -> None:
    scene.record("detected")
    scene.outbox.append((), {"statistics/driveway/cat": scene.outbox.state("statistics/")["driveway/dog"]})
    scene.restart()
    assert scene.outbox.state("statistics/").keys() == {"driveway/dog"}


def test_the_last_event_of_a_watch_that_was_removed_does_not_bring_it_back(scene: Scene) -> None:
    scene.record("detected")
    scene.statistics.remove("driveway", ["dog"])
    scene.record("cleared")
    assert TOPIC not in scene.world.published
    assert scene.outbox.state("statistics/") == {}
    scene.statistics.show(PLAN)
    assert (scene.published["count_today"], scene.published["last_seen"]) == (0, None)


def test_the_midnight_of_a_wrong_clock_loses_nothing_of_today(scene: Scene) -> None:
    world = scene.world
    world.sure, world.wall = False, datetime(2026, 1, 1, 22, 59, tzinfo=UTC)  # a minute before midnight here
    scene.restart()
    scene.record("detected")
    scene.wait(120)
    assert (scene.published["count_today"], scene.published["day"]) == (0, "2026-01-02")
    scene.record("detected")
    world.sure, world.wall = True, datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    scene.wait(10)
    assert (scene.published["count_today"], scene.published["day"]) == (2, "2026-11-21")


def test_a_clock_that_is_no_longer_synchronised_changes_no_count(scene: Scene) -> None:
    scene.record("detected")
    scene.world.sure, scene.world.wall = False, datetime(2026, 1, 1, tzinfo=UTC)
    scene.wait(10)
    assert (scene.published["count_today"], scene.published["day"]) == (1, "2026-11-21")
    assert scene.published["clock_synchronised"] is False


def test_a_corrected_count_is_not_corrected_again(scene: Scene) -> None:
    scene.world.sure = False
    scene.restart()
    scene.record("detected")
    scene.world.sure = True
    scene.wait(86400)
    assert scene.published["count_today"] == 0, "it was yesterday"
    scene.record("detected")
    for scene.world.sure in (False, True):
        scene.wait(10)
    assert scene.published["count_today"] == 1


def test_a_corrected_count_survives_a_restart(scene: Scene) -> None:
    scene.world.sure, scene.world.wall = False, datetime(2026, 1, 1, tzinfo=UTC)
    scene.restart()
    scene.record("detected")
    scene.world.sure, scene.world.wall = True, datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    scene.wait(10)
    scene.restart()
    assert (scene.published["count_today"], scene.published["last_seen"]) == (1, "2026-11-21T13:00:00.000Z")


def test_a_day_in_the_future_ends_when_the_clock_is_set_back(scene: Scene) -> None:
    scene.world.wall = datetime(2030, 1, 1, tzinfo=UTC)
    scene.wait(10)
    scene.record("detected")
    assert scene.published["day"] == "2030-01-01"
    scene.world.wall = datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
    scene.wait(10)
    assert (scene.published["count_today"], scene.published["day"]) == (0, "2026-11-21")


def test_a_count_expires_with_its_device(scene: Scene) -> None:
    assert scene.world.options[TOPIC] == {"content_type": "application/json", "schema": 1, "expiry_s": 3600}


def test_counts_split_by_the_midnight_of_a_wrong_clock_are_joined(scene: Scene) -> None:
    scene.world.sure = False
    scene.world.wall = datetime(2026, 11, 21, 22, 58, tzinfo=UTC)
    scene.record("detected", "detected", "detected")
    scene.wait(180)
    scene.record("detected")
    assert (scene.published["count_today"], scene.published["day"]) == (1, "2026-11-22")
    scene.world.wall, scene.world.sure = datetime(2026, 11, 22, 12, 0, tzinfo=UTC), True
    scene.wait(1)
    assert (scene.published["count_today"], scene.published["day"]) == (4, "2026-11-22")
