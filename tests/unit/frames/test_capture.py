from __future__ import annotations

import gc
import logging
import threading
import time
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from frame_fakes import ManualClock, ScriptedCamera

from edge_classifierd.backoff import Backoff
from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import InferenceError, MissingError, SourceError
from edge_classifierd.frames.camera import FRESHNESS_S, Camera, CaptureStatus
from edge_classifierd.frames.capture import Capture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_classifierd.frames.base import Frame

QUICK = Backoff(first_s=0.001, longest_s=0.002)
GONE = SourceError("camera: gone; plug it in")


class Bench:
    """Makes captures and stops them at the end of the test."""

    def __init__(self) -> None:
        self.statuses: list[tuple[CaptureStatus, str]] = []
        self._captures: list[Capture[int]] = []

    def capture(
        self,
        camera: ScriptedCamera,
        prepare: Callable[[Frame], int] = lambda frame: frame.sequence,
        *,
        stall_timeout_s: float = 10.0,
        backoff: Backoff = QUICK,
        clock: Any = None,
    ) -> Capture[int]:
        reader = Camera(
            camera, name="porch", clock=clock or SystemClock(), stall_timeout_s=stall_timeout_s, backoff=backoff
        )
        return self.attach(reader, prepare)

    def attach(self, camera: Camera, prepare: Callable[[Frame], int], **options: Any) -> Capture[int]:
        made = Capture(
            camera,
            prepare,
            name="porch",
            on_status=lambda status, sentence: self.statuses.append((status, sentence)),
            **options,
        )
        assert camera.attach(made)
        self._captures.append(made)
        made.start()
        return made

    def stop(self) -> None:
        for made in self._captures:
            made.stop(2.0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.stop()


def taken(capture: Capture[int], most: int) -> list[int]:
    found: list[int] = []
    while len(found) < most and not capture.finished:
        captured = capture.take(5.0)
        if captured is not None:
            found.append(captured.prepared)
    return found


def camera_of(capture: Capture[int]) -> Camera:
    return capture._camera


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline_s, "waited for 5 s"
        time.sleep(0.002)


def test_a_slow_reader_of_a_live_source_gets_fresh_frames_and_stale_ones_are_counted(bench: Bench) -> None:
    camera = ScriptedCamera()
    capture = bench.capture(camera)
    found = []
    for _ in range(5):
        time.sleep(0.1)
        captured = capture.take(1.0)
        assert captured is not None
        found.append(captured.prepared)
    until(lambda: camera.reads > found[-1] + 1)
    assert all(later - earlier >= 3 for earlier, later in pairwise(found))
    assert capture.dropped >= found[-1] - 5
    # An unlimited camera is not read faster than a frame may go stale: 0.5 s hold 50 of 10 ms.
    assert found[-1] <= 0.7 / FRESHNESS_S


@pytest.mark.parametrize("live", [True, False])
def test_the_next_frame_is_read_when_it_is_requested(bench: Bench, live: bool) -> None:
    """Earlier it would compete with the preparation of this one."""
    camera = ScriptedCamera([["frame"] * 3], live=live)
    capture = bench.capture(camera)
    assert capture.take(1.0, request_next=False) is not None
    if not live:  # a live one goes on after 10 ms
        time.sleep(0.1)
        assert camera.reads == 1
    capture.request_next()
    until(lambda: camera.reads >= 2)


def test_a_source_that_is_not_live_never_loses_a_frame(bench: Bench) -> None:
    capture = bench.capture(ScriptedCamera([["frame"] * 30], live=False))
    found = []
    while not capture.finished:
        if (captured := capture.take(1.0)) is not None:
            found.append(captured.prepared)
            if captured.prepared % 10 == 0:
                time.sleep(3 * FRESHNESS_S)
    assert found == list(range(30))
    assert (capture.delivered, capture.dropped) == (30, 0)


def test_a_fast_reader_gets_every_frame_of_a_live_source(bench: Bench) -> None:
    capture = bench.capture(ScriptedCamera([["frame"] * 200]))
    assert len(taken(capture, 200)) + capture.dropped == 200
    assert capture.dropped <= 5  # a busy machine may be late for a few


def test_preparing_happens_in_the_capture_thread(bench: Bench) -> None:
    capture = bench.capture(ScriptedCamera(), lambda _frame: threading.get_ident())
    captured = capture.take(2.0)
    assert captured is not None
    assert captured.prepared != threading.get_ident()
    assert "capture porch" in {thread.name for thread in threading.enumerate()}


def test_a_source_is_finished_after_its_last_frame(bench: Bench) -> None:
    capture = bench.capture(ScriptedCamera([["frame"]]))
    until(lambda: capture.status is CaptureStatus.FINISHED)
    assert not capture.finished
    assert capture.take(0.0) is not None
    assert capture.finished
    began = time.monotonic()
    assert capture.take(60.0) is None
    assert time.monotonic() - began < 30
    assert [status for status, _ in bench.statuses] == [CaptureStatus.DELIVERING, CaptureStatus.FINISHED]
    assert capture.stop(1.0)
    assert capture.last_beat_s == inf


def test_failures_are_retried_with_one_warning_a_cycle_and_an_info_at_its_end(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    capture = bench.capture(ScriptedCamera([GONE, GONE, ["frame", SourceError("camera: lost")], GONE]))
    assert taken(capture, 3) == [0, 1, 2]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "porch: camera: gone; plug it in (trying again until it works)"),
        ("INFO", "porch: delivers again after 2 failed attempts"),
    ]
    assert bench.statuses == [
        (CaptureStatus.RETRYING, "camera: gone; plug it in"),
        (CaptureStatus.DELIVERING, ""),
        (CaptureStatus.RETRYING, "camera: lost"),
        (CaptureStatus.DELIVERING, ""),
    ]
    assert capture.last_error == "camera: gone; plug it in"


