"""A capture with a gate: which frames wait to be taken, and that the camera counts as delivering."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from frame_fakes import ScriptedCamera

from edge_classifierd.backoff import Backoff
from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import InferenceError, SourceError
from edge_classifierd.frames.camera import Camera, CaptureStatus
from edge_classifierd.frames.capture import Capture
from edge_classifierd.motion.gate import Focus
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_classifierd.frames.base import Frame, FrameGate

    Make = Callable[[ScriptedCamera, FrameGate | None], Capture[Frame]]

FOCUS = Focus(Region(), Region(), ends_round=True)
GONE = SourceError("camera: gone; plug it in")


class Gate:
    """Admits the frames of which `admits` returns true, and aims at the same part of each."""

    def __init__(self, admits: Callable[[Frame], bool]) -> None:
        self._admits = admits

    def admit(self, frame: Frame) -> Frame | None:
        return frame if self._admits(frame) else None

    def aim(self, frame: Frame) -> Frame:
        return replace(frame, focus=FOCUS)


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Capture[Frame]] = []

    def capture(source: ScriptedCamera, gate: FrameGate | None) -> Capture[Frame]:
        backoff = Backoff(first_s=0.001, longest_s=0.002)
        camera = Camera(source, name="porch", clock=SystemClock(), stall_timeout_s=10.0, backoff=backoff)
        made.append(Capture(camera, lambda frame: frame, name="porch", gate=gate))
        assert camera.attach(made[-1])
        made[-1].start()
        return made[-1]

    yield capture
    for each in made:
        each.stop(2.0)


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, "waited for 10 s"
        time.sleep(0.002)


def taken(capture: Capture[Frame], most: int) -> list[Frame]:
    found: list[Frame] = []
    while len(found) < most and not capture.finished:
        captured = capture.take(5.0)
        if captured is not None:
            assert captured.frame is captured.prepared
            found.append(captured.frame)
    return found


def test_only_admitted_frames_are_taken_and_they_are_aimed_when_they_are_prepared(make: Make) -> None:
    capture = make(ScriptedCamera([["frame"] * 9], live=False), Gate(lambda frame: frame.sequence % 3 == 0))
    frames = taken(capture, 9)
    assert [frame.sequence for frame in frames] == [0, 3, 6]
    assert all(frame.focus is FOCUS for frame in frames)
    assert capture.delivered == 9
    assert capture.dropped == 0


def test_a_camera_whose_frames_are_all_left_out_delivers(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    capture = make(ScriptedCamera([GONE]), Gate(lambda _: False))
    until(lambda: capture.delivered >= 3)
    assert capture.status is CaptureStatus.DELIVERING
    assert [record.getMessage() for record in caplog.records] == [
        "porch: camera: gone; plug it in (trying again until it works)",
        "porch: delivers again after 1 failed attempts",
    ]


def test_a_gate_can_be_set_and_removed_while_the_camera_runs(make: Make) -> None:
    capture = make(ScriptedCamera(), Gate(lambda _: False))
    until(lambda: capture.delivered >= 3)
    capture.set_gate(None)
    assert all(frame.focus is None for frame in taken(capture, 3))
    capture.set_gate(Gate(lambda _: True))
    until(lambda: any(frame.focus is FOCUS for frame in taken(capture, 1)))


def test_a_frame_that_the_gate_cannot_read_is_skipped(make: Make) -> None:
    def admits(frame: Frame) -> bool:
        if frame.sequence == 1:
            raise InferenceError("odd size")
        return True

    capture = make(ScriptedCamera([["frame"] * 3], live=False), Gate(admits))
    assert [frame.sequence for frame in taken(capture, 3)] == [0, 2]
    assert capture.skipped == 1


def test_a_bug_in_the_gate_ends_the_capture(make: Make) -> None:
    capture = make(ScriptedCamera(live=False), Gate(lambda frame: bool(1 // (frame.sequence - 2))))
    with pytest.raises(ZeroDivisionError):
        taken(capture, 9)
