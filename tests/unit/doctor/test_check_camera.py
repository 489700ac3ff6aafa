"""The check of a camera."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from examination_scene import plan_for
from moving_pictures import encoded, picture, write_video
from pipelines_scene import Camera

from edge_classifierd.clock import SystemClock
from edge_classifierd.doctor import check_camera
from edge_classifierd.doctor.check_camera import check_pipeline_camera
from edge_classifierd.doctor.picture_quality import PictureQuality
from edge_classifierd.frames.capture import Capture
from edge_classifierd.frames.factory import make_source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"brightness": 10.0}, ""),
        ({"brightness": 9.9}, "black"),
        ({"brightness": 245.0}, ""),
        ({"brightness": 245.1}, "white"),
        ({"contrast": 3.0}, ""),
        ({"contrast": 2.9}, "the picture has no contrast"),
        ({"sharpness": 20.0}, ""),
        ({"sharpness": 19.9}, "blurred"),
        ({"brightness": 1.0, "contrast": 0.0, "sharpness": 0.0}, "black"),
    ],
)
def test_the_worst_of_a_picture_is_complained_of(changes: dict[str, float], words: str) -> None:
    figures: dict[str, Any] = {"width": 640, "height": 480, "brightness": 100.0, "contrast": 50.0, "sharpness": 200.0}
    complaint, remedy = check_camera._defect(PictureQuality(**{**figures, **changes}))
    assert bool(complaint) == bool(remedy) == bool(words)
    assert words in complaint


def test_a_camera_is_watched_for_a_while_and_its_rate_told(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", [100] * 60, noise=True)
    plan = plan_for(tmp_path, {"type": "stream", "url": str(tmp_path / "v.avi")})
    finding = check_pipeline_camera(plan, SystemClock())
    assert "160x120 at " in finding.sentence
    half = plan_for(tmp_path, {"type": "stream", "url": str(tmp_path / "v.avi")}, region={"width": 0.5})
    assert "80x120 at " in check_pipeline_camera(half, SystemClock()).sentence
    assert finding.name == "camera porch"


@pytest.mark.parametrize(
    ("source", "watched_s"),
    [
        ({"type": "stream", "url": "v.avi"}, 20.0),  # is over before
        ({"type": "folder", "path": "pictures", "loop": True}, 20.0),  # one picture is enough
        ({"type": "v4l2"}, 0.5),  # goes on for ever
    ],
)
def test_a_look_takes_no_longer_than_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], watched_s: float
) -> None:
    write_video(tmp_path / "v.avi", [100] * 5, noise=True)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(encoded(picture(100, noise=True)))
    monkeypatch.setattr(check_camera, "_FIRST_FRAME_S", 25.0)
    monkeypatch.setattr(check_camera, "_WATCHED_S", watched_s)
    make: Any = (lambda *_: Camera("porch", live=True)) if source["type"] == "v4l2" else make_source
    start_s = time.monotonic()
    finding = check_pipeline_camera(plan_for(tmp_path, source), SystemClock(), make=make)
    assert time.monotonic() - start_s < 15
    assert finding.verdict == "ok"


def test_a_camera_that_says_nothing_fails_with_a_remedy_and_one_that_does_not_close_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mute:
        last_error = ""
        finished = False
        status = None

        def __init__(self, *_: object, **__: object) -> None: ...

        def start(self) -> None: ...

        def take(self, _timeout_s: float) -> None: ...

        def stop(self, _timeout_s: float) -> bool:
            return False

    plan = plan_for(tmp_path, {"type": "v4l2", "device": "/dev/video97"})
    monkeypatch.setattr(check_camera, "_FIRST_FRAME_S", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(check_camera, "Capture", Mute)
        finding = check_pipeline_camera(plan, SystemClock())
        assert (finding.verdict, finding.missing, finding.remedy) == ("failed", False, "check the camera")
    write_video(tmp_path / "v.avi", [100] * 30, noise=True)
    plan = plan_for(tmp_path, {"type": "stream", "url": str(tmp_path / "v.avi")})
    stop = Capture.stop

    def stuck(capture: Any, timeout_s: float) -> bool:
        stop(capture, timeout_s)
        return False

    monkeypatch.setattr(Capture, "stop", stuck)
    finding = check_pipeline_camera(plan, SystemClock())
    assert (finding.verdict, finding.remedy) == ("warning", "unplug it and plug it in again")
