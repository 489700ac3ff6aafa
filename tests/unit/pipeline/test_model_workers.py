"""The workers of a model: every frame is classified, results are reported in order, pipelines are served fairly."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from pipelines_scene import until
from workers_scene import Bench, Lanes, Pictures, Reader, Result, Run, worker_threads

from edge_classifierd.errors import InferenceError, SourceError
from edge_classifierd.inference.base import Inference
from edge_classifierd.inference.shared import SharedClassifier

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


def test_as_many_frames_as_lanes_are_prepared_and_then_classified_at_once(bench: Bench) -> None:
    preparing, classifying = threading.Barrier(3), threading.Barrier(3)

    def prepare(frame: Frame) -> int:
        preparing.wait(5)
        return frame.sequence

    made = bench.run(9, 3, lambda _number: classifying.wait(5), prepare=prepare)
    assert made.to_the_end() == list(range(9))
    assert not preparing.broken
    assert not classifying.broken


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_one_frame_is_reported_at_a_time(bench: Bench, lanes: int) -> None:
    reporting = threading.Lock()

    def report(_result: Result) -> None:
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
    made = bench.run_with(SharedClassifier(classifier), Pictures(8))
    assert made.to_the_end() == list(range(8))
    assert [one.frame.sequence for one in made.results if isinstance(one.outcome, InferenceError)] == [2, 5]
    assert classifier.ran_in == {"infer-1"}
    assert all(name.startswith("report-") for name in classifier.read_in)


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_frame_that_cannot_be_prepared_is_skipped_and_counted(bench: Bench, lanes: int) -> None:
    def prepare(frame: Frame) -> int:
        if frame.sequence in {0, 4, 7}:
            raise SourceError("no such pixel format")
        return frame.sequence

    made = bench.run(8, lanes, lambda _number: None, prepare=prepare)
    assert made.to_the_end() == [1, 2, 3, 5, 6]
    assert made.capture.skipped == 3
    assert made.capture.last_error == "no such pixel format"


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("where", ["work", "prepare", "report"])
def test_a_bug_ends_its_own_pipeline_after_the_earlier_results(bench: Bench, where: str, lanes: int) -> None:
    def break_at(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError("a bug")
        return number

    steps: dict[str, Callable[[Any], Any]] = {
        "prepare": lambda frame: break_at(frame.sequence),
        "report": lambda result: break_at(result.frame.sequence),
    }
    works = iter(range(100))
    shared = SharedClassifier(Lanes(lanes, lambda number: break_at(number) if where == "work" else None))
    how = {name: step for name, step in steps.items() if name == where}
    made = bench.run_with(shared, Pictures(100), **how)
    until(lambda: made.bug)
    assert isinstance(made.bug, ZeroDivisionError)
    assert made.numbers == [0, 1, 2]
    other = bench.run_with(shared, Pictures(3), name="garden", prepare=lambda _frame: 100 + next(works))
    assert other.to_the_end() == [0, 1, 2], "the workers serve the other pipelines of the model"
    assert made.stop()


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_blocked_report_limits_the_frames_in_flight_and_blocks_no_other_pipeline(bench: Bench, lanes: int) -> None:
    begun: list[int] = []
    go_on = threading.Event()
    shared = SharedClassifier(Lanes(lanes, begun.append))
    made = bench.run_with(shared, Pictures(50), report=lambda _result: go_on.wait(20))
    until(lambda: len(begun) == 2 * lanes)
    time.sleep(0.1)
    assert len(begun) == 2 * lanes
    assert "report (porch)" in bench.stuck()
    others = [bench.run_with(shared, Pictures(20), name=name, prepare=lambda _frame: -1) for name in ("a", "b")]
    assert [other.to_the_end() for other in others] == [list(range(20))] * 2
    assert begun.count(-1) == 40
    assert len(begun) == 40 + 2 * lanes
    go_on.set()
    assert made.to_the_end() == list(range(50))


def test_pipelines_are_served_in_turn(bench: Bench) -> None:
    order: list[int] = []
    runs: list[Run] = []
    begin = threading.Event()

    def work(number: int) -> None:
        begin.wait(20)
        order.append(number)
        until(lambda: all(run.capture.ready for run in runs))  # each has its next frame, or has ended

    shared = SharedClassifier(Lanes(1, work))
    for name in ("p0", "p1", "p2"):
        run = bench.run_with(shared, Pictures(30), name=name, prepare=lambda _, number=int(name[1]): number)
        runs.append(run)
    until(lambda: all(run.capture.ready for run in runs[1:]))
    begin.set()
    until(lambda: all(run.finished for run in runs))
    assert len(order) == 90
    turns = [order[place : place + 3] for place in range(3, 84)]
    assert all(len(set(turn)) == 3 for turn in turns), turns


def test_a_hanging_inference_is_found_by_the_heartbeat_and_by_stop(bench: Bench) -> None:
    go_on = threading.Event()
    made = bench.run(50, 2, lambda number: go_on.wait(20) if number == 1 else None)
    until(lambda: made.numbers == [0])
    time.sleep(0.1)
    assert made.numbers == [0], "the second is not done, and later ones wait for it"
    assert bench.stuck()["classify (porch)"] in {"infer-1", "infer-2"}
    assert not made.stop(0.1)
    go_on.set()
    assert bench.stop()
    assert made.numbers == [0], "results after a stop are not reported"
    assert not bench.stuck(), "stages that ended are removed"


def test_a_result_that_waits_is_not_reported_after_a_stop(bench: Bench) -> None:
    begun: list[int] = []
    reporting, go_on = threading.Event(), threading.Event()

    def report(_result: Result) -> None:
        reporting.set()
        go_on.wait(20)

    made = bench.run(2, 1, begun.append, report=report)
    until(lambda: len(begun) == 2 and reporting.is_set())
    assert not made.tasks.close(0.1)
    go_on.set()
    assert made.stop()
    assert made.numbers == [0]


def test_a_result_that_waits_is_not_reported_when_only_the_frames_are_stopped(bench: Bench) -> None:
    """As when a command disables the pipeline: its queue goes on."""
    begun: list[int] = []
    reporting, go_on = threading.Event(), threading.Event()

    def report(_result: Result) -> None:
        reporting.set()
        go_on.wait(20)

    made = bench.run(2, 1, begun.append, report=report)
    until(lambda: len(begun) == 2 and reporting.is_set())
    assert made.stop_frames()
    go_on.set()
    executed = threading.Event()
    made.tasks.put(executed.set)
    assert executed.wait(10)
    assert made.numbers == [0]
    assert not made.finished


def test_workers_cancel_a_read_that_stalls(bench: Bench) -> None:
    class Stalled(Pictures):
        live = True
        cancelled = threading.Event()

        def read(self) -> Frame | None:
            self.cancelled.wait(20)
            raise SourceError("cancelled")

        def cancel(self) -> None:
            self.cancelled.set()

    source = Stalled(0)
    made = bench.run_with(SharedClassifier(Lanes(1, lambda _number: None)), source, stall_timeout_s=0.2)
    assert source.cancelled.wait(10)
    until(lambda: "delivered no frame for 0.2 s" in made.capture.last_error)


def test_threads_belong_to_a_model_and_end_with_its_last_pipeline(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("model_workers", "task_queue"):
        monkeypatch.setattr(f"edge_classifierd.pipeline.workers.{module}.POLL_S", 60.0)
    shared, other = SharedClassifier(Lanes(2, lambda _number: None)), SharedClassifier(Lanes(1, lambda _number: None))
    reporting = [f"report-{number}" for number in range(1, 5)]
    runs = [bench.run_with(shared, Pictures(1), name=name) for name in ("a", "b", "c")]
    assert worker_threads() == ["infer-1", "infer-2", *reporting]
    last = bench.run_with(other, Pictures(1), name="d")
    assert worker_threads() == ["infer-1", "infer-2", "infer-3", *reporting]
    for run in (*runs, last):
        run.to_the_end()
        assert {"infer-3", *reporting} <= set(worker_threads())
        start_s = time.monotonic()
        assert run.stop()
        assert time.monotonic() - start_s < 10, "idle threads wait for a minute"
    assert worker_threads() == []
    bench.heartbeats.register("infer-1", 1.0)  # the names are free again
    bench.heartbeats.register("report-1", 1.0)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_removed_pipeline_is_not_referenced_by_the_workers_that_go_on(bench: Bench, lanes: int) -> None:
    shared = SharedClassifier(Lanes(lanes, lambda _number: None))
    kept = bench.run_with(shared, Pictures(1), name="kept")
    removed = bench.run_with(shared, Pictures(5), name="removed")
    removed.to_the_end()
    assert removed.stop()
    frames = weakref.ref(removed._frames)
    bench.forget(removed)
    del removed
    until(lambda: gc.collect() is not None and frames() is None, 3.0)
    assert kept.to_the_end() == [0]
