"""The worker threads of the loaded models. The threads of a model serve all pipelines that use it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Never

from edge_classifierd.errors import InferenceError
from edge_classifierd.pipeline.task_queue import TaskThreads
from edge_classifierd.pipeline.thread_group import POLL_S, ThreadGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.frames.capture import Capture
    from edge_classifierd.health.heartbeat import Beat, Heartbeats
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.task_queue import Task, TaskQueue
    from edge_classifierd.preprocess import Tensor

    ReadOutput = Callable[[], Inference]
    Report = Callable[[Frame, Inference | InferenceError], None]

_STALL_CHECK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class TakenFrame:
    """A frame that a worker has taken, with its number in the order of capture and its input tensor."""

    number: int
    frame: Frame
    tensor: Tensor


class PipelineFrames:
    """The frames of one pipeline that a worker has taken and that are not reported yet.

    A worker takes the newest frame and prepares it, one thread at a time; so the pipeline needs one preprocessor. Then
    another worker may take the next frame. The results are reported in the order in which the frames were taken. At
    most twice as many frames as there are lanes are in flight, so that a slow disk does not fill the memory.
    """

    def __init__(
        self, capture: Capture[Tensor], tasks: TaskQueue, report: Report, on_end: Task, *, name: str, lanes: int
    ) -> None:
        self.capture = capture
        self.doing: Final = f"classify ({name})"
        """What a worker does with a frame, for its heartbeat."""
        self.tasks = tasks
        self._report = report
        self._on_end = on_end
        self._max_in_flight = 2 * lanes
        self._queue: Callable[[PipelineFrames], None] | None = None
        self._lock = threading.Lock()  # protects all that follows
        self._left = threading.Condition(self._lock)  # notified after `stop` when no worker has a frame
        self._claimed = False  # waits for a worker, or a worker takes a frame
        self._stopping = self._ended = False
        self._next_in = self._next_out = self._reported = 0
        self._working = 0  # number of workers that have a frame
        self._done: dict[int, Task] = {}

    def start(self, queue: Callable[[PipelineFrames], None]) -> None:
        """Call `queue` whenever a worker can take a frame."""
        self._queue = queue
        self.capture.notify(self._offer)

    def take(self) -> TakenFrame | None:
        """Take and prepare the newest frame, after `queue` was called. Return None when there is none.

        The end of the source and an exception (a bug) are reported in their place, after the earlier frames.
        """
        with self._lock:
            if self._stopping:
                return None
            self._working += 1
        taken: TakenFrame | None = None
        task: Task | None = None
        try:
            captured = self.capture.take(0.0, request_next=False)
            # The camera's thread reads on only now: earlier it would compete for Python's lock with the preparation.
            self.capture.request_next()
            if captured is not None:
                taken = TakenFrame(self._next_in, captured.frame, captured.prepared)
            elif self.capture.finished:
                task = self._on_end
        except BaseException as error:  # noqa: BLE001 - a bug, which is raised in its place
            task = partial(_raise, error)
        with self._lock:
            number = self._next_in
            self._next_in += taken is not None or task is not None
            self._ended = task is not None
            self._claimed = False
        if task is not None:
            self._deliver(number, task, here=False)
        elif taken is None:
            self._leave()
        self._offer()
        return taken

    def deliver(self, taken: TakenFrame, read_output: ReadOutput, *, here: bool) -> None:
        """Report the result of a frame when those before it are reported; with `here`, in this thread if possible."""
        self._deliver(taken.number, partial(self._report_one, taken.frame, read_output), here=here)

    def stop(self, timeout_s: float) -> bool:
        """Report no more frames and wait until no worker has one. Return False when a worker is stuck in a call."""
        with self._lock:
            self._stopping = True
            self._done.clear()
            return self._left.wait_for(lambda: not self._working, timeout_s)

    def _offer(self) -> None:
        """Wait for a worker if there is a frame to take and fewer than the maximum are in flight; any thread."""
        with self._lock:
            if (
                self._claimed
                or self._stopping
                or self._ended
                or self._next_in - self._reported >= self._max_in_flight
                or not self.capture.ready
            ):
                return
            self._claimed = True
        if self._queue is not None:
            self._queue(self)

    def _deliver(self, number: int, task: Task, *, here: bool) -> None:
        following: list[Task] = []
        with self._lock:
            self._working -= 1
            if self._stopping:
                self._left.notify_all()
                return
            self._done[number] = task
            while self._next_out in self._done:
                following.append(partial(self._execute, self._done.pop(self._next_out)))
                self._next_out += 1
            execute = self.tasks.append(following)
        if execute and here:
            self.tasks.execute(len(following))
        elif execute:
            self.tasks.schedule()

    def _leave(self) -> None:
        with self._lock:
            self._working -= 1
            if self._stopping:
                self._left.notify_all()

    # The methods below are executed by the task queue.

    def _execute(self, task: Task) -> None:
        if not self._stopping:
            task()
            self._reported += 1  # by one thread at a time
            if self._next_in - self._reported >= self._max_in_flight - 1:  # until now there was no room for a frame
                self._offer()

    def _report_one(self, frame: Frame, read_output: ReadOutput) -> None:
        outcome: Inference | InferenceError
        try:
            outcome = read_output()
        except InferenceError as error:
            outcome = error
        self._report(frame, outcome)


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
        self._reporting_here = threading.Semaphore(classifier.lanes - 1)
        self._served: tuple[PipelineFrames, ...] = ()
        self._next_check_s = time.monotonic() + _STALL_CHECK_S
        self._group = ThreadGroup(names, self._step, lambda: self._ready.put(None), heartbeats)

    @property
    def idle(self) -> bool:
        """Whether the workers serve no pipeline."""
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
        try:
            frames = self._ready.get(timeout=POLL_S)
        except Empty:
            frames = None
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
        read_output: ReadOutput
        try:
            read_output = self._classifier.run(taken.tensor)
        except BaseException as error:  # noqa: BLE001 - an InferenceError, or a bug, which is raised in its place
            read_output = partial(_raise, error)
        here = self._reporting_here.acquire(blocking=False)
        if here:
            beat.enter(frames.tasks.doing)
        try:
            frames.deliver(taken, read_output, here=here)
        finally:
            if here:
                self._reporting_here.release()


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


def _raise(error: BaseException) -> Never:
    raise error
