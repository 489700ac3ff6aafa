"""The workers of a pipeline: every frame is classified, results are reported in order, threads stop."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from pipelines_scene import until
from workers_scene import Bench, Reader

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import InferenceError, SourceError
from edge_classifierd.inference.base import Inference
from edge_classifierd.pipeline.worker_threads import STUCK_AFTER_S, Classified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_classifierd.frames.base import Frame


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.stop()


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_every_frame_is_reported_once_and_in_order(bench: Bench, lanes: int) -> None:
    made = bench.run(40, lanes, lambda number: time.sleep(0.02 if number % 3 == 0 else 0.001))
    assert made.to_the_end() == list(range(40))
    assert [one.outcome.inference_ms for one in made.results if isinstance(one.outcome, Inference)] == list(range(40))


def test_as_many_frames_as_lanes_are_prepared_and_classified_at_once(bench: Bench) -> None:
    preparing, classifying = threading.Barrier(3), threading.Barrier(3)

    def prepare(frame: Frame) -> int:
        preparing.wait(5)
        return frame.sequence

    made = bench.run(9, 3, lambda _number: classifying.wait(5), prepare=prepare)
    assert made.to_the_end() == list(range(9))


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_one_frame_is_reported_at_a_time(bench: Bench, lanes: int) -> None:
    reporting = threading.Lock()

    def report(_classified: Classified) -> None:
        assert reporting.acquire(blocking=False)
        time.sleep(0.002)
        reporting.release()

    assert bench.run(40, lanes, lambda _number: None, report=report).to_the_end() == list(range(40))


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_failed_inference_is_reported_in_its_place(bench: Bench, lanes: int) -> None:
    def work(number: int) -> None:
        if number in {2, 5}:
            raise InferenceError(f"no scores for {number}")

    made = bench.run(8, lanes, work)
    assert made.to_the_end() == list(range(8))
    assert [one.frame.sequence for one in made.results if isinstance(one.outcome, InferenceError)] == [2, 5]


def test_an_output_is_read_while_the_next_frame_is_classified(bench: Bench) -> None:
    def read(number: int) -> None:
        if number in {2, 5}:
            raise InferenceError(f"no numbers in {number}")

    classifier = Reader(read)
    made = bench.run_with(classifier, 8)
    assert made.to_the_end() == list(range(8))
    assert [one.frame.sequence for one in made.results if isinstance(one.outcome, InferenceError)] == [2, 5]
    assert classifier.read_in == {"report-porch"}
    assert not classifier.ran_in & classifier.read_in


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_frame_that_cannot_be_prepared_is_skipped_and_counted(bench: Bench, lanes: int) -> None:
    def prepare(frame: Frame) -> int:
        if frame.sequence in {0, 4, 7}:
            raise SourceError("no such pixel format")
        return frame.sequence

    made = bench.run(8, lanes, lambda _number: None, prepare=prepare)
    assert made.to_the_end() == [1, 2, 3, 5, 6]
    assert made.workers.capture.skipped == 3
    assert made.workers.capture.last_error == "no such pixel format"


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("where", ["work", "prepare", "report"])
def test_a_bug_is_raised_after_the_earlier_results(bench: Bench, where: str, lanes: int) -> None:
    def break_at(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError("a bug")
        return number

    steps: dict[str, Callable[[Any], Any]] = {
        "work": lambda _number: None,
        "prepare": lambda frame: frame.sequence,
        "report": lambda _classified: None,
    }
    steps[where] = {
        "work": break_at,
        "prepare": lambda frame: break_at(frame.sequence),
        "report": lambda classified: break_at(classified.frame.sequence),
    }[where]
    made = bench.run(100, lanes, steps.pop("work"), **steps)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        made.work_until(lambda: False)
    until(lambda: not made.threads)  # without a call of stop
    until(lambda: made.numbers[:3] == [0, 1, 2])
    assert made.stop()
    assert 3 not in made.numbers


def test_a_blocked_report_limits_the_frames_in_flight_to_twice_the_lanes(bench: Bench) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.run(50, 2, begun.append, report=lambda _classified: go_on.wait(20))
    until(lambda: len(begun) == 5)  # one is being reported
    time.sleep(0.1)
    assert len(begun) == 5
    later_s = SystemClock().monotonic() + STUCK_AFTER_S + 1
    assert {one.doing for one in bench.heartbeats.stuck(later_s) if one.name != "infer-porch"} >= {"report"}
    go_on.set()
    assert made.to_the_end() == list(range(50))


def test_workers_continue_at_once_after_a_blocked_report(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_classifierd.pipeline.parallel_workers.POLL_S", 60.0)
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.run(20, 2, begun.append, report=lambda _classified: go_on.wait(20))
    until(lambda: len(begun) == 5)
    go_on.set()
    assert made.to_the_end() == list(range(20))


def test_a_blocked_report_blocks_a_single_worker(bench: Bench) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.run(50, 1, begun.append, report=lambda _classified: go_on.wait(20))
    made.work_until(lambda: len(begun) == 2)
    for _ in range(3):
        made.workers.work(0.05)
    assert begun == [0, 1]
    later_s = SystemClock().monotonic() + STUCK_AFTER_S + 1
    assert [one.name for one in bench.heartbeats.stuck(later_s) if one.doing == "report"] == ["report-porch"]
    go_on.set()
    assert made.to_the_end() == list(range(50))


def test_a_single_worker_stops_at_once_and_leaves_no_thread(bench: Bench) -> None:
    made = bench.run(1, 1, lambda _number: None)
    assert made.to_the_end() == [0]
    start_s = time.monotonic()
    assert made.stop()
    assert time.monotonic() - start_s < 0.4, "its thread polls every half second"
    assert not [thread for thread in threading.enumerate() if thread.name == "report-porch"]
    bench.heartbeats.register("report-porch", 1.0)  # the name is free again


def test_a_waiting_result_is_not_reported_after_a_stop(bench: Bench) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.run(2, 1, begun.append, report=lambda _classified: go_on.wait(20))
    made.work_until(lambda: len(begun) == 2)
    assert not made.workers.stop(0.1)
    go_on.set()
    assert made.stop()
    assert made.numbers == [0]


def test_work_sleeps_while_the_last_frame_is_reported(bench: Bench) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    made = bench.run(1, 1, begun.append, report=lambda _classified: go_on.wait(20))
    made.work_until(lambda: begun and made.workers.capture.finished)
    assert not made.workers.finished
    start_s = time.monotonic()
    made.workers.work(0.1)
    assert time.monotonic() - start_s >= 0.1
    go_on.set()
    assert made.to_the_end() == [0]


def test_an_inference_that_hangs_is_reported_by_the_heartbeat_and_by_stop(bench: Bench) -> None:
    go_on = threading.Event()
    made = bench.run(50, 2, lambda number: go_on.wait(20) if number == 1 else None)
    until(lambda: made.numbers == [0])
    time.sleep(0.1)
    assert made.numbers == [0], "the second is not done, and later ones wait for it"
    later_s = SystemClock().monotonic() + STUCK_AFTER_S + 1
    (stuck,) = (one for one in bench.heartbeats.stuck(later_s) if one.doing == "classify")
    assert stuck.name[:-1] == "infer-porch-"
    assert not made.workers.stop(0.1)
    go_on.set()
    assert bench.stop()
    assert made.numbers == [0], "results after a stop are not reported"
    assert [one.name for one in bench.heartbeats.stuck(later_s)] == ["infer-porch"], "stages that ended are removed"


def test_waiting_workers_can_be_woken(bench: Bench) -> None:
    go_on = threading.Event()
    made = bench.run(1, 2, lambda _number: go_on.wait(20))
    threading.Timer(0.05, made.workers.wake).start()
    start_s = time.monotonic()
    made.workers.work(10.0)
    assert time.monotonic() - start_s < 5
    assert not made.workers.finished
    go_on.set()


def test_the_end_of_the_source_wakes_waiting_workers(bench: Bench) -> None:
    made = bench.run(1, 2, lambda _number: time.sleep(0.1))
    start_s = time.monotonic()
    while not made.workers.finished:
        made.workers.work(10.0)
    assert time.monotonic() - start_s < 5
    assert made.numbers == [0]
