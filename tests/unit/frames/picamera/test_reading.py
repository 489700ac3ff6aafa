"""Reading, pacing, stalling and cancelling of the Raspberry Pi camera."""

from __future__ import annotations

import threading
import time

import pytest
from picamera_stand_in import Hardware, opened

from edge_classifierd.errors import SourceError


def test_frames_come_numbered_in_the_wanted_size_and_every_request_is_given_back(hardware: Hardware) -> None:
    camera = opened()
    frames = [camera.read() for _ in range(20)]
    assert [frame.sequence for frame in frames] == list(range(20))
    picture = frames[0].picture
    assert (picture.format.name, picture.width, picture.height) == ("yuv420p", 1280, 720)
    assert hardware.requests_out == 0
    camera.close()


def test_a_request_is_given_back_even_when_its_buffer_fails(hardware: Hardware) -> None:
    camera = opened()
    hardware.short = True
    with pytest.raises(SourceError, match=r"^camera 0: buffer is gone; check its cable"):
        camera.read()
    camera.close()


def test_a_silent_camera_is_a_stall_and_can_be_opened_again(hardware: Hardware) -> None:
    camera = opened()
    hardware.silent = True
    begun = time.monotonic()
    with pytest.raises(SourceError, match=r"^camera 0: no picture for 0.2 s; check its cable"):
        camera.read()
    assert 0.15 < time.monotonic() - begun < 2
    camera.close()
    hardware.silent = False
    camera.open()
    assert camera.read().sequence == 0
    camera.close()


def test_cancelling_ends_a_read_that_waits_and_holds_until_close(hardware: Hardware) -> None:
    camera = opened(stall_timeout_s=60)
    hardware.silent = True
    threading.Timer(0.05, camera.cancel).start()
    with pytest.raises(SourceError, match="reading was cancelled"):
        camera.read()
    with pytest.raises(SourceError, match="reading was cancelled"):
        camera.read()
    camera.close()
    hardware.silent = False
    camera.open()
    camera.read()
    camera.close()


def test_a_rate_beyond_the_cameras_limits_is_kept_by_waiting(hardware: Hardware) -> None:
    begun = time.monotonic()
    camera = opened(fps=50)
    assert hardware.set["FrameDurationLimits"] == (20000, 20000)
    for _ in range(11):
        camera.read()
    assert 0.18 < time.monotonic() - begun < 5
    camera.close()
    camera = opened(fps=1)
    assert hardware.set["FrameDurationLimits"] == (500000, 500000)
    camera.close()
