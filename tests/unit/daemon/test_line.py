"""The line: what goes through a classifier side by side comes out in order, whole, and stops when it is told to."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import stand_in
from fleet_scene import Scene, pipeline, until
from moving_pictures import picture

from edge_classifierd.clock import SystemClock
from edge_classifierd.daemon.classifiers import SharedClassifier
from edge_classifierd.daemon.line import STUCK_AFTER_S, Classified, Line, make_line
from edge_classifierd.errors import InferenceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.capture import Capture
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.inference.base import Inference
from edge_classifierd.inference.edgetpu import EdgeTpuSettings
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.mqtt.commands import SetEnabled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCORES = np.zeros(3, np.float32)


class Pictures:
    """A finite source that wants every picture looked at."""

    live = False
    skipped = 0
    pausing = False

    def __init__(self, count: int) -> None:
        self._left = iter(range(count))
        self._picture = picture(100)

    def open(self) -> None:
        pass

    def read(self) -> Frame | None:
        clock = SystemClock()
        number = next(self._left, None)
        return None if number is None else Frame(self._picture, number, clock.monotonic(), clock.utc())

    def close(self) -> None:
        pass

    def cancel(self) -> None:
        self._left = iter(())


class Lanes:
    """A concurrent classifier that does with each picture's number what it is told."""

    runtime = "r 1"
    accelerator = "cpu"

    def __init__(self, lanes: int, work: Callable[[int], None]) -> None:
        self.lanes = lanes
        self._work = work

    def classify(self, tensor: Any) -> Inference:
        self._work(tensor)
        return Inference(SCORES, float(tensor), "cpu")

    def close(self) -> None:
        pass


class Bench:
    """Makes lines and ends them with the test."""

    def __init__(self) -> None:
        self.heartbeats = Heartbeats(SystemClock())
        self._made: list[tuple[Capture[Any], Line]] = []

    def line(self, pictures: int, lanes: int, work: Callable[[int], None]) -> Line:
        clock = SystemClock()
        capture = Capture[Any](
            Pictures(pictures), lambda frame: frame.sequence, name="porch", clock=clock, stall_timeout_s=10.0
        )
        shared = SharedClassifier(cast("Any", Lanes(lanes, work)))
        beat = self.heartbeats.register("infer-porch", STUCK_AFTER_S)
        line = make_line(capture, shared, name="porch", beat=beat, heartbeats=self.heartbeats)
        self._made.append((capture, line))
        capture.start()
        return line

    def stop(self) -> bool:
        return all(capture.stop(2.0) and line.stop(2.0) for capture, line in self._made)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.stop()


def everything(line: Line) -> list[Classified]:
    came = []
    while not line.finished:
        classified = line.take(0.2)
        if classified is not None:
            came.append(classified)
    return came


def numbers(classified: list[Classified]) -> list[int]:
    return [one.frame.sequence for one in classified]


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_every_frame_comes_out_once_and_in_order_however_long_it_takes(bench: Bench, lanes: int) -> None:
    line = bench.line(40, lanes, lambda number: time.sleep(0.02 if number % 3 == 0 else 0.001))
    came = everything(line)
    assert numbers(came) == list(range(40))
    assert [one.outcome.inference_ms for one in came if isinstance(one.outcome, Inference)] == list(range(40))
    assert line.take(0.0) is None


def test_as_many_frames_as_there_are_lanes_are_classified_at_once(bench: Bench) -> None:
    together = threading.Barrier(3)
    line = bench.line(9, 3, lambda _number: together.wait(5))
    assert numbers(everything(line)) == list(range(9))


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_failed_inference_comes_out_in_its_place(bench: Bench, lanes: int) -> None:
    def work(number: int) -> None:
        if number in {2, 5}:
            raise InferenceError(f"no scores for {number}")

    came = everything(bench.line(8, lanes, work))
    assert numbers(came) == list(range(8))
    assert [one.frame.sequence for one in came if isinstance(one.outcome, InferenceError)] == [2, 5]


