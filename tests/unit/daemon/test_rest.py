"""Pipelines with `active` times rest outside them, and all pipelines during a pause."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines_scene import Scene, pipeline, until

from edge_classifierd.mqtt.commands import SetEnabled
from edge_classifierd.pipeline.saved_state import ActiveWatch, SavedWatches, encode_watches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

DAY = "06:00-22:30"


def status(scene: Scene, name: str = "driveway") -> bytes | None:
    scene.pipelines.tick()
    return scene.retained(name).get("status")


def has_status(scene: Scene, wanted: bytes, name: str = "driveway") -> Callable[[], bool]:
    return lambda: status(scene, name) == wanted


def with_active_watch(folder: Path, *pipelines: dict[str, Any]) -> Scene:
    """Return a scene whose watch `cat` was on when it stopped, and which no picture clears."""
    for each in pipelines:
        each["watches"][0]["confirm"] = 1000
    scene = Scene(folder, *pipelines)
    active = SavedWatches({"cat": ActiveWatch("Egyptian cat", datetime.now(UTC))})
    scene.outbox.append((), encode_watches("driveway", active))
    scene.outbox.close()
    return Scene(folder, *pipelines)


def test_camera_is_closed_at_the_end_of_its_active_times_and_opened_at_their_beginning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with with_active_watch(tmp_path, pipeline("driveway", "cat", active=DAY)) as scene:
        until(has_status(scene, b"online"))
        assert scene.retained("driveway")["cat/state"] == b"ON"
        (one,) = scene.pipelines.pipelines
        scene.wall_clock.set_to(22, 30)
        until(has_status(scene, b"resting"))
        until(lambda: scene.retained("driveway")["cat/state"] == b"OFF")
        (cleared,) = scene.outbox.pending(0, 10)
        assert json.loads(cleared.payload)["type"] == "cleared"
        assert (one.resting, one.online, one.offline_reason, one.failure) == (True, False, None, None)
        assert scene.camera("driveway").closed
        assert scene.heartbeats.stuck() == ()
        scene.wall_clock.set_to(6)
        until(has_status(scene, b"online"))
        assert not one.resting
        assert len(scene.cameras) == 2
    assert [message for message in caplog.messages if "active" in message] == [
        "driveway: rests until the next of its `active` times",
        "driveway: active again",
    ]


def test_start_outside_the_active_times_opens_no_camera(tmp_path: Path) -> None:
    scene = with_active_watch(tmp_path, pipeline("driveway", "cat", active=DAY))
    scene.wall_clock.set_to(3)
    with scene:
        until(has_status(scene, b"resting"))
        assert scene.pipelines.tried, "one that rests keeps nobody waiting"
        until(lambda: scene.retained("driveway")["cat/state"] == b"OFF")
        assert not scene.cameras


def test_disabled_pipeline_is_offline_at_all_times(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat", active=DAY)) as scene:
        until(has_status(scene, b"online"))
        scene.execute(SetEnabled("driveway", enabled=False))
        until(has_status(scene, b"offline"))
        for hour in (23, 7):
            scene.wall_clock.set_to(hour)
            scene.pipelines.tick()
            scene.pipelines.tick()
        (one,) = scene.pipelines.pipelines
        assert (status(scene), one.resting, len(scene.cameras)) == (b"offline", False, 1)
        scene.wall_clock.set_to(23)
        scene.execute(SetEnabled("driveway", enabled=True))
        until(has_status(scene, b"resting"))
        assert len(scene.cameras) == 1


def test_shared_camera_runs_while_one_of_its_pipelines_is_active(tmp_path: Path) -> None:
    gate, yard = (
        {key: value for key, value in pipeline(name, "cat", camera="front", active=active).items() if key != "source"}
        for name, active in (("gate", DAY), ("yard", ["18:00-23:30"]))
    )
    with Scene(tmp_path, gate, yard, cameras=("front",)) as scene:
        until(has_status(scene, b"online", "gate"))
        until(has_status(scene, b"resting", "yard"))
        scene.wall_clock.set_to(23)
        until(has_status(scene, b"resting", "gate"))
        until(has_status(scene, b"online", "yard"))
        scene.wall_clock.set_to(19)
        until(has_status(scene, b"online", "gate"))
        assert not scene.camera("front").closed
        scene.wall_clock.set_to(2)
        until(has_status(scene, b"resting", "gate"))
        until(has_status(scene, b"resting", "yard"))
        until(lambda: scene.camera("front").closed > 0)


def test_clock_that_is_not_set_after_boot_neither_clears_nor_opens(tmp_path: Path) -> None:
    scene = with_active_watch(tmp_path, pipeline("driveway", "cat", active=DAY))
    scene.wall_clock.is_synchronised, scene.wall_clock.since_boot_s = False, 30.0
    scene.wall_clock.set_to(3)
    with scene:
        until(has_status(scene, b"resting"))
        assert scene.retained("driveway")["cat/state"] == b"ON"
        assert not scene.cameras
        assert not scene.outbox.pending(0, 10)
        scene.wall_clock.is_synchronised = True
        scene.wall_clock.set_to(9)
        until(has_status(scene, b"online"))
        assert not scene.outbox.pending(0, 10)


def test_clock_that_is_never_set_is_used_two_minutes_after_boot(tmp_path: Path) -> None:
    scene = Scene(tmp_path, pipeline("driveway", "cat", active=DAY))
    scene.wall_clock.is_synchronised, scene.wall_clock.since_boot_s = False, 119.0
    with scene:
        until(has_status(scene, b"resting"))
        scene.wall_clock.since_boot_s = 120.0
        until(has_status(scene, b"online"))


def test_reload_changes_the_active_times_without_a_restart(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        until(has_status(scene, b"online"))
        (one,) = scene.pipelines.pipelines
        assert scene.change_to(pipeline("driveway", "cat", active="18:00-20:00")) == 1
        until(has_status(scene, b"resting"))
        assert scene.change_to(pipeline("driveway", "cat")) == 1
        until(has_status(scene, b"online"))
        assert scene.pipelines.pipelines == (one,)


def test_pause_closes_every_camera_until_it_is_ended_or_over(tmp_path: Path) -> None:
    with with_active_watch(tmp_path, pipeline("driveway", "cat"), pipeline("gate", "cat", active=DAY)) as scene:
        until(has_status(scene, b"online"))
        until(has_status(scene, b"online", "gate"))
        times = scene.around.rest_times
        times.pause(600)
        until(has_status(scene, b"resting"))
        until(has_status(scene, b"resting", "gate"))
        until(lambda: scene.retained("driveway")["cat/state"] == b"OFF")
        assert times.paused_until == scene.wall_clock.now + timedelta(seconds=600)
        assert scene.heartbeats.stuck() == ()
        times.resume()
        until(has_status(scene, b"online"))
        assert times.paused_until is None

        times.pause(600)
        until(has_status(scene, b"resting"))
        scene.wall_clock.since_boot_s += 599
        scene.pipelines.tick()
        assert status(scene) == b"resting"
        scene.wall_clock.since_boot_s += 1
        until(has_status(scene, b"online"))
        until(has_status(scene, b"online", "gate"))


def test_pause_ends_with_the_daemon(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        scene.around.rest_times.pause(600)
        until(has_status(scene, b"resting"))
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        until(has_status(scene, b"online"))
