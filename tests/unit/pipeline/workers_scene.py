"""Fake sources and classifiers, and workers that run with them."""

from __future__ import annotations

import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from moving_pictures import picture

from edge_classifierd.clock import SystemClock
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.camera import Camera
from edge_classifierd.frames.capture import Capture
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.inference.base import Classifier, Inference
from edge_classifierd.inference.shared import SharedClassifier
from edge_classifierd.pipeline.worker_threads import STUCK_AFTER_S, Classified
from edge_classifierd.pipeline.workers import make_workers

if TYPE_CHECKING:
    from collections.abc import Callable


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


class Run:
    """Workers with a running capture, and their results."""

    def __init__(
        self,
        source: Pictures,
        prepare: Callable[[Frame], Any],
        shared: SharedClassifier,
        heartbeats: Heartbeats,
        report: Callable[[Classified], None] = lambda _classified: None,
    ) -> None:
        self.results: list[Classified] = []

        def make_capture(with_each: Callable[[Frame], Any]) -> Capture[Any]:
            camera = Camera(source, name="porch", clock=SystemClock(), stall_timeout_s=10.0)
            capture = Capture(camera, with_each, name="porch")
            camera.attach(capture)
            return capture

        def record(classified: Classified) -> None:
            report(classified)
            self.results.append(classified)

        beat = heartbeats.register("infer-porch", STUCK_AFTER_S)
        self.workers = make_workers(
            make_capture, lambda: prepare, shared, record, name="porch", beat=beat, heartbeats=heartbeats
        )
        self.workers.capture.start()

    @property
    def threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("infer-porch-")]

    @property
    def numbers(self) -> list[int]:
        return [classified.frame.sequence for classified in self.results]

    def work_until(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end_s
            self.workers.work(0.2)

    def to_the_end(self) -> list[int]:
        self.work_until(lambda: self.workers.finished)
        return self.numbers

    def stop(self) -> bool:
        return self.workers.capture.stop(2.0) and self.workers.stop(2.0)


class Bench:
    """Makes workers and stops them after the test."""

    def __init__(self) -> None:
        self.heartbeats = Heartbeats(SystemClock())
        self._made: list[Run] = []

    def run(self, pictures: int, lanes: int, work: Callable[[int], None], **how: Callable[[Any], Any]) -> Run:
        return self.run_with(Lanes(lanes, work), pictures, **how)

    def run_with(self, classifier: Lanes, pictures: int, **how: Callable[[Any], Any]) -> Run:
        shared = SharedClassifier(classifier)
        prepare = how.pop("prepare", lambda frame: frame.sequence)
        made = Run(Pictures(pictures), prepare, shared, self.heartbeats, **how)
        self._made.append(made)
        return made

    def stop(self) -> bool:
        return all(made.stop() for made in self._made)
