"""The line: what goes through a classifier side by side comes out in order, whole, and stops when it is told to."""

from __future__ import annotations

import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import stand_in
from moving_pictures import picture
from pipelines_scene import Scene, pipeline, until

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import InferenceError, SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.capture import Capture
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.inference.base import Classifier, Inference
from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.shared import SharedClassifier
from edge_classifierd.mqtt.commands import SetEnabled, SetThreshold
from edge_classifierd.pipeline.reporter import Reporter
from edge_classifierd.pipeline.workers import STUCK_AFTER_S, Classified, make_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_classifierd.pipeline.event_builder import FrameResult

SCORES = np.zeros(3, np.float32)


class Pictures:
    """A finite source that wants every picture looked at."""

    live = False
    skipped = 0
    pauses_until_s = -inf

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


class Lanes(Classifier):
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


class Reader(Lanes):
    """One classifier that leaves the reading of its output to whoever wants it, and tells who did."""

    def __init__(self, read: Callable[[int], None]) -> None:
        super().__init__(1, lambda _number: None)
        self._read = read
        self.ran_in: set[str] = set()
        self.read_in: set[str] = set()

    def run(self, tensor: Any) -> Callable[[], Inference]:
        self.ran_in.add(threading.current_thread().name)

        def read() -> Inference:
            self.read_in.add(threading.current_thread().name)
            self._read(tensor)
            return Inference(SCORES, float(tensor), "cpu")

        return read


