from __future__ import annotations

import errno
import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.sources import Source
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.factory import make_source
from edge_classifierd.frames.folder import FolderSource
from edge_classifierd.frames.network.snapshot import SnapshotSource
from edge_classifierd.frames.network.stream_source import NetworkSource
from edge_classifierd.frames.picamera.source import Picamera2Source
from edge_classifierd.frames.stream import VideoFileSource
from edge_classifierd.frames.v4l2 import V4l2Source
from edge_classifierd.frames.watch.folder_watch import FolderWatch


@pytest.mark.parametrize(
    ("section", "kind", "live"),
    [
        ({"type": "folder", "path": "/nowhere"}, FolderSource, False),
        ({"type": "folder", "path": "/nowhere", "watch": True, "after": "delete"}, FolderWatch, False),
        ({"type": "snapshot", "url": "http://porch/picture.jpg"}, SnapshotSource, True),
        ({"type": "stream", "url": "udp://@239.0.0.1:5000"}, NetworkSource, True),
        ({"type": "stream", "url": "/nowhere/a.mp4"}, VideoFileSource, True),
        ({"type": "stream", "url": "/nowhere/a.mp4", "paced": False}, VideoFileSource, False),
        ({"type": "stream", "url": "rtsp://porch/live"}, NetworkSource, True),
        ({"type": "stream", "url": "http://porch/live"}, NetworkSource, True),
        ({"type": "v4l2", "device": "/nowhere"}, V4l2Source, True),
        ({"type": "picamera2"}, Picamera2Source, True),
    ],
)
def test_every_section_makes_its_source_without_touching_anything(
    section: dict[str, object], kind: type, live: bool
) -> None:
    made = make_source(TypeAdapter(Source).validate_python(section), SystemClock())
    assert type(made) is kind
    assert (made.live, made.skipped, made.pauses_until_s) == (live, 0, -inf)
    made.close()


def test_making_a_source_loads_ffmpeg_only_when_it_is_needed() -> None:
    code = "import sys, edge_classifierd.frames.factory; sys.exit('av' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def camera(device: Path) -> V4l2Source:
    return V4l2Source(
        device, width=640, height=480, fps=30, input_format="mjpeg", stall_timeout_s=2, clock=SystemClock()
    )


def test_a_camera_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(SourceError, match=r"^/dev/video97: no such device; "):
        camera(Path("/dev/video97")).open()


def test_a_file_in_place_of_a_camera_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "video0").write_text("x")
    with pytest.raises(SourceError, match="video0: not a video device; see"):
        camera(tmp_path / "video0").open()


def test_another_kind_of_device_is_one_sentence() -> None:
    made = camera(Path("/dev/null"))
    with pytest.raises(SourceError, match=r"^/dev/null: not a video capture device; see"):
        made.open()
    made.close()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, '/dev/null: permission denied; add the service user to the group "video"'),
        (errno.EBUSY, "/dev/null: in use by another program; stop that"),
        (errno.ENODEV, "/dev/null: no such device; connect the camera"),
        (errno.EMFILE, "/dev/null: Too many open files; see"),
    ],
)
def test_what_the_kernel_refuses_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(SourceError) as caught:
        camera(Path("/dev/null")).open()
    assert str(caught.value).startswith(words)


def test_cancelling_and_closing_a_camera_that_was_never_opened_is_fine() -> None:
    made = camera(Path("/dev/video97"))
    made.cancel()
    made.close()
    with pytest.raises(SourceError, match="not open"):
        made.read()