def test_a_failure_after_steady_delivery_begins_a_new_cycle(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    camera = ScriptedCamera([GONE, ["frame", "frame", GONE]])

    def time_passes() -> None:
        clock.now_s += 6.0

    camera.before_read = time_passes
    capture = bench.capture(camera, clock=clock, stall_timeout_s=1000.0)
    taken(capture, 4)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_waiting_to_retry_ends_at_once_when_stopped(bench: Bench) -> None:
    capture = bench.capture(ScriptedCamera([GONE] * 9), backoff=Backoff(60, 60))
    until(lambda: capture.status is CaptureStatus.RETRYING)
    before_s = capture.last_beat_s
    time.sleep(0.05)
    assert capture.last_beat_s > before_s  # a planned wait counts as progress
    assert capture.stop(5.0)  # False, had it waited to the end
    assert capture.status is CaptureStatus.STOPPED


def test_a_missing_library_is_retried_rarely(bench: Bench) -> None:
    camera = ScriptedCamera([MissingError("picamera2: not installed; apt install it")] * 9)
    capture = bench.capture(camera, backoff=Backoff(0.001, 0.001))
    until(lambda: capture.status is CaptureStatus.RETRYING)
    time.sleep(0.1)
    assert camera.opened == 1
    assert "not installed" in capture.last_error


def test_a_camera_that_hangs_is_reopened_after_the_stall_timeout(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    camera = ScriptedCamera([["frame", "hang"]])
    capture = bench.capture(camera, stall_timeout_s=0.2)
    assert taken(capture, 1) == [0]
    began = time.monotonic()
    captured = capture.take(5.0)
    assert captured is not None
    assert captured.prepared == 1
    assert 0.2 <= time.monotonic() - began < 3
    assert camera.opened == 2
    assert "porch: the source delivered no frame for 0.2 s" in caplog.text


def test_a_read_that_ignores_being_cancelled_stops_the_beat(bench: Bench) -> None:
    camera = ScriptedCamera([["deaf"]])
    capture = bench.capture(camera, stall_timeout_s=1.0)
    begun_s = time.monotonic()
    until(lambda: camera.reads)
    assert capture.take(0.2) is None
    assert capture.last_beat_s > begun_s + 0.15  # within the stall timeout it goes on
    until(lambda: time.monotonic() - capture.last_beat_s > 0.25)
    assert not capture.stop(0.05)
    camera.wake.set()
    assert capture.stop(2.0)


def test_a_planned_pause_is_no_stall(bench: Bench) -> None:
    camera = ScriptedCamera([["deaf", "frame"]])
    camera.pauses_until_s = time.monotonic() + 60
    capture = bench.capture(camera, stall_timeout_s=0.05)
    for _ in range(4):
        assert capture.take(0.05) is None
    assert time.monotonic() - capture.last_beat_s < 0.02
    camera.wake.set()
    assert capture.take(2.0) is not None
    assert camera.opened == 1


@pytest.mark.parametrize("live", [True, False])
def test_a_pause_that_does_not_end_stops_the_beat(bench: Bench, live: bool) -> None:
    clock = ManualClock()
    camera = ScriptedCamera([["deaf"]], live=live)
    camera.pauses_until_s = clock.now_s + 100.0
    capture = bench.capture(camera, stall_timeout_s=10.0, clock=clock)
    until(lambda: camera.reads)
    clock.now_s += 99.0
    camera_of(capture).check_stall()
    assert capture.last_beat_s == clock.now_s, "a planned wait counts as progress"
    assert not camera.cancelled.is_set()
    clock.now_s += 30.0  # the thread still waits, as if it were frozen
    assert clock.now_s - capture.last_beat_s == (19.0 if live else 29.0)
    camera_of(capture).check_stall()
    assert camera.cancelled.is_set() == live
    camera.wake.set()


def test_a_slow_source_that_is_not_live_is_not_cancelled(bench: Bench) -> None:
    camera = ScriptedCamera([["deaf"]], live=False)
    capture = bench.capture(camera, stall_timeout_s=0.05)
    for _ in range(4):
        assert capture.take(0.05) is None
    assert not camera.cancelled.is_set()
    camera.wake.set()
    assert capture.take(2.0) is not None


def test_a_thread_that_does_not_return_from_a_retry_stops_the_beat(bench: Bench) -> None:
    clock = ManualClock()
    slow = Backoff(first_s=60.0, longest_s=60.0)
    capture = bench.capture(ScriptedCamera([GONE]), stall_timeout_s=10.0, backoff=slow, clock=clock)
    deadline_s = time.monotonic() + 5
    while capture.status is not CaptureStatus.RETRYING:
        assert time.monotonic() < deadline_s
    time.sleep(0.1)  # now it has begun to wait
    started_s = clock.now_s
    clock.now_s += 30.0
    assert capture.last_beat_s == clock.now_s, "a planned wait counts as progress"
    clock.now_s += 200.0  # the thread itself still waits, as if it were frozen
    assert capture.last_beat_s <= started_s + 60.0 + 10.0


def test_an_offer_that_waits_counts_as_progress(bench: Bench) -> None:
    capture = bench.capture(ScriptedCamera(live=False))
    until(lambda: capture.delivered)
    time.sleep(0.1)
    assert time.monotonic() - capture.last_beat_s < 0.05
    assert capture.stop(2.0)


def test_a_frame_that_cannot_be_prepared_is_skipped_with_one_warning(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(frame: Frame) -> int:
        if frame.sequence in {1, 3}:
            raise InferenceError("odd size")
        return frame.sequence

    capture = bench.capture(ScriptedCamera([["frame"] * 5], live=False), prepare)
    assert taken(capture, 9) == [0, 2, 4]
    assert capture.skipped == 2
    assert [record.getMessage() for record in caplog.records] == ["porch: skipped a frame: odd size"]


def test_take_raises_a_bug_with_its_traceback(bench: Bench) -> None:
    def prepare(frame: Frame) -> int:
        return 1 // (1 - frame.sequence)

    camera = ScriptedCamera(live=False)
    capture = bench.capture(camera, prepare)
    assert capture.take(2.0) is not None
    with pytest.raises(ZeroDivisionError) as caught:
        capture.take(2.0)
    assert any(entry.name == "prepare" for entry in caught.traceback)
    assert camera.closed == 1
    assert not capture.finished


def test_take_raises_a_bug_of_the_source(bench: Bench) -> None:
    capture = bench.capture(ScriptedCamera([[KeyError("x")]]))
    with pytest.raises(KeyError):
        capture.take(2.0)
    assert bench.statuses == [(CaptureStatus.STOPPED, "KeyError: 'x'")]


def test_stopping_ends_a_blocked_read_and_a_blocked_take(bench: Bench) -> None:
    camera = ScriptedCamera([["hang"]])
    capture = bench.capture(camera)
    until(lambda: camera.reads)
    threading.Timer(0.1, lambda: capture.stop(2.0)).start()
    began = time.monotonic()
    assert capture.take(10.0) is None
    assert time.monotonic() - began < 2
    assert capture.stop(2.0)
    assert capture.finished
    assert camera.closed


def test_all_captures_of_a_camera_get_every_frame_of_a_source_that_is_not_live() -> None:
    camera = ScriptedCamera([["frame"] * 20], live=False)
    reader = Camera(camera, name="porch", clock=SystemClock(), stall_timeout_s=10.0)
    found: list[list[int]] = [[], []]
    first, second = (Capture(reader, lambda frame: frame.sequence, name=name) for name in ("gate", "drive"))
    for capture in (first, second):
        assert reader.attach(capture)
    slow = threading.Thread(target=lambda: (time.sleep(0.1), found[1].extend(taken(second, 20))))
    slow.start()
    first.start()
    found[0] = taken(first, 20)
    slow.join(10)
    assert found == [list(range(20))] * 2
    assert (first.dropped, second.dropped) == (0, 0)
    until(lambda: not reader.attach(Capture(reader, id, name="late")))


def test_a_capture_that_is_not_read_does_not_slow_down_the_others_of_a_live_source(bench: Bench) -> None:
    reader = Camera(ScriptedCamera(), name="porch", clock=SystemClock(), stall_timeout_s=10.0)
    idle, busy = bench.attach(reader, lambda frame: frame.sequence), bench.attach(reader, lambda frame: frame.sequence)
    assert len(taken(busy, 20)) == 20
    assert idle.dropped >= 10
    assert idle.stop(2.0)
    assert len(taken(busy, 20)) == 20, "the camera continues"
    assert busy.stop(2.0)


def test_a_capture_that_leaves_while_the_camera_waits_for_it_does_not_block_the_others(bench: Bench) -> None:
    source = ScriptedCamera(live=False)
    reader = Camera(source, name="porch", clock=SystemClock(), stall_timeout_s=10.0, wait_for=2)
    idle, busy = bench.attach(reader, lambda frame: frame.sequence), bench.attach(reader, lambda frame: frame.sequence)
    until(lambda: idle.delivered and busy.delivered)
    assert busy.take(1.0) is not None
    assert idle.stop(2.0)
    assert len(taken(busy, 5)) == 5


def test_a_capture_joins_a_camera_that_fails_with_its_reason(bench: Bench) -> None:
    reader = Camera(
        ScriptedCamera([GONE] * 9), name="porch", clock=SystemClock(), stall_timeout_s=10.0, backoff=Backoff(60, 60)
    )
    first = bench.attach(reader, lambda frame: frame.sequence)
    until(lambda: first.status is CaptureStatus.RETRYING)
    second = bench.attach(reader, lambda frame: frame.sequence)
    assert (second.status, second.last_error) == (CaptureStatus.RETRYING, str(GONE))


def test_a_bug_in_prepare_ends_its_own_capture_only(bench: Bench) -> None:
    reader = Camera(ScriptedCamera(), name="porch", clock=SystemClock(), stall_timeout_s=10.0)
    broken = bench.attach(reader, lambda frame: 1 // (frame.sequence - 2))
    sound = bench.attach(reader, lambda frame: frame.sequence)
    with pytest.raises(ZeroDivisionError):
        taken(broken, 99)
    assert len(taken(sound, 20)) == 20


def test_a_capture_can_prepare_in_the_thread_that_takes(bench: Bench) -> None:
    def prepare(frame: Frame) -> int:
        if frame.sequence == 1:
            raise InferenceError("odd size")
        return threading.get_ident()

    reader = Camera(ScriptedCamera(live=False), name="porch", clock=SystemClock(), stall_timeout_s=10.0)
    capture = bench.attach(reader, prepare, prepare_when_taken=True)
    assert taken(capture, 3) == [threading.get_ident()] * 3
    assert capture.skipped == 1


def test_a_thousand_captures_leave_no_thread_behind() -> None:
    before = threading.active_count()
    for number in range(1000):
        camera = ScriptedCamera([["frame"] * (number % 3)])
        reader = Camera(camera, name="n", clock=SystemClock(), stall_timeout_s=10)
        capture = Capture(reader, lambda frame: frame, name="n")
        reader.attach(capture)
        capture.start()
        capture.take(1.0)
        assert capture.stop(2.0)
        assert camera.closed
    gc.collect()
    assert threading.active_count() <= before


def test_stopping_without_starting_is_fine() -> None:
    camera = Camera(ScriptedCamera(), name="n", clock=SystemClock(), stall_timeout_s=10)
    assert Capture(camera, id, name="n").stop(1.0)
