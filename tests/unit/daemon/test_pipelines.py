"""All pipelines: the effects of commands and reloads, and the topics that remain on the broker."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from moving_pictures import picture
from pipelines_scene import BASE, Scene, pipeline, until

from edge_classifierd.config.sections.sources import V4l2Section
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.jpeg import read_header
from edge_classifierd.inference.shared import SharedClassifier
from edge_classifierd.mqtt.commands import SetEnabled, SetRegion, SetThreshold, TakePicture
from edge_classifierd.pipeline.classifiers import Classifiers
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.pipeline.saved_state import ActiveWatch, SavedWatches, encode_watches
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

    from edge_classifierd.pipeline.planning.plan import AnyPlan


def test_a_start_publishes_every_value_that_a_command_can_change(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog", "fox")) as scene:
        assert [one.name for one in scene.pipelines.pipelines] == ["driveway", "garden"]
        assert scene.pipelines.watches == {"driveway": {"cat"}, "garden": {"dog", "fox"}}
        assert scene.retained("driveway")["enabled"] == b"ON"
        assert scene.retained("driveway")["cat/threshold"] == b"0.99"
        until(lambda: scene.retained("garden").get("status") == b"online")
        assert {"dog/threshold", "fox/threshold", "dog/state", "fox/stats"} <= scene.retained("garden").keys()
        assert not scene.pipelines.finished


def test_commanded_values_survive_a_restart_and_are_published(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene(tmp_path, pipeline("driveway", "cat"))
    scene.saved_state.set_enabled("driveway", False)
    scene.saved_state.set_threshold("driveway", "cat", 0.75)
    scene.saved_state.save(at_once=True)
    scene.outbox.close()
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        assert scene.retained("driveway")["enabled"] == b"OFF"
        assert scene.retained("driveway")["cat/threshold"] == b"0.75"
        assert not scene.cameras
        assert scene.pipelines.tried, "one that is switched off keeps nobody waiting"
        assert {
            "driveway: switched off by command over MQTT",
            "driveway: the threshold of cat is 0.75, set by command over MQTT; the configured value is 0.99",
        } <= set(caplog.messages)


def test_a_watch_that_was_on_in_a_disabled_pipeline_is_cleared_after_a_restart(tmp_path: Path) -> None:
    scene = Scene(tmp_path, pipeline("driveway", "cat"))
    active = SavedWatches({"cat": ActiveWatch("Egyptian cat", datetime.now(UTC))})
    scene.outbox.append((), encode_watches("driveway", active))
    scene.saved_state.set_enabled("driveway", False)
    scene.saved_state.save(at_once=True)
    scene.outbox.close()
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        until(lambda: scene.retained("driveway").get("cat/state") == b"OFF")
        (cleared,) = scene.outbox.pending(0, 10)
        assert json.loads(cleared.payload)["type"] == "cleared"
        assert scene.saved_state.watches("driveway").active == {}


def test_a_command_is_executed_saved_and_published(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat", "dog")) as scene:
        (one,) = scene.pipelines.pipelines
        scene.execute(SetThreshold("driveway", "cat", 0.625))
        until(lambda: one.thresholds()["cat"] == 0.625)
        assert scene.saved_state.commands("driveway").thresholds == {"cat": 0.625}
        assert scene.retained("driveway")["cat/threshold"] == b"0.625"
        assert scene.retained("driveway")["dog/threshold"] == b"0.99"
        scene.execute(SetEnabled("driveway", False))
        assert scene.retained("driveway")["enabled"] == b"OFF"
        assert scene.saved_state.commands("driveway").enabled is False
        until(lambda: scene.cameras[0].closed)
        until(lambda: scene.retained("driveway")["status"] == b"offline")
        scene.execute(SetEnabled("driveway", True))
        until(lambda: scene.retained("driveway")["status"] == b"online")
        assert scene.retained("driveway")["enabled"] == b"ON"
        assert "image" not in scene.retained("driveway")
        scene.execute(TakePicture("driveway"))
        until(lambda: scene.retained("driveway").get("image", b"")[:2] == b"\xff\xd8")


def test_a_reset_returns_to_the_configured_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Scene(tmp_path, pipeline("driveway", "cat", "dog")) as scene:
        (one,) = scene.pipelines.pipelines
        for command in (
            SetThreshold("driveway", "cat", 0.625),
            SetThreshold("driveway", "dog", 0.75),
            SetEnabled("driveway", False),
        ):
            scene.execute(command)
        until(lambda: scene.retained("driveway")["status"] == b"offline")
        scene.execute(SetThreshold("driveway", "cat", None))
        scene.execute(SetEnabled("driveway", None))
        until(lambda: scene.retained("driveway")["status"] == b"online")
        until(lambda: one.thresholds() == {"cat": 0.99, "dog": 0.75})
        assert scene.retained("driveway")["enabled"] == b"ON"
        assert scene.retained("driveway")["cat/threshold"] == b"0.99"
        assert scene.saved_state.commands("driveway").thresholds == {"dog": 0.75}
        assert scene.saved_state.commands("driveway").enabled is None
        assert "driveway: threshold of cat set to 0.99, as configured" in caplog.messages
        assert "driveway: switched on, as configured" in caplog.messages


def test_a_region_is_used_from_the_next_frame_on_and_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tensors: list[Any] = []
    run = SharedClassifier.run
    monkeypatch.setattr(SharedClassifier, "run", lambda self, tensor: (tensors.append(tensor), run(self, tensor))[1])
    part = Region(0.5, 0.25, 0.25, 0.5)
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        until(lambda: tensors)
        whole = tensors[0]
        assert json.loads(scene.retained("driveway")["region"]) == {"x": 0, "y": 0, "width": 1, "height": 1}
        (one,) = scene.pipelines.pipelines
        assert isinstance(one.plan, Plan)
        expected = one.plan.with_region(part).preprocessor()(picture(100, noise=True))
        assert not np.array_equal(whole, expected)
        scene.execute(SetRegion("driveway", part))
        until(lambda: np.array_equal(tensors[-1], expected))
        assert scene.retained("driveway")["region"] == b'{"x":0.5,"y":0.25,"width":0.25,"height":0.5}'
        scene.execute(TakePicture("driveway"))
        until(lambda: "image" in scene.retained("driveway"))
        header = read_header(scene.retained("driveway")["image"])
        assert header is not None
        assert (header.width, header.height) == (40, 60)
        scene.change_to(pipeline("driveway", "fox"))
        until(lambda: set(one.thresholds()) == {"fox"})
        assert one.plan.region == part, "a reload of other keys leaves it as it is"
        assert (len(scene.cameras), scene.cameras[0].opened, scene.cameras[0].closed) == (1, 1, 0)
        tensors.clear()
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        until(lambda: tensors)
        assert np.array_equal(tensors[0], expected)
        assert json.loads(scene.retained("driveway")["region"])["x"] == 0.5
        scene.execute(SetRegion("driveway", None))
        until(lambda: np.array_equal(tensors[-1], whole))
        assert json.loads(scene.retained("driveway")["region"])["x"] == 0
        assert scene.saved_state.commands("driveway").region is None
    assert {
        "driveway: region set to x 0.5, y 0.25, width 0.25, height 0.5",
        f"driveway: the region is {part}, set by command over MQTT; the configured one is {Region()}",
        "driveway: region set to x 0, y 0, width 1, height 1, as configured",
    } <= set(caplog.messages)


def test_a_camera_that_cuts_the_region_itself_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(V4l2Section, "cuts_itself", True)
    regions: list[Region] = []

    class CuttingScene(Scene):
        def _camera(self, source: Any, clock: Any, region: Region, *_: object) -> Any:
            regions.append(region)
            return super()._camera(source, clock)

    with CuttingScene(tmp_path, pipeline("driveway", "cat")) as scene:
        scene.execute(SetRegion("driveway", Region(0.5, 0.0, 0.5, 1.0)))
        until(lambda: len(scene.cameras) == 2 and scene.cameras[0].closed)
        assert regions == [Region(), Region(0.5, 0.0, 0.5, 1.0)]
        until(lambda: scene.retained("driveway")["status"] == b"online")


def test_a_command_for_a_removed_watch_is_ignored(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog")) as scene:
        scene.change_to(pipeline("driveway", "fox"))
        for command in (
            SetThreshold("driveway", "cat", 0.5),
            SetEnabled("garden", False),
            SetThreshold("garden", "dog", 0.5),
            TakePicture("garden"),
        ):
            scene.execute(command)
        assert scene.saved_state.commands("driveway").thresholds == {}
        assert scene.saved_state.commands("garden").enabled is None
        scene.remove_topics()
        assert not scene.retained("garden")
        assert {topic for topic in scene.retained("driveway") if "cat" in topic} == set()


def test_a_pipeline_that_is_made_again_is_never_missing_for_other_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        keep_only = Classifiers.keep_only

        def looked_at(classifiers: Classifiers, plans: Iterable[AnyPlan]) -> None:  # after the old one was stopped
            seen.append([one.name for one in scene.pipelines.pipelines])
            keep_only(classifiers, plans)

        monkeypatch.setattr(Classifiers, "keep_only", looked_at)
        assert scene.change_to(pipeline("driveway", "cat", fit="stretch")) == 1
    assert seen[0] == ["driveway"]


def test_a_reload_that_changes_watches_keeps_the_camera_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Scene(tmp_path, pipeline("driveway", "cat", "dog")) as scene:
        scene.saved_state.set_threshold("driveway", "fox", 0.7)
        assert scene.change_to(pipeline("driveway", "cat", "fox")) == 1
        (one,) = scene.pipelines.pipelines
        until(lambda: set(one.thresholds()) == {"cat", "fox"})
        assert scene.pipelines.watches == {"driveway": {"cat", "fox"}}
        assert scene.retained("driveway")["fox/threshold"] == b"0.7", "as it was commanded once"
        told = [message for message in caplog.messages if "by command" in message]
        assert told == ["driveway: the threshold of fox is 0.7, set by command over MQTT; the configured value is 0.99"]
        until(lambda: "fox/state" in scene.retained("driveway") or "fox/threshold" in scene.retained("driveway"))
        scene.remove_topics()
        assert not [topic for topic in scene.retained("driveway") if topic.startswith("dog/")]
        assert (scene.cameras[0].opened, scene.cameras[0].closed, len(scene.cameras)) == (1, 0, 1)
        assert one.metrics.snapshot().restarts == 0
        assert scene.change_to(pipeline("driveway", "cat", "fox")) == 0


def test_a_watch_removed_in_a_restart_leaves_no_topic(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat", "dog")) as scene:
        assert scene.change_to(pipeline("driveway", "cat", fit="stretch")) == 1
        scene.remove_topics()
        assert not [topic for topic in scene.retained("driveway") if topic.startswith("dog/")]
        assert {"cat/state", "cat/threshold", "cat/stats", "enabled", "status"} <= scene.retained("driveway").keys()


def test_a_changed_pipeline_starts_after_the_old_one_has_closed_its_camera(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog")) as scene:
        until(lambda: len(scene.cameras) == 2)
        driveway, garden = scene.camera("driveway"), scene.camera("garden")
        slower = {"type": "v4l2", "device": "/dev/driveway", "fps": 5}
        assert scene.change_to(pipeline("driveway", "cat", source=slower), pipeline("garden", "dog")) == 1
        assert (driveway.closed, garden.closed) == (1, 0)
        until(lambda: len(scene.cameras) == 3 and scene.cameras[2].opened)
        restarted, untouched = scene.pipelines.pipelines
        assert (restarted.name, untouched.name) == ("driveway", "garden"), "in the order of the configuration"
        assert (restarted.metrics.snapshot().restarts, untouched.metrics.snapshot().restarts) == (1, 0)
        until(lambda: scene.retained("driveway")["status"] == b"online")


def test_a_restart_restores_the_watches_after_the_old_pipeline_has_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        (driveway,) = scene.pipelines.pipelines
        assert isinstance(driveway, Pipeline)
        hand_over = driveway.hand_over

        def hand_over_after_a_detection(successor: Pipeline, timeout_s: float) -> bool:
            active = ActiveWatch("tabby, tabby cat", datetime.now(UTC))
            scene.saved_state.set_watches("driveway", SavedWatches({"cat": active}))
            return hand_over(successor, timeout_s)

        monkeypatch.setattr(driveway, "hand_over", hand_over_after_a_detection)
        scene.change_to(pipeline("driveway", "cat", fit="stretch"))
        until(lambda: (f"{BASE}/driveway/cat/state", b"ON") in scene.broker.sent)


def test_pipelines_are_added_and_removed_with_all_their_topics(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        scene.execute(TakePicture("driveway"))
        until(lambda: "image" in scene.retained("driveway"))
        until(lambda: "state" in scene.retained("driveway"))
        assert scene.change_to(pipeline("garden", "dog"), pipeline("driveway", "cat")) == 1
        assert [one.name for one in scene.pipelines.pipelines] == ["garden", "driveway"]
        assert scene.pipelines.pipelines[0].metrics.snapshot().restarts == 0, "it is new"
        until(lambda: scene.retained("garden").get("status") == b"online")
        assert scene.change_to(pipeline("garden", "dog")) == 0
        assert scene.cameras[0].closed == 1
        scene.remove_topics()
        assert scene.retained("driveway") == {}
        assert scene.pipelines._metrics.keys() == {"garden"}, "names may come and go for years"
        before = scene.pipelines.pipelines[0].metrics
        assert scene.change_to(pipeline("garden", "dog"), pipeline("driveway", "cat")) == 1
        assert scene.pipelines.pipelines[0].metrics is before
        until(lambda: scene.retained("driveway").get("status") == b"online")
        assert "cat/threshold" in scene.retained("driveway")


def test_an_active_watch_is_cleared_when_its_pipeline_is_removed(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog")) as scene:
        for name, watch in (("driveway", "cat"), ("garden", "dog")):
            scene.execute(SetThreshold(name, watch, 1e-9))
            until(lambda name=name: scene.saved_state.watches(name).active)
        scene.change_to(pipeline("garden", "dog", fit="stretch"))
        told = [json.loads(event.payload) for event in scene.outbox.pending(0, 10)]
        assert [(event["type"], event["pipeline"], event["watch"]) for event in told] == [
            ("detected", "driveway", "cat"),
            ("detected", "garden", "dog"),
            ("cleared", "driveway", "cat"),
        ], "and one that only starts again goes on"
        assert scene.saved_state.watches("driveway").active == {}
        scene.remove_topics()
        assert scene.retained("driveway") == {}


def test_a_model_that_no_pipeline_uses_is_released(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog", model={"threads": 2})) as scene:
        assert len(scene.pipelines._classifiers._loaded) == 2
        scene.change_to(pipeline("driveway", "cat"))
        assert len(scene.pipelines._classifiers._loaded) == 1


def test_a_stop_publishes_offline_for_every_camera_and_waits_for_no_stuck_one(tmp_path: Path) -> None:
    scene = Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog"), pipeline("porch", "fox"))
    with scene:
        for name in ("driveway", "garden", "porch"):
            until(lambda name=name: scene.retained(name).get("status") == b"online")  # type: ignore[misc]
        scene.camera("driveway").deaf = scene.camera("garden").deaf = True
        time.sleep(0.1)
        start_s = time.monotonic()
        scene.pipelines.stop(0.4)
        assert time.monotonic() - start_s < 2.5
        assert scene.camera("porch").closed == 1
    for name in ("driveway", "garden", "porch"):
        assert scene.broker.retained[f"{BASE}/{name}/status"] == b"offline"
        said = [payload for topic, payload in scene.broker.sent if topic == f"{BASE}/{name}/status"]
        assert said[-1] == b"offline"
    for camera in scene.cameras:
        camera.heals.set()


def test_a_source_is_tried_when_it_delivers_fails_or_has_ended(tmp_path: Path) -> None:
    scene = Scene(tmp_path, pipeline("driveway", "cat"))
    assert scene.pipelines.tried
    assert not scene.pipelines.finished, "nothing has begun"
    with scene:
        (one,) = scene.pipelines.pipelines
        scene.cameras[0].trouble = SourceError("driveway: no such device; connect it")
        until(lambda: one.offline_reason)
        assert scene.pipelines.tried
        assert not scene.pipelines.finished


def test_the_pipelines_are_finished_when_every_source_has_ended(tmp_path: Path) -> None:
    scene = Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog"))
    scene.live = False
    with scene:
        until(lambda: len(scene.cameras) == 2)
        scene.camera("driveway").ends = True
        until(lambda: scene.pipelines.pipelines[0].finished)
        assert not scene.pipelines.finished
        scene.camera("garden").ends = True
        until(lambda: scene.pipelines.finished)


def test_close_releases_every_model_and_its_device(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        pass
    assert not scene.pipelines._classifiers._loaded


def test_commands_that_come_fast_are_stored_and_published_at_most_once_a_second_and_the_last_one_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    topic = f"{BASE}/driveway/cat/threshold"
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        began_s = time.monotonic()
        for step in range(1, 101):
            scene.pipelines.execute(SetThreshold("driveway", "cat", step / 200))
            scene.pipelines.tick()
        until(lambda: scene.tried() and scene.retained("driveway")["cat/threshold"] == b"0.5")
        at_most = 2 + int(time.monotonic() - began_s)
        published = [payload for one, payload in scene.broker.sent if one == topic]
        assert published[:2] == [b"0.99", b"0.005"], "the first is stored at once"
        assert len(published) - 1 <= at_most
        assert sum("threshold of cat" in message for message in caplog.messages) <= at_most
        stored = json.loads(scene.outbox.state("commands/")["driveway"])
        assert stored == {"enabled": None, "thresholds": {"cat": 0.5}, "region": None, "model": None}


def test_a_command_is_published_after_it_was_stored(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        stored: list[bool] = []
        publish = scene.sink.publish_settings

        def watched(*arguments: Any, **options: Any) -> None:
            commands = scene.outbox.state("commands/").get("driveway", "{}")
            stored.append(json.loads(commands).get("enabled") is False)
            publish(*arguments, **options)

        scene.sink.publish_settings = watched  # type: ignore[method-assign]
        scene.pipelines.execute(SetEnabled("driveway", False))
        assert not stored
        scene.pipelines.tick()
        assert stored == [True]
