"""Failures of one pipeline: it is offline with its reason and retried, the others run."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tflite_builder as tflite
from pipelines_scene import Scene, pipeline, until

from edge_classifierd.errors import MissingError
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.mqtt.commands import SetThreshold, TakePicture
from edge_classifierd.pipeline import classifiers
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.preparation import make_prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.pipeline.planning.plan import Plan


def test_a_reload_with_an_unusable_model_affects_its_own_pipeline_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:

        def missing(*_: object, **__: object) -> object:
            raise MissingError("no Edge TPU is plugged in; plug one in")

        monkeypatch.setattr(classifiers, "make_classifier", missing)
        scene.change_to(pipeline("driveway", "cat"), pipeline("garden", "dog", model={"threads": 3}))
        driveway, garden = scene.pipelines.pipelines
        until(lambda: garden.offline_reason == "no Edge TPU is plugged in; plug one in")
        assert scene.retained("garden")["status"] == b"offline"
        assert scene.retained("garden")["dog/threshold"] == b"0.99"
        frames = driveway.metrics.snapshot().inferences
        until(lambda: driveway.metrics.snapshot().inferences > frames)
        assert scene.camera("driveway").closed == 0
        monkeypatch.setattr(classifiers, "make_classifier", make_classifier)
        until(lambda: ticked(scene) and scene.pipelines.pipelines[1].online)


def ticked(scene: Scene) -> bool:
    scene.pipelines.tick()
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
        driveway, garden = scene.pipelines.pipelines
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
            until(lambda reason=reason: ticked(scene) and reason in str(scene.pipelines.pipelines[1].offline_reason))
        scene.execute(SetThreshold("garden", "red", 0.5))
        scene.execute(TakePicture("garden"))
        file.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
        until(lambda: ticked(scene) and scene.pipelines.pipelines[1].online, 40)
        started = scene.pipelines.pipelines[1]
        assert started.offline_reason is None
        assert isinstance(started, Pipeline)
        assert started.thresholds() == {"red": 0.5}
        assert scene.pipelines.pipelines[0] is driveway
        assert driveway.metrics.snapshot().restarts == 0
        assert "garden: can start now" in caplog.messages
        until(lambda: scene.retained("garden").get("status") == b"online")
    assert len(json.loads((tmp_path / "models.json").read_text())["models that passed, version 1"]) == 1


def test_an_exception_of_a_classifier_affects_its_own_pipeline_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(bundle: Any, device: str, threads: int, **settings: Any) -> object:
        if threads == 3:
            raise IndexError("index 300 is out of bounds")
        return make_classifier(bundle, device, threads, **settings)

    monkeypatch.setattr(classifiers, "make_classifier", broken)
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", model={"threads": 3})) as scene:
        until(lambda: ticked(scene) and scene.pipelines.pipelines[0].online)
        reason = str(scene.pipelines.pipelines[1].offline_reason)
        assert reason.startswith("failed unexpectedly (IndexError: index 300 is out of bounds); this is a bug")
        until(lambda: ticked(scene) and caplog.records)
        assert caplog.records[0].exc_info is not None


def test_a_pipeline_ended_by_an_exception_is_offline_with_the_reason(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        until(lambda: scene.retained("driveway").get("status") == b"online")
        failed = ended_by_a_bug(scene)
        assert not failed.online
        assert "ZeroDivisionError" in str(failed.offline_reason)
        assert scene.retained("driveway")["status"] == b"offline"
        until(lambda: ticked(scene) and scene.pipelines.pipelines[0].online)


def test_an_exception_in_an_inference_affects_its_own_pipeline_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both use the same model, and so the same worker."""
    run = CpuClassifier.run
    broken = True

    def sometimes(classifier: CpuClassifier, tensor: Any) -> Any:
        if broken and tensor.max() > 0:
            raise IndexError("index 300 is out of bounds")
        return run(classifier, tensor)

    def marked(current_plan: Callable[[], Plan]) -> Any:
        prepare = make_prepare(current_plan)
        return lambda frame: prepare(frame) * 0 + (current_plan().section.name == "garden")

    monkeypatch.setattr(CpuClassifier, "run", sometimes)
    monkeypatch.setattr("edge_classifierd.pipeline.pipeline.make_prepare", marked)
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog")) as scene:
        garden = scene.pipelines.pipelines[1]
        until(lambda: garden.failure)
        until(lambda: scene.camera("garden").closed)
        time.sleep(0.1)  # the camera's own end must not hide the reason
        assert not garden.online
        assert "IndexError: index 300" in str(garden.offline_reason)
        assert scene.retained("garden")["status"] == b"offline"
        assert ticked(scene)
        assert scene.pipelines.pipelines[0].online
        broken = False
        until(lambda: ticked(scene) and scene.pipelines.pipelines[1].online)
        assert scene.pipelines.pipelines[0].metrics.snapshot().restarts == 0


