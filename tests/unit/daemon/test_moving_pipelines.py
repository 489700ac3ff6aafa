"""The motion gate in running pipelines; the camera's clock runs faster than the wall clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from grey_scenes import Scenes
from pipelines_scene import Camera, Scene, pipeline, until

from edge_classifierd.frames.base import Frame
from edge_classifierd.mqtt.commands import SetEnabled, TakePicture
from edge_classifierd.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.health.metrics import PipelineSnapshot

MOTION = {"enabled": True, "hold": "1s", "refresh": "1h"}


class SceneCamera(Camera):
    """Shows a scene with noise; its frames are a tenth of a second apart by their times."""

    def __init__(self, name: str) -> None:
        super().__init__(name, live=True)
        self.scenes = Scenes()
        self.scene: NDArray[np.float64] | None = None
        self.count = 0
        self.begin_s = time.monotonic()

    def read(self) -> Frame | None:
        super().read()
        self.count += 1
        at_s = self.begin_s + self.count / 10
        return Frame(self.scenes.frame(self.scene), self.count, at_s, datetime.now(UTC))


class MotionScene(Scene):
    """The pipelines of a device whose cameras show scenes."""

    def _camera(self, source: Any, *_: object) -> Any:
        self.cameras.append(SceneCamera(source.device.name))
        return self.cameras[-1]

    def figures(self, name: str = "driveway") -> PipelineSnapshot:
        (found,) = [each for each in self.pipelines.pipelines if each.name == name]
        if isinstance(found, Pipeline):
            found.refresh_metrics()
        return found.metrics.snapshot()

    def frames_pass(self, camera: SceneCamera, number: int = 40) -> None:
        end = camera.count + number
        until(lambda: camera.count >= end)


def shown(scene: MotionScene) -> SceneCamera:
    camera = scene.camera("driveway")
    assert isinstance(camera, SceneCamera)
    return camera


def test_a_still_scene_is_not_classified_until_something_moves(tmp_path: Path) -> None:
    with MotionScene(tmp_path, pipeline(motion=MOTION)) as scene:
        camera = shown(scene)
        until(lambda: scene.figures().inferences == 1)
        scene.frames_pass(camera)
        assert scene.figures().inferences == 1
        assert scene.figures().gated >= 38
        assert scene.retained("driveway")["motion"] == b"OFF"
        camera.scene = camera.scenes.with_thing(60, 30)
        until(lambda: scene.retained("driveway")["motion"] == b"ON")
        until(lambda: scene.figures().inferences >= 3)
        camera.scene = None
        until(lambda: scene.retained("driveway")["motion"] == b"OFF")


def test_a_reload_that_disables_the_gate_keeps_the_camera_and_removes_the_topic(tmp_path: Path) -> None:
    with MotionScene(tmp_path, pipeline(motion=MOTION)) as scene:
        camera = shown(scene)
        until(lambda: "motion" in scene.retained("driveway"))
        assert scene.change_to(pipeline()) == 1
        until(lambda: scene.figures().inferences >= 5)
        scene.remove_topics()
        assert "motion" not in scene.retained("driveway")
        assert (camera.opened, len(scene.cameras)) == (1, 1)
        assert scene.change_to(pipeline(motion=MOTION)) == 1
        until(lambda: scene.retained("driveway").get("motion") == b"OFF")
        scene.frames_pass(camera)
        before = scene.figures().inferences
        scene.frames_pass(camera)
        assert scene.figures().inferences == before
        assert (camera.opened, len(scene.cameras)) == (1, 1)


def test_a_camera_that_is_switched_off_shows_no_motion(tmp_path: Path) -> None:
    with MotionScene(tmp_path, pipeline(motion=MOTION)) as scene:
        camera = shown(scene)
        until(lambda: scene.figures().inferences == 1)
        scene.frames_pass(camera, 25)
        camera.scene = camera.scenes.with_thing(60, 30)
        until(lambda: scene.retained("driveway")["motion"] == b"ON")
        scene.execute(SetEnabled("driveway", enabled=False))
        until(lambda: scene.retained("driveway")["motion"] == b"OFF")


def test_a_pipeline_that_is_removed_takes_its_motion_topic_with_it(tmp_path: Path) -> None:
    with MotionScene(tmp_path, pipeline(motion=MOTION), pipeline("garden")) as scene:
        until(lambda: "motion" in scene.retained("driveway"))
        scene.change_to(pipeline("garden"))
        scene.remove_topics()
        assert scene.retained("driveway") == {}


def test_a_requested_picture_does_not_wait_for_motion(tmp_path: Path) -> None:
    with MotionScene(tmp_path, pipeline(motion=MOTION)) as scene:
        until(lambda: scene.figures().inferences == 1)
        scene.frames_pass(shown(scene))
        assert "image" not in scene.retained("driveway")
        scene.execute(TakePicture("driveway"))
        until(lambda: "image" in scene.retained("driveway"))
        until(lambda: scene.figures().inferences == 2)  # counted after the picture is out
        scene.frames_pass(shown(scene))
        assert scene.figures().inferences == 2
