"""Cameras that several pipelines share: one capture thread, faults reach all, changes affect one."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from pipelines_scene import Scene, until

from edge_classifierd.errors import SourceError
from edge_classifierd.mqtt.commands import SetEnabled
from edge_classifierd.pipeline.cameras import common_size
from edge_classifierd.pipeline.preparation import make_prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.pipeline.planning.plan import Plan

TOP = {"x": 0.0, "y": 0.0, "width": 1.0, "height": 0.5}


def on_camera(name: str, **keys: Any) -> dict[str, Any]:
    watch = {"name": "cat", "labels": [281], "threshold": 0.99}
    return {"name": name, "camera": "yard", "model": {"threads": 1}, "watches": [watch], **keys}


def capture_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("capture")]


def all_online(scene: Scene) -> bool:
    scene.pipelines.tick()
    return all(one.online for one in scene.pipelines.pipelines)


def inferences(scene: Scene) -> list[int]:
    return [one.metrics.snapshot().inferences for one in scene.pipelines.pipelines]


def progress_of_all(scene: Scene) -> None:
    before = inferences(scene)
    until(lambda: all(now > count + 2 for now, count in zip(inferences(scene), before, strict=True)))


@pytest.mark.parametrize("model", [{"threads": 1}, {"threads": 1, "instances": 2}])
def test_pipelines_of_one_camera_share_its_source_and_thread(tmp_path: Path, model: dict[str, Any]) -> None:
    sections = [on_camera("gate", region=TOP, model=model), on_camera("drive", fit="letterbox", model=model)]
    with Scene(tmp_path, *sections, cameras=("yard",)) as scene:
        until(lambda: all_online(scene))
        progress_of_all(scene)
        assert len(scene.cameras) == 1
        assert scene.cameras[0].opened == 1
        assert capture_threads() == ["capture camera yard"]
        for name in ("gate", "drive"):
            assert scene.retained(name)["status"] == b"online"
    assert scene.cameras[0].closed == 1
    assert not capture_threads()


def test_a_fault_and_a_recovery_of_a_camera_reach_all_its_pipelines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Scene(tmp_path, on_camera("gate"), on_camera("drive"), cameras=("yard",)) as scene:
        until(lambda: all_online(scene))
        scene.cameras[0].trouble = SourceError("yard: unplugged; plug it in")
        until(lambda: scene.retained("gate")["status"] == scene.retained("drive")["status"] == b"offline")
        assert [one.offline_reason for one in scene.pipelines.pipelines] == ["yard: unplugged; plug it in"] * 2
        until(lambda: all_online(scene))
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
            "camera yard: yard: unplugged; plug it in (trying again until it works)"
        ]
        assert len(scene.cameras) == 1


def test_a_bug_of_a_camera_restarts_all_its_pipelines_with_one_new_camera(tmp_path: Path) -> None:
    with Scene(tmp_path, on_camera("gate"), on_camera("drive"), cameras=("yard",)) as scene:
        until(lambda: all_online(scene))
        scene.cameras[0].trouble = ZeroDivisionError("a bug")
        until(lambda: scene.pipelines.tick() or all(one.failure for one in scene.pipelines.pipelines))
        until(lambda: all_online(scene) and not any(one.failure for one in scene.pipelines.pipelines), 30)
        progress_of_all(scene)
        assert [camera.opened for camera in scene.cameras] == [1, 1]
        assert capture_threads() == ["capture camera yard"]


def test_a_reload_that_changes_one_pipeline_leaves_the_camera_and_the_others_running(tmp_path: Path) -> None:
    with Scene(tmp_path, on_camera("gate"), on_camera("drive"), cameras=("yard",)) as scene:
        until(lambda: all_online(scene))
        gate = scene.pipelines.pipelines[0]
        assert scene.change_to(on_camera("gate"), on_camera("drive", region=TOP)) == 1
        until(lambda: all_online(scene))
        progress_of_all(scene)
        assert scene.change_to(on_camera("gate")) == 0
        assert scene.change_to(on_camera("gate"), on_camera("drive"), on_camera("door")) == 2
        until(lambda: all_online(scene))
        progress_of_all(scene)
        assert scene.pipelines.pipelines[0] is gate
        assert gate.metrics.snapshot().restarts == 0
        assert [(camera.opened, camera.closed) for camera in scene.cameras] == [(1, 0)]


def test_a_reload_that_changes_the_camera_restarts_all_its_pipelines(tmp_path: Path) -> None:
    with Scene(tmp_path, on_camera("gate"), on_camera("drive"), cameras=("yard",)) as scene:
        until(lambda: all_online(scene))
        scene.configured_cameras[0]["source"]["device"] = "/dev/other"
        assert scene.change_to(on_camera("gate"), on_camera("drive")) == 2
        until(lambda: all_online(scene))
        assert [(camera.pipeline, camera.opened) for camera in scene.cameras] == [("yard", 1), ("other", 1)]
        assert scene.cameras[0].closed == 1


def test_a_disabled_pipeline_leaves_the_camera_to_the_others(tmp_path: Path) -> None:
    with Scene(tmp_path, on_camera("gate"), on_camera("drive"), cameras=("yard",)) as scene:
        until(lambda: all_online(scene))
        gate, drive = scene.pipelines.pipelines
        scene.execute(SetEnabled("gate", False))
        until(lambda: scene.retained("gate")["status"] == b"offline")
        assert gate.offline_reason is None
        so_far = drive.metrics.snapshot().inferences
        until(lambda: drive.metrics.snapshot().inferences > so_far + 2)
        assert scene.retained("drive")["status"] == b"online"
        scene.execute(SetEnabled("drive", False))
        until(lambda: scene.cameras[0].closed == 1)
        scene.execute(SetEnabled("gate", True))
        until(lambda: gate.online)
        assert not drive.online
        assert [camera.opened for camera in scene.cameras] == [1, 1]


def test_a_bug_of_one_pipeline_leaves_the_camera_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(current_plan: Callable[[], Plan]) -> Any:
        return (lambda _frame: 1 // 0) if current_plan().section.name == "gate" else make_prepare(current_plan)

    monkeypatch.setattr("edge_classifierd.pipeline.pipeline.make_prepare", broken)
    with Scene(tmp_path, on_camera("gate"), on_camera("drive"), cameras=("yard",)) as scene:
        gate, drive = scene.pipelines.pipelines
        until(lambda: drive.metrics.snapshot().inferences > 2)
        assert gate.failure is not None
        assert drive.failure is None
        assert len(scene.cameras) == 1


def test_each_pipeline_of_a_camera_has_its_own_rate(tmp_path: Path) -> None:
    sections = [on_camera("gate", max_fps=5.0), on_camera("drive")]
    with Scene(tmp_path, *sections, cameras=("yard",)) as scene:
        until(lambda: all_online(scene))
        gate, drive = scene.pipelines.pipelines
        start_s, before = time.monotonic(), gate.metrics.snapshot().inferences
        until(lambda: drive.metrics.snapshot().inferences > 40)
        classified, took_s = gate.metrics.snapshot().inferences - before, time.monotonic() - start_s
        assert 0 < classified <= 5.5 * took_s + 1  # the camera delivers up to 50 frames per second
        assert scene.change_to(on_camera("gate"), on_camera("drive")) == 1
        so_far = [one.metrics.snapshot().inferences for one in (gate, drive)]
        until(lambda: drive.metrics.snapshot().inferences > so_far[1] + 20)
        assert gate.metrics.snapshot().inferences > so_far[0] + 10
        assert scene.cameras[0].opened == 1


def test_a_camera_that_scales_serves_as_many_models_as_possible_with_one_size() -> None:
    assert common_size([(224, 168), (300, 225)], 1280, 720) == (300, 225)
    assert common_size([(1000, 700), (224, 168)], 1280, 720) == (224, 168)
    assert common_size([(1000, 700)], 1280, 720) == (1000, 700)
    assert common_size([(700, 100), (100, 700), (200, 200)], 1280, 720) == (700, 200)


def test_a_camera_that_scales_is_opened_for_the_plans_of_all_its_pipelines(tmp_path: Path) -> None:
    scene = Scene(tmp_path, on_camera("gate", region=TOP), on_camera("drive"), cameras=("yard",))
    needs = []
    cameras = scene.pipelines._around.cameras
    make = cameras._make_source

    def make_source(source: Any, clock: Any, region: Any, need: Any) -> Any:
        needs.append(need)
        assert (region.width, region.height) == (1.0, 1.0)
        return make(source, clock, region, need)

    cameras._make_source = make_source
    with scene:
        until(lambda: all_online(scene))
        alone = [plan.preprocessor().needs(1280, 720) for plan in scene.pipelines.plans if hasattr(plan, "bundle")]
        assert alone[0] != alone[1]
        assert needs[0](1280, 720) == max(alone)
        scene.change_to(on_camera("drive"))
        assert needs[0](1280, 720) == alone[1]
