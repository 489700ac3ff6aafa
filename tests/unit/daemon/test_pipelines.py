"""The fleet: what commands and reloads do to the pipelines that run, and what stays on the broker afterwards."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tflite_builder as tflite
from pipelines_scene import BASE, Scene, pipeline, until

from edge_classifierd.errors import MissingError, SourceError
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.mqtt.commands import SetEnabled, SetThreshold, TakePicture
from edge_classifierd.pipeline import classifiers
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.saved_state import ActiveWatch, SavedWatches, encode_watches


def test_a_start_says_every_value_that_a_command_can_change(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog", "fox")) as scene:
        assert [one.name for one in scene.fleet.pipelines] == ["driveway", "garden"]
        assert scene.fleet.watches == {"driveway": {"cat"}, "garden": {"dog", "fox"}}
        assert scene.retained("driveway")["enabled"] == b"ON"
        assert scene.retained("driveway")["cat/threshold"] == b"0.99"
        until(lambda: scene.retained("garden").get("status") == b"online")
        assert {"dog/threshold", "fox/threshold", "dog/state", "fox/stats"} <= scene.retained("garden").keys()
        assert not scene.fleet.finished


def test_what_was_commanded_before_a_restart_is_said_and_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
        assert scene.fleet.tried, "one that is switched off keeps nobody waiting"
        assert {
            "driveway: switched off by command over MQTT",
            "driveway: the threshold of cat is 0.75, set by command over MQTT; the configured value is 0.99",
        } <= set(caplog.messages)


def test_what_was_on_when_its_camera_was_switched_off_is_cleared_after_a_restart_too(tmp_path: Path) -> None:
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


def test_a_command_is_done_remembered_and_answered(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat", "dog")) as scene:
        (one,) = scene.fleet.pipelines
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


def test_a_reset_returns_to_what_is_configured_and_follows_it_from_then_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Scene(tmp_path, pipeline("driveway", "cat", "dog")) as scene:
        (one,) = scene.fleet.pipelines
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


def test_a_command_that_a_reload_has_overtaken_leaves_nothing_behind(tmp_path: Path) -> None:
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
        scene.clear_what_leaves()
        assert not scene.retained("garden")
        assert {topic for topic in scene.retained("driveway") if "cat" in topic} == set()


def test_a_reload_that_changes_watches_keeps_the_camera_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Scene(tmp_path, pipeline("driveway", "cat", "dog")) as scene:
        scene.saved_state.set_threshold("driveway", "fox", 0.7)
        assert scene.change_to(pipeline("driveway", "cat", "fox")) == 1
        (one,) = scene.fleet.pipelines
        until(lambda: set(one.thresholds()) == {"cat", "fox"})
        assert scene.fleet.watches == {"driveway": {"cat", "fox"}}
        assert scene.retained("driveway")["fox/threshold"] == b"0.7", "as it was commanded once"
        told = [message for message in caplog.messages if "by command" in message]
        assert told == ["driveway: the threshold of fox is 0.7, set by command over MQTT; the configured value is 0.99"]
        until(lambda: "fox/state" in scene.retained("driveway") or "fox/threshold" in scene.retained("driveway"))
        scene.clear_what_leaves()
        assert not [topic for topic in scene.retained("driveway") if topic.startswith("dog/")]
        assert (scene.cameras[0].opened, scene.cameras[0].closed, len(scene.cameras)) == (1, 0, 1)
        assert one.metrics.snapshot().restarts == 0
        assert scene.change_to(pipeline("driveway", "cat", "fox")) == 0


def test_a_watch_that_goes_together_with_a_restart_leaves_nothing_on_the_broker(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat", "dog")) as scene:
        assert scene.change_to(pipeline("driveway", "cat", fit="stretch")) == 1
        scene.clear_what_leaves()
        assert not [topic for topic in scene.retained("driveway") if topic.startswith("dog/")]
        assert {"cat/state", "cat/threshold", "cat/stats", "enabled", "status"} <= scene.retained("driveway").keys()


def test_a_pipeline_that_changes_otherwise_starts_again_after_the_old_one_has_let_go(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog")) as scene:
        until(lambda: len(scene.cameras) == 2)
        driveway, garden = scene.camera("driveway"), scene.camera("garden")
        assert scene.change_to(pipeline("driveway", "cat", fit="stretch"), pipeline("garden", "dog")) == 1
        assert (driveway.closed, garden.closed) == (1, 0)
        until(lambda: len(scene.cameras) == 3 and scene.cameras[2].opened)
        restarted, untouched = scene.fleet.pipelines
        assert (restarted.name, untouched.name) == ("driveway", "garden"), "in the order of the configuration"
        assert (restarted.metrics.snapshot().restarts, untouched.metrics.snapshot().restarts) == (1, 0)
        until(lambda: scene.retained("driveway")["status"] == b"online")


def test_a_restart_takes_up_what_was_on_when_the_old_pipeline_had_ended_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        (driveway,) = scene.fleet.pipelines
        stop = driveway.stop

        def stop_after_a_detection(timeout_s: float) -> bool:
            active = ActiveWatch("tabby, tabby cat", datetime.now(UTC))
            scene.saved_state.set_watches("driveway", SavedWatches({"cat": active}))
            return stop(timeout_s)

        monkeypatch.setattr(driveway, "stop", stop_after_a_detection)
        scene.change_to(pipeline("driveway", "cat", fit="stretch"))
        until(lambda: (f"{BASE}/driveway/cat/state", b"ON") in scene.broker.sent)


def test_pipelines_come_and_go_with_all_their_topics(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        scene.execute(TakePicture("driveway"))
        until(lambda: "image" in scene.retained("driveway"))
        until(lambda: "state" in scene.retained("driveway"))
        assert scene.change_to(pipeline("garden", "dog"), pipeline("driveway", "cat")) == 1
        assert [one.name for one in scene.fleet.pipelines] == ["garden", "driveway"]
        assert scene.fleet.pipelines[0].metrics.snapshot().restarts == 0, "it is new"
        until(lambda: scene.retained("garden").get("status") == b"online")
        assert scene.change_to(pipeline("garden", "dog")) == 0
        assert scene.cameras[0].closed == 1
        scene.clear_what_leaves()
        assert scene.retained("driveway") == {}
        assert scene.fleet._metrics.keys() == {"garden"}, "names may come and go for years"
        before = scene.fleet.pipelines[0].metrics
        assert scene.change_to(pipeline("garden", "dog"), pipeline("driveway", "cat")) == 1
        assert scene.fleet.pipelines[0].metrics is before
        until(lambda: scene.retained("driveway").get("status") == b"online")
        assert "cat/threshold" in scene.retained("driveway")


def test_what_is_on_when_its_pipeline_goes_is_cleared(tmp_path: Path) -> None:
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
        scene.clear_what_leaves()
        assert scene.retained("driveway") == {}


def test_a_reload_whose_model_cannot_be_loaded_costs_its_own_pipeline_only_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:

        def missing(*_: object, **__: object) -> object:
            raise MissingError("no Edge TPU is plugged in; plug one in")

        monkeypatch.setattr(classifiers, "make_classifier", missing)
        scene.change_to(pipeline("driveway", "cat"), pipeline("garden", "dog", model={"threads": 3}))
        driveway, garden = scene.fleet.pipelines
        until(lambda: garden.offline_reason == "no Edge TPU is plugged in; plug one in")
        assert scene.retained("garden")["status"] == b"offline"
        assert scene.retained("garden")["dog/threshold"] == b"0.99"
        frames = driveway.metrics.snapshot().inferences
        until(lambda: driveway.metrics.snapshot().inferences > frames)
        assert scene.camera("driveway").closed == 0
        monkeypatch.setattr(classifiers, "make_classifier", make_classifier)
        until(lambda: ticked(scene) and scene.fleet.pipelines[1].online)


def ticked(scene: Scene) -> bool:
    scene.fleet.tick()
    return True


def own_model(folder: Path, name: str = "own.tflite") -> dict[str, Any]:
    """A model section for a file that may not be there yet; one pixel in, three classes out."""
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    return {"path": str(folder / name), "labels": str(folder / "labels.txt"), "threads": 1}


def looking(name: str, model: dict[str, Any]) -> dict[str, Any]:
    return pipeline(name, model=model) | {"watches": [{"name": "red", "labels": ["red"], "threshold": 0.99}]}


def test_a_pipeline_whose_model_cannot_be_used_is_offline_and_starts_when_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing, then damaged, then refused by the runtime, then right; the other pipeline runs all the time."""
    caplog.set_level(logging.INFO)
    file = tmp_path / "own.tflite"
    with Scene(tmp_path, pipeline("driveway", "cat"), looking("garden", own_model(tmp_path))) as scene:
        driveway, garden = scene.fleet.pipelines
        until(lambda: driveway.online)
        assert not garden.online
        assert scene.retained("garden")["status"] == b"offline"
        for content, reason in (
            (None, "own.tflite: no such file"),
            (b"damaged", "own.tflite: is not a TensorFlow Lite model"),
            (tflite.pack(tflite.mistyped()), "convert the model again"),
        ):
            if content is not None:
                file.write_bytes(content)
            until(lambda reason=reason: ticked(scene) and reason in str(scene.fleet.pipelines[1].offline_reason))
        scene.execute(SetThreshold("garden", "red", 0.5))
        scene.execute(TakePicture("garden"))
        file.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
        until(lambda: ticked(scene) and scene.fleet.pipelines[1].online, 40)
        started = scene.fleet.pipelines[1]
        assert started.offline_reason is None
        assert isinstance(started, Pipeline)
        assert started.thresholds() == {"red": 0.5}
        assert scene.fleet.pipelines[0] is driveway
        assert driveway.metrics.snapshot().restarts == 0
        assert "garden: can start now" in caplog.messages
        until(lambda: scene.retained("garden").get("status") == b"online")
    assert len(json.loads((tmp_path / "models.json").read_text())["models that passed, version 1"]) == 1


