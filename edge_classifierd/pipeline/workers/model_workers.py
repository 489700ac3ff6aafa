"""The worker threads of the loaded models. The threads of a model serve all pipelines that use it."""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from edge_classifierd.pipeline.workers.pipeline_frames import raise_error
from edge_classifierd.pipeline.workers.task_queue import TaskThreads
from edge_classifierd.pipeline.workers.thread_group import POLL_S, ThreadGroup

if TYPE_CHECKING:
    from edge_classifierd.health.heartbeat import Beat, Heartbeats
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.workers.pipeline_frames import PipelineFrames, ReadOutput

_STALL_CHECK_S: Final = 1.0


class ModelWorkers:
    """The threads of one loaded model, one for each lane. A pipeline whose frame waits longest is served first.

    A worker takes a frame only when it can classify it at once, so that frames of a slow model are as new as possible.
    Work between two inferences runs with cold caches, and its thread interrupts an inference where all cores are busy.
    So a worker of a model with several lanes reports its result itself; but at least one worker leaves its result to
    the reporting threads, because a report may wait for a slow disk.
    """

    def __init__(self, classifier: SharedClassifier, names: list[str], heartbeats: Heartbeats) -> None:
        """Start the threads. Raises RuntimeError when the system has no more threads."""
        self._classifier = classifier
        self._ready: SimpleQueue[PipelineFrames | None] = SimpleQueue()  # None: stop
        self._may_report = deque([True] * (classifier.lanes - 1))  # a semaphore of the library takes ten calls
        self._served: tuple[PipelineFrames, ...] = ()
        self._next_check_s = time.monotonic() + _STALL_CHECK_S
        self._group = ThreadGroup(names, self._step, lambda: self._ready.put(None), heartbeats)

    @property
    def idle(self) -> bool:
        """Whether no pipeline uses these workers."""
        return not self._served

    def add(self, frames: PipelineFrames) -> None:
        """Serve a pipeline; by one thread at a time."""
        self._served = (*self._served, frames)
        frames.start(self._ready.put)

    def remove(self, frames: PipelineFrames) -> None:
        """Serve a pipeline no more; by one thread at a time."""
        self._served = tuple(each for each in self._served if each is not frames)

    def stop(self, timeout_s: float) -> bool:
        """End and join the threads. Return False when one is stuck in a call; it is abandoned."""
        return self._group.stop(timeout_s)

    # The methods below run in the workers.

    def _step(self, beat: Beat) -> None:
        frames = None
        try:
            frames = self._ready.get(timeout=POLL_S)
        except Empty:
            beat.progress()
        if frames is not None:
            self._process(frames, beat)
        if time.monotonic() >= self._next_check_s:
            self._next_check_s = time.monotonic() + _STALL_CHECK_S
            for each in self._served:
                each.capture.check_stall()

    def _process(self, frames: PipelineFrames, beat: Beat) -> None:
        beat.enter(frames.doing)
        taken = frames.take()
        if taken is None:
            return
        number, captured = taken
        read_output: ReadOutput
        try:
            read_output = self._classifier.run(captured.prepared)
        except BaseException as error:  # noqa: BLE001 - an InferenceError, or a bug, which is raised in its place
            read_output = partial(raise_error, error)
        try:
            here = bool(self._may_report) and self._may_report.pop()
        except IndexError:  # another worker was faster
            here = False
        if here:
            beat.enter(frames.tasks.doing)
        try:
            frames.deliver(number, captured.frame, read_output, here=here)
        finally:
            if here:
                self._may_report.append(True)


class PipelineThreads:
    """The threads that the pipelines of a daemon share: the workers of each loaded model, and the reporting threads."""

    def __init__(self, heartbeats: Heartbeats) -> None:
        self.tasks: Final = TaskThreads(heartbeats)
        """The threads that report results and execute commands."""
        self._heartbeats = heartbeats
        self._lock = threading.Lock()  # protects all that follows
        self._models: dict[int, ModelWorkers] = {}
        self._numbers = count(1)

    def add(self, classifier: SharedClassifier, frames: PipelineFrames) -> None:
        """Classify the frames of a pipeline. Raises RuntimeError when the system has no more threads."""
        with self._lock:
            workers = self._models.get(id(classifier))
            if workers is None:
                names = [f"infer-{next(self._numbers)}" for _ in range(classifier.lanes)]
                workers = ModelWorkers(classifier, names, self._heartbeats)
                self._models[id(classifier)] = workers
            workers.add(frames)

    def remove(self, classifier: SharedClassifier, frames: PipelineFrames, timeout_s: float) -> bool:
        """Classify no more frames of a pipeline; end the threads of the model if it was the last one that uses it.

        Returns:
            False when a thread is stuck in a call. Does nothing when the pipeline was removed before.
        """
        end_s = time.monotonic() + timeout_s
        complete = frames.stop(timeout_s)
        with self._lock:
            workers = self._models.get(id(classifier))
            if workers is None:
                return complete
            workers.remove(frames)
            if workers.idle:
                del self._models[id(classifier)]
                complete = workers.stop(max(0.0, end_s - time.monotonic())) and complete
        return complete
