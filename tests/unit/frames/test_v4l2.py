"""A Video4Linux camera that is not there, or is none: each is one sentence with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.v4l2 import V4l2Source


def camera(device: Path) -> V4l2Source:
    return V4l2Source(device, width=640, height=480, stall_timeout_s=1.0, clock=SystemClock())


def test_what_is_no_camera_is_one_sentence_and_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for device, words in (
        (tmp_path / "video7", "no such device; connect the camera"),
        (tmp_path / "file/video0", "no such device; connect the camera"),
        (tmp_path / "file", "not a video device; see"),
        (Path("/dev/null"), "not a video capture device; see"),
    ):
        made = camera(device)
        with pytest.raises(SourceError, match=f"^{device}: {words}"):
            made.open()
        made.close()
        made.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_reading_before_opening_is_refused() -> None:
    with pytest.raises(SourceError, match="not open"):
        camera(Path("/dev/video0")).read()