@pytest.mark.parametrize("refused", ["infer-2", "infer-3", "capture garden", "load-garden"])
def test_a_thread_that_cannot_be_started_affects_its_own_pipeline_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    start = threading.Thread.start
    shortage = True

    def limited(thread: threading.Thread) -> None:
        if shortage and (thread.name == refused or (refused == "infer-3" and thread.name == "infer-5")):
            raise RuntimeError("can't start new thread")
        start(thread)

    model: dict[str, Any] = {"threads": 2, "instances": 2}
    if refused == "load-garden":
        model = own_model(tmp_path)
        Path(model["path"]).write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        monkeypatch.setattr(threading.Thread, "start", limited)
        scene.change_to(pipeline("driveway", "cat"), pipeline("garden", model=model))
        until(lambda: ticked(scene) and scene.pipelines.pipelines[0].online)
        until(lambda: "no more threads" in str(scene.pipelines.pipelines[1].offline_reason))
        assert not scene.pipelines.pipelines[1].online
        assert scene.pipelines.pipelines[0].online
        beating = refused == "capture garden"  # there the workers run until the next attempt
        assert beating == bool({"infer-2", "infer-3"} & scene.heartbeats._stages.keys())
        shortage = False
        until(lambda: ticked(scene) and scene.pipelines.pipelines[1].online, 40)


def test_reporting_threads_that_cannot_be_started_make_all_pipelines_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    shortage = True

    def limited(thread: threading.Thread) -> None:
        if shortage and thread.name == "report-3":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "dog")) as scene:
        for one in scene.pipelines.pipelines:
            assert "no more threads" in str(one.offline_reason)
        assert not [name for name in scene.heartbeats._stages if name.startswith("report-")]
        shortage = False
        until(lambda: ticked(scene) and all(one.online for one in scene.pipelines.pipelines), 40)


def test_a_reload_keeps_a_loaded_model_whose_file_is_damaged_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = own_model(tmp_path)
    file = Path(model["path"])
    file.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
    with Scene(tmp_path, looking("garden", model)) as scene:
        until(lambda: ticked(scene) and scene.pipelines.pipelines[0].online, 40)
        (running,) = scene.pipelines.pipelines
        file.write_bytes(b"damaged")
        assert scene.change_to(looking("garden", model)) == 0
        assert scene.pipelines.pipelines == (running,)
        assert "garden: continues with the loaded model" in caplog.text
        assert scene.change_to(looking("garden", {**model, "threads": 2})) == 1, "another section"
        until(lambda: "not a TensorFlow Lite model" in str(scene.pipelines.pipelines[0].offline_reason))
        file.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
        assert scene.change_to(looking("garden", {**model, "threads": 2})) == 1, "a reload does not wait"
        until(lambda: ticked(scene) and scene.pipelines.pipelines[0].online)


def ended_by_a_bug(scene: Scene) -> Pipeline:
    """The scene's only pipeline, noticed by the supervisor."""
    (failed,) = scene.pipelines.pipelines
    scene.cameras[0].trouble = ZeroDivisionError("a bug")
    until(lambda: failed.failure)
    scene.pipelines.tick()
    return failed


def test_a_pipeline_ended_by_a_bug_restarts_with_the_plan_of_a_later_reload(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        failed = ended_by_a_bug(scene)
        scene.change_to(pipeline("driveway", "fox"))

        def ticked() -> bool:
            scene.pipelines.tick()
            return scene.pipelines.pipelines != (failed,)

        until(ticked)
        (again,) = scene.pipelines.pipelines
        assert set(again.thresholds()) == {"fox"}
        assert again.metrics.snapshot().restarts == 1
        until(lambda: again.online)
        until(lambda: scene.retained("driveway").get("fox/state") == b"OFF")


def test_a_reload_restarts_a_failed_pipeline_without_its_pause(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        ended_by_a_bug(scene)
        scene.change_to(pipeline("driveway", "cat", fit="stretch"))
        (fresh,) = scene.pipelines.pipelines
        for _ in range(10):
            scene.pipelines.tick()
            time.sleep(0.1)
        assert scene.pipelines.pipelines == (fresh,)