def test_whatever_a_classifier_raises_costs_its_own_pipeline_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(bundle: Any, device: str, threads: int, **settings: Any) -> object:
        if threads == 3:
            raise IndexError("index 300 is out of bounds")
        return make_classifier(bundle, device, threads, **settings)

    monkeypatch.setattr(classifiers, "make_classifier", broken)
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", model={"threads": 3})) as scene:
        until(lambda: ticked(scene) and scene.fleet.pipelines[0].online)
        reason = str(scene.fleet.pipelines[1].offline_reason)
        assert reason.startswith("failed unexpectedly (IndexError: index 300 is out of bounds); this is a bug")
        until(lambda: ticked(scene) and caplog.records)
        assert caplog.records[0].exc_info is not None


def test_a_pipeline_that_an_exception_has_ended_is_offline_with_the_reason(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        until(lambda: scene.retained("driveway").get("status") == b"online")
        failed = ended_by_a_bug(scene)
        assert not failed.online
        assert "ZeroDivisionError" in str(failed.offline_reason)
        assert scene.retained("driveway")["status"] == b"offline"
        until(lambda: ticked(scene) and scene.fleet.pipelines[0].online)


def test_an_exception_in_an_inference_costs_its_own_pipeline_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CpuClassifier.run
    broken = True

    def sometimes(classifier: CpuClassifier, tensor: Any) -> Any:
        if broken and threading.current_thread().name == "infer-garden":
            raise IndexError("index 300 is out of bounds")
        return run(classifier, tensor)

    monkeypatch.setattr(CpuClassifier, "run", sometimes)
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog")) as scene:
        garden = scene.fleet.pipelines[1]
        until(lambda: garden.failure)
        until(lambda: scene.camera("garden").closed)
        time.sleep(0.1)  # the camera's own end must not hide the reason
        assert not garden.online
        assert "IndexError: index 300" in str(garden.offline_reason)
        assert scene.retained("garden")["status"] == b"offline"
        assert ticked(scene)
        assert scene.fleet.pipelines[0].online
        broken = False
        until(lambda: ticked(scene) and scene.fleet.pipelines[1].online)
        assert scene.fleet.pipelines[0].metrics.snapshot().restarts == 0


@pytest.mark.parametrize("refused", ["infer-garden", "judge-garden", "capture garden", "load-garden", "infer-garden-1"])
def test_a_thread_that_cannot_be_started_costs_its_own_pipeline_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    start = threading.Thread.start
    shortage = True

    def limited(thread: threading.Thread) -> None:
        if shortage and thread.name == refused:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    model: dict[str, Any] = {"threads": 1}
    if refused == "load-garden":
        model = own_model(tmp_path)
        Path(model["path"]).write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
    elif refused == "infer-garden-1":
        model = {"threads": 2, "instances": 2}
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", model=model)) as scene:
        until(lambda: ticked(scene) and scene.fleet.pipelines[0].online)
        until(lambda: "no more threads" in str(scene.fleet.pipelines[1].offline_reason))
        assert not scene.fleet.pipelines[1].online
        beating = refused == "capture garden"  # there the worker runs until the next attempt
        assert beating or not [name for name in scene.heartbeats._stages if "garden" in name]
        shortage = False
        until(lambda: ticked(scene) and scene.fleet.pipelines[1].online, 40)


def test_a_reload_keeps_a_loaded_model_whose_file_is_damaged_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = own_model(tmp_path)
    file = Path(model["path"])
    file.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
    with Scene(tmp_path, looking("garden", model)) as scene:
        until(lambda: ticked(scene) and scene.fleet.pipelines[0].online, 40)
        (running,) = scene.fleet.pipelines
        file.write_bytes(b"damaged")
        assert scene.change_to(looking("garden", model)) == 0
        assert scene.fleet.pipelines == (running,)
        assert "garden: continues with the loaded model" in caplog.text
        assert scene.change_to(looking("garden", {**model, "threads": 2})) == 1, "another section"
        until(lambda: "not a TensorFlow Lite model" in str(scene.fleet.pipelines[0].offline_reason))
        file.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
        assert scene.change_to(looking("garden", {**model, "threads": 2})) == 1, "a reload does not wait"
        until(lambda: ticked(scene) and scene.fleet.pipelines[0].online)


def test_the_model_that_no_pipeline_uses_any_more_is_released(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog", model={"threads": 2})) as scene:
        assert len(scene.fleet._classifiers._loaded) == 2
        scene.change_to(pipeline("driveway", "cat"))
        assert len(scene.fleet._classifiers._loaded) == 1


def ended_by_a_bug(scene: Scene) -> Pipeline:
    """The scene's only pipeline, noticed by the supervisor."""
    (failed,) = scene.fleet.pipelines
    scene.cameras[0].trouble = ZeroDivisionError("a bug")
    until(lambda: failed.failure)
    scene.fleet.tick()
    return failed


def test_a_pipeline_that_a_bug_has_ended_comes_back_with_what_a_reload_said_meanwhile(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        failed = ended_by_a_bug(scene)
        scene.change_to(pipeline("driveway", "fox"))

        def ticked() -> bool:
            scene.fleet.tick()
            return scene.fleet.pipelines != (failed,)

        until(ticked)
        (again,) = scene.fleet.pipelines
        assert set(again.thresholds()) == {"fox"}
        assert again.metrics.snapshot().restarts == 1
        until(lambda: again.online)
        until(lambda: scene.retained("driveway").get("fox/state") == b"OFF")


def test_a_reload_that_restarts_a_failed_pipeline_ends_its_wait(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        ended_by_a_bug(scene)
        scene.change_to(pipeline("driveway", "cat", fit="stretch"))
        (fresh,) = scene.fleet.pipelines
        for _ in range(10):
            scene.fleet.tick()
            time.sleep(0.1)
        assert scene.fleet.pipelines == (fresh,)


def test_an_end_is_said_for_every_camera_and_waits_for_none_that_is_stuck(tmp_path: Path) -> None:
    scene = Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog"), pipeline("porch", "fox"))
    with scene:
        for name in ("driveway", "garden", "porch"):
            until(lambda name=name: scene.retained(name).get("status") == b"online")  # type: ignore[misc]
        scene.camera("driveway").deaf = scene.camera("garden").deaf = True
        time.sleep(0.1)
        start_s = time.monotonic()
        scene.fleet.stop(0.4)
        assert time.monotonic() - start_s < 2.5
        assert scene.camera("porch").closed == 1
    for name in ("driveway", "garden", "porch"):
        assert scene.broker.retained[f"{BASE}/{name}/status"] == b"offline"
        said = [payload for topic, payload in scene.broker.sent if topic == f"{BASE}/{name}/status"]
        assert said[-1] == b"offline"
    for camera in scene.cameras:
        camera.heals.set()


def test_a_source_counts_as_tried_when_it_delivers_says_why_not_or_has_ended(tmp_path: Path) -> None:
    scene = Scene(tmp_path, pipeline("driveway", "cat"))
    assert scene.fleet.tried
    assert not scene.fleet.finished, "nothing has begun"
    with scene:
        (one,) = scene.fleet.pipelines
        scene.cameras[0].trouble = SourceError("driveway: no such device; connect it")
        until(lambda: one.offline_reason)
        assert scene.fleet.tried
        assert not scene.fleet.finished


def test_the_fleet_has_finished_when_every_source_has(tmp_path: Path) -> None:
    scene = Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog"))
    scene.live = False
    with scene:
        until(lambda: len(scene.cameras) == 2)
        scene.camera("driveway").ends = True
        until(lambda: scene.fleet.pipelines[0].finished)
        assert not scene.fleet.finished
        scene.camera("garden").ends = True
        until(lambda: scene.fleet.finished)


def test_the_end_releases_every_model_and_its_device(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        pass
    assert not scene.fleet._classifiers._loaded