def test_a_bug_comes_out_after_what_was_done_before_it(bench: Bench) -> None:
    def work(number: int) -> None:
        if number == 3:
            raise ZeroDivisionError("a bug")

    line = bench.line(100, 2, work)
    came = [line.take(1.0) for _ in range(3)]
    assert numbers([one for one in came if one is not None]) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="a bug"):
        line.take(1.0)


def test_a_line_that_nobody_takes_from_holds_twice_as_many_frames_as_lanes(bench: Bench) -> None:
    begun: list[int] = []
    line = bench.line(50, 2, begun.append)
    until(lambda: len(begun) == 4)
    time.sleep(0.1)
    assert len(begun) == 4
    assert numbers(everything(line)) == list(range(50))


def test_an_inference_that_hangs_is_told_by_the_heartbeat_and_by_stop(bench: Bench) -> None:
    go_on = threading.Event()
    line = bench.line(50, 2, lambda number: go_on.wait(20) if number == 1 else None)
    first = line.take(5.0)
    assert first is not None
    assert line.take(0.1) is None, "the second is not done, and what comes after it waits"
    later_s = SystemClock().monotonic() + STUCK_AFTER_S + 1
    (stuck,) = (one for one in bench.heartbeats.stuck(later_s) if one.doing == "classify")
    assert stuck.name[:-1] == "infer-porch-"
    assert not line.stop(0.1)
    go_on.set()
    assert bench.stop()
    assert [one.name for one in bench.heartbeats.stuck(later_s)] == ["infer-porch"], "stages that ended are forgotten"


def test_two_edge_tpus_make_one_pipeline_faster(tmp_path: Path) -> None:
    compiled, twin = stand_in.model_pair(tmp_path)
    machine = stand_in.Machine(tmp_path / "root")
    machine.add("1-1")
    machine.add("1-2")
    (tmp_path / "slow").touch()
    options = {"mode": "slow", "while": str(tmp_path / "slow")}  # 60 ms an inference
    settings = EdgeTpuSettings(str(stand_in.build_delegate(tmp_path)), options, 2.0, count=2)
    pool = make_classifier(compiled, "usb", cpu_bundle=twin, edgetpu=settings, root=machine.root)
    clock, heartbeats = SystemClock(), Heartbeats(SystemClock())
    tensor = stand_in.pixel(255, 0, 0)
    capture = Capture[Any](Pictures(20), lambda _frame: tensor, name="porch", clock=clock, stall_timeout_s=10.0)
    beat = heartbeats.register("infer-porch", STUCK_AFTER_S)
    line = make_line(capture, SharedClassifier(pool), name="porch", beat=beat, heartbeats=heartbeats)
    start_s = time.monotonic()
    capture.start()
    came = everything(line)
    took_s = time.monotonic() - start_s
    assert line.stop(2.0)
    pool.close()
    assert numbers(came) == list(range(20))
    by = {one.outcome.accelerator for one in came if isinstance(one.outcome, Inference)}
    assert by == {"usb:0", "usb:1"}
    assert took_s < 20 * 0.06 * 0.85, "two at a time: 0.6 s; one after the other: 1.2 s"


def test_a_pipeline_of_several_instances_is_switched_off_and_on_and_taken_pictures_of(tmp_path: Path) -> None:
    section = pipeline("driveway", "cat") | {"model": {"threads": 1, "instances": 2}}
    with Scene(tmp_path, section) as scene:
        (one,) = scene.fleet.pipelines
        until(lambda: one.metrics.snapshot().inferences > 5)
        lanes = [thread for thread in threading.enumerate() if thread.name.startswith("infer-driveway-")]
        assert len(lanes) == 2
        scene.fleet.obey(SetEnabled("driveway", False))
        until(lambda: not any(thread.is_alive() for thread in lanes))
        scene.fleet.obey(SetEnabled("driveway", True))
        so_far = one.metrics.snapshot().inferences
        until(lambda: one.metrics.snapshot().inferences > so_far + 5)
        assert one.failure is None
        assert one.stop(2.0)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("infer-driveway")]