class Watched:
    """A line whose capture runs, and what it has handed over."""

    def __init__(
        self,
        source: Pictures,
        prepare: Callable[[Frame], Any],
        shared: SharedClassifier,
        heartbeats: Heartbeats,
        judge: Callable[[Classified], None] = lambda _classified: None,
    ) -> None:
        self.came: list[Classified] = []

        def make_capture(with_each: Callable[[Frame], Any]) -> Capture[Any]:
            return Capture(source, with_each, name="porch", clock=SystemClock(), stall_timeout_s=10.0)

        def hand_over(classified: Classified) -> None:
            judge(classified)
            self.came.append(classified)

        beat = heartbeats.register("infer-porch", STUCK_AFTER_S)
        self.line = make_line(
            make_capture, lambda: prepare, shared, hand_over, name="porch", beat=beat, heartbeats=heartbeats
        )
        self.line.capture.start()

    @property
    def threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("infer-porch-")]

    @property
    def numbers(self) -> list[int]:
        return [classified.frame.sequence for classified in self.came]

    def work_until(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end_s
            self.line.work(0.2)

    def to_the_end(self) -> list[int]:
        self.work_until(lambda: self.line.finished)
        return self.numbers

    def stop(self) -> bool:
        return self.line.capture.stop(2.0) and self.line.stop(2.0)


class Bench:
    """Makes lines and ends them with the test."""

    def __init__(self) -> None:
        self.heartbeats = Heartbeats(SystemClock())
        self._made: list[Watched] = []

    def line(self, pictures: int, lanes: int, work: Callable[[int], None], **how: Callable[[Any], Any]) -> Watched:
        return self.line_over(Lanes(lanes, work), pictures, **how)

    def line_over(self, classifier: Lanes, pictures: int, **how: Callable[[Any], Any]) -> Watched:
        shared = SharedClassifier(classifier)
        prepare = how.pop("prepare", lambda frame: frame.sequence)
        made = Watched(Pictures(pictures), prepare, shared, self.heartbeats, **how)
        self._made.append(made)
        return made

    def stop(self) -> bool:
        return all(made.stop() for made in self._made)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.stop()


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_every_frame_comes_out_once_and_in_order_however_long_it_takes(bench: Bench, lanes: int) -> None:
    made = bench.line(40, lanes, lambda number: time.sleep(0.02 if number % 3 == 0 else 0.001))
    assert made.to_the_end() == list(range(40))
    assert [one.outcome.inference_ms for one in made.came if isinstance(one.outcome, Inference)] == list(range(40))


def test_as_many_frames_as_there_are_lanes_are_prepared_and_classified_at_once(bench: Bench) -> None:
    preparing, classifying = threading.Barrier(3), threading.Barrier(3)

    def prepare(frame: Frame) -> int:
        preparing.wait(5)
        return frame.sequence

    made = bench.line(9, 3, lambda _number: classifying.wait(5), prepare=prepare)
    assert made.to_the_end() == list(range(9))


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_one_frame_is_handed_over_at_a_time(bench: Bench, lanes: int) -> None:
    judging = threading.Lock()

    def judge(_classified: Classified) -> None:
        assert judging.acquire(blocking=False)
        time.sleep(0.002)
        judging.release()

    assert bench.line(40, lanes, lambda _number: None, judge=judge).to_the_end() == list(range(40))


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_failed_inference_comes_out_in_its_place(bench: Bench, lanes: int) -> None:
    def work(number: int) -> None:
        if number in {2, 5}:
            raise InferenceError(f"no scores for {number}")

    made = bench.line(8, lanes, work)
    assert made.to_the_end() == list(range(8))
    assert [one.frame.sequence for one in made.came if isinstance(one.outcome, InferenceError)] == [2, 5]


def test_an_output_is_read_while_the_next_frame_is_classified(bench: Bench) -> None:
    def read(number: int) -> None:
        if number in {2, 5}:
            raise InferenceError(f"no numbers in {number}")

    classifier = Reader(read)
    made = bench.line_over(classifier, 8)
    assert made.to_the_end() == list(range(8))
    assert [one.frame.sequence for one in made.came if isinstance(one.outcome, InferenceError)] == [2, 5]
    assert classifier.read_in == {"judge-porch"}
    assert not classifier.ran_in & classifier.read_in


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_frame_that_cannot_be_prepared_is_left_out_and_counted(bench: Bench, lanes: int) -> None:
    def prepare(frame: Frame) -> int:
        if frame.sequence in {0, 4, 7}:
            raise SourceError("no such pixel format")
        return frame.sequence

    made = bench.line(8, lanes, lambda _number: None, prepare=prepare)
    assert made.to_the_end() == [1, 2, 3, 5, 6]
    assert made.line.capture.skipped == 3
    assert made.line.capture.last_error == "no such pixel format"


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("where", ["work", "prepare", "judge"])
def test_a_bug_comes_out_after_what_was_done_before_it(bench: Bench, where: str, lanes: int) -> None:
    def break_at(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError("a bug")
        return number

    steps: dict[str, Callable[[Any], Any]] = {
        "work": lambda _number: None,
        "prepare": lambda frame: frame.sequence,
        "judge": lambda _classified: None,
    }
    steps[where] = {
        "work": break_at,
        "prepare": lambda frame: break_at(frame.sequence),
        "judge": lambda classified: break_at(classified.frame.sequence),
    }[where]
    made = bench.line(100, lanes, steps.pop("work"), **steps)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        made.work_until(lambda: False)
    until(lambda: not made.threads)  # without being told to
    until(lambda: made.numbers[:3] == [0, 1, 2])
    assert made.stop()
    assert 3 not in made.numbers


def test_a_line_whose_judge_is_held_up_holds_twice_as_many_frames_as_lanes(bench: Bench) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.line(50, 2, begun.append, judge=lambda _classified: go_on.wait(20))
    until(lambda: len(begun) == 5)  # one is being handed over
    time.sleep(0.1)
    assert len(begun) == 5
    later_s = SystemClock().monotonic() + STUCK_AFTER_S + 1
    assert {one.doing for one in bench.heartbeats.stuck(later_s) if one.name != "infer-porch"} >= {"judge"}
    go_on.set()
    assert made.to_the_end() == list(range(50))


def test_a_line_that_was_held_up_goes_on_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_classifierd.pipeline.workers._LOOK_AGAIN_S", 60.0)
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.line(20, 2, begun.append, judge=lambda _classified: go_on.wait(20))
    until(lambda: len(begun) == 5)
    go_on.set()
    assert made.to_the_end() == list(range(20))


def test_a_judge_that_is_held_up_holds_up_the_one_classifier(bench: Bench) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.line(50, 1, begun.append, judge=lambda _classified: go_on.wait(20))
    made.work_until(lambda: len(begun) == 2)
    for _ in range(3):
        made.line.work(0.05)
    assert begun == [0, 1]
    later_s = SystemClock().monotonic() + STUCK_AFTER_S + 1
    assert [one.name for one in bench.heartbeats.stuck(later_s) if one.doing == "judge"] == ["judge-porch"]
    go_on.set()
    assert made.to_the_end() == list(range(50))


def test_one_classifier_is_stopped_at_once_and_leaves_no_thread(bench: Bench) -> None:
    made = bench.line(1, 1, lambda _number: None)
    assert made.to_the_end() == [0]
    start_s = time.monotonic()
    assert made.stop()
    assert time.monotonic() - start_s < 0.4, "its thread looks for the end every half second"
    assert not [thread for thread in threading.enumerate() if thread.name == "judge-porch"]
    bench.heartbeats.register("judge-porch", 1.0)  # the name is free again


def test_what_waits_for_a_judge_is_not_handed_over_after_the_end(bench: Bench) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.line(2, 1, begun.append, judge=lambda _classified: go_on.wait(20))
    made.work_until(lambda: len(begun) == 2)
    assert not made.line.stop(0.1)
    go_on.set()
    assert made.stop()
    assert made.numbers == [0]


def test_the_last_frame_is_waited_for_without_turning_in_circles(bench: Bench) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.line(1, 1, begun.append, judge=lambda _classified: go_on.wait(20))
    made.work_until(lambda: begun and made.line.capture.finished)
    assert not made.line.finished
    start_s = time.monotonic()
    made.line.work(0.1)
    assert time.monotonic() - start_s >= 0.1
    go_on.set()
    assert made.to_the_end() == [0]


def test_an_inference_that_hangs_is_told_by_the_heartbeat_and_by_stop(bench: Bench) -> None:
    go_on = threading.Event()
    made = bench.line(50, 2, lambda number: go_on.wait(20) if number == 1 else None)
    until(lambda: made.numbers == [0])
    time.sleep(0.1)
    assert made.numbers == [0], "the second is not done, and what comes after it waits"
    later_s = SystemClock().monotonic() + STUCK_AFTER_S + 1
    (stuck,) = (one for one in bench.heartbeats.stuck(later_s) if one.doing == "classify")
    assert stuck.name[:-1] == "infer-porch-"
    assert not made.line.stop(0.1)
    go_on.set()
    assert bench.stop()
    assert made.numbers == [0], "what comes out after the end is not handed over"
    assert [one.name for one in bench.heartbeats.stuck(later_s)] == ["infer-porch"], "stages that ended are forgotten"


def test_a_line_that_waits_can_be_woken(bench: Bench) -> None:
    go_on = threading.Event()
    made = bench.line(1, 2, lambda _number: go_on.wait(20))
    threading.Timer(0.05, made.line.wake).start()
    start_s = time.monotonic()
    made.line.work(10.0)
    assert time.monotonic() - start_s < 5
    assert not made.line.finished
    go_on.set()


def test_the_end_of_the_source_wakes_a_line_that_waits(bench: Bench) -> None:
    made = bench.line(1, 2, lambda _number: time.sleep(0.1))
    start_s = time.monotonic()
    while not made.line.finished:
        made.line.work(10.0)
    assert time.monotonic() - start_s < 5
    assert made.numbers == [0]


def test_two_edge_tpus_make_one_pipeline_faster(tmp_path: Path) -> None:
    compiled, twin = stand_in.model_pair(tmp_path)
    machine = stand_in.Machine(tmp_path / "root")
    machine.add("1-1")
    machine.add("1-2")
    (tmp_path / "slow").touch()
    options = {"mode": "slow", "while": str(tmp_path / "slow")}  # 60 ms an inference
    settings = EdgeTpuSettings(str(stand_in.build_delegate(tmp_path)), options, 2.0, count=2)
    pool = make_classifier(compiled, "usb", cpu_bundle=twin, edgetpu=settings, root=machine.root)
    tensor = stand_in.pixel(255, 0, 0)
    start_s = time.monotonic()
    made = Watched(Pictures(20), lambda _frame: tensor, SharedClassifier(pool), Heartbeats(SystemClock()))
    numbers = made.to_the_end()
    took_s = time.monotonic() - start_s
    assert made.stop()
    pool.close()
    assert numbers == list(range(20))
    by = {one.outcome.accelerator for one in made.came if isinstance(one.outcome, Inference)}
    assert by == {"usb:0", "usb:1"}
    assert took_s < 20 * 0.06 * 0.85, "two at a time: 0.6 s; one after the other: 1.2 s"


def test_a_pipeline_of_several_instances_is_switched_off_and_on_and_taken_pictures_of(tmp_path: Path) -> None:
    section = pipeline("driveway", "cat") | {"model": {"threads": 1, "instances": 2}}
    with Scene(tmp_path, section) as scene:
        (one,) = scene.fleet.pipelines
        until(lambda: one.metrics.snapshot().inferences > 5)
        lanes = [thread for thread in threading.enumerate() if thread.name.startswith("infer-driveway-")]
        assert len(lanes) == 2
        scene.fleet.execute(SetEnabled("driveway", False))
        until(lambda: not any(thread.is_alive() for thread in lanes))
        scene.fleet.execute(SetEnabled("driveway", True))
        so_far = one.metrics.snapshot().inferences
        until(lambda: one.metrics.snapshot().inferences > so_far + 5)
        assert one.failure is None
        assert one.stop(2.0)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("infer-driveway")]


def test_an_order_to_a_pipeline_of_several_instances_does_not_wait_for_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_classifierd.pipeline.pipeline._IDLE_S", 30.0)
    section = pipeline("driveway", "cat") | {"model": {"threads": 1, "instances": 2}}
    with Scene(tmp_path, section) as scene:
        (one,) = scene.fleet.pipelines
        until(lambda: one.metrics.snapshot().inferences > 5)
        scene.fleet.execute(SetThreshold("driveway", "cat", 0.75))
        until(lambda: one.thresholds() == {"cat": 0.75}, 10.0)


def test_an_order_is_not_carried_out_while_a_frame_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    telling, together = threading.Event(), []
    judged, set_threshold = Reporter.report, Reporter.set_threshold

    def slow_judged(self: Reporter, frame: Frame, inference: Inference) -> FrameResult:
        telling.set()
        time.sleep(0.02)
        telling.clear()
        return judged(self, frame, inference)

    def watched_set_threshold(self: Reporter, watch: str, threshold: float) -> None:
        together.append(telling.is_set())
        set_threshold(self, watch, threshold)

    monkeypatch.setattr(Reporter, "report", slow_judged)
    monkeypatch.setattr(Reporter, "set_threshold", watched_set_threshold)
    section = pipeline("driveway", "cat") | {"model": {"threads": 1, "instances": 2}}
    with Scene(tmp_path, section) as scene:
        (one,) = scene.fleet.pipelines
        until(lambda: one.metrics.snapshot().inferences > 5)
        for number in range(20):
            threshold = 0.5 + number / 100
            scene.fleet.execute(SetThreshold("driveway", "cat", threshold))
            until(lambda wanted=threshold: one.thresholds() == {"cat": wanted})
    assert together == [False] * 20
