"""Fake sources and classifiers, and workers that run with them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from moving_pictures import picture
from pipelines_scene import until

from edge_classifierd.clock import SystemClock
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.camera import Camera
from edge_classifierd.frames.capture import Capture
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.inference.base import Classifier, Inference
from edge_classifierd.inference.shared import SharedClassifier
from edge_classifierd.pipeline.workers.model_workers import PipelineThreads
from edge_classifierd.pipeline.workers.pipeline_frames import PipelineFrames
from edge_classifierd.pipeline.workers.task_queue import TaskQueue
from edge_classifierd.pipeline.workers.thread_group import STUCK_AFTER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.errors import InferenceError


SCORES = np.zeros(3, np.float32)


class Pictures:
    """A finite source that is not live."""

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
    """A classifier with several lanes that calls `work` with the number of each picture."""

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
    """A classifier with one lane that records the threads that run it and read its output."""

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


@dataclass(frozen=True)
class Result:
    """A reported frame."""

    frame: Frame
    outcome: Inference | InferenceError


class Run:
    """The frames of one pipeline with a running capture, and their results."""

    def __init__(
        self,
        source: Pictures,
        prepare: Callable[[Frame], Any],
        shared: SharedClassifier,
        threads: PipelineThreads,
        report: Callable[[Result], None] = lambda _result: None,
        *,
        name: str = "porch",
        stall_timeout_s: float = 10.0,
    ) -> None:
        self.results: list[Result] = []
        self.bug: BaseException | None = None
        self.finished = False
        self._classifier, self._threads = shared, threads
        camera = Camera(source, name=name, clock=SystemClock(), stall_timeout_s=stall_timeout_s)
        self.capture: Capture[Any] = Capture(camera, prepare, name=name, prepare_when_taken=shared.lanes > 1)
        camera.attach(self.capture)
        self.tasks = TaskQueue(threads.tasks, name, self._fail)
        self.tasks.start()

        def record(frame: Frame, outcome: Inference | InferenceError) -> None:
            result = Result(frame, outcome)
            report(result)
            self.results.append(result)

        self._frames = PipelineFrames(self.capture, self.tasks, record, self._end, name=name, lanes=shared.lanes)
        threads.add(shared, self._frames)
        self.capture.start()

    @property
    def numbers(self) -> list[int]:
        return [result.frame.sequence for result in self.results]

    def to_the_end(self) -> list[int]:
        until(lambda: self.finished, 20)
        return self.numbers

    def stop(self, timeout_s: float = 2.0) -> bool:
        reported = self.tasks.close(timeout_s)
        return self.stop_frames(timeout_s) and reported

    def stop_frames(self, timeout_s: float = 2.0) -> bool:
        captured = self.capture.stop(timeout_s)
        return self._threads.remove(self._classifier, self._frames, timeout_s) and captured

    def _end(self) -> None:
        self.finished = True

    def _fail(self, error: BaseException) -> None:
        self.bug = error


class Bench:
    """Runs pipelines and stops them after the test."""

    def __init__(self) -> None:
        self.heartbeats = Heartbeats(SystemClock())
        self.threads = PipelineThreads(self.heartbeats)
        self._made: list[Run] = []

    def run(self, pictures: int, lanes: int, work: Callable[[int], None], **how: Callable[[Any], Any]) -> Run:
        return self.run_with(SharedClassifier(Lanes(lanes, work)), Pictures(pictures), **how)

    def run_with(
        self,
        shared: SharedClassifier,
        source: Pictures,
        *,
        prepare: Callable[[Any], Any] = lambda frame: frame.sequence,
        **how: Any,
    ) -> Run:
        made = Run(source, prepare, shared, self.threads, **how)
        self._made.append(made)
        return made

    def forget(self, run: Run) -> None:
        """Do not stop this one after the test."""
        self._made.remove(run)

    def stuck(self) -> dict[str, str]:
        """What the stages do that would be stuck if they made no progress from now on."""
        later_s = SystemClock().monotonic() + STUCK_AFTER_S + 1
        return {one.doing: one.name for one in self.heartbeats.stuck(later_s)}

    def stop(self) -> bool:
        stopped = [made.stop() for made in self._made]
        return all(stopped)


def worker_threads() -> list[str]:
    """The names of the threads that belong to pipelines together."""
    names = (thread.name for thread in threading.enumerate())
    return sorted(name for name in names if name.startswith(("infer-", "report-")))
