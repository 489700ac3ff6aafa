"""The frames of one pipeline on their way from its camera through the workers to the reports."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Never

from edge_classifierd.errors import InferenceError
from edge_classifierd.frames.capture import Captured

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.frames.capture import Capture
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.pipeline.workers.task_queue import Task, TaskQueue
    from edge_classifierd.preprocess import Tensor

    ReadOutput = Callable[[], Inference]
    Report = Callable[[Frame, Inference | InferenceError], None]


class PipelineFrames:
    """The frames of one pipeline that a worker has taken and that are not reported yet.

    A worker takes the newest frame; then another worker may take the next one, while both prepare and classify theirs.
    The results are reported in the order in which the frames were taken. At most twice as many frames as there are
    lanes are in flight, so that a slow disk does not fill the memory.
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
        self._lanes = lanes
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

    def take(self) -> tuple[int, Captured[Tensor]] | None:
        """Take and prepare the newest frame, after `queue` was called. Return None when there is none.

        The number counts the frames in the order of capture, for `deliver`. The end of the source and an exception (a
        bug) are reported in their place, after the earlier frames.
        """
        with self._lock:
            if self._stopping:
                return None
            self._working += 1
            a_worker_waits = self._working < self._lanes
        newest: Captured[Tensor] | Frame | None = None
        task: Task | None = None
        try:
            newest = self.capture.take_newest(0.0, request_next=a_worker_waits)
            if newest is None and self.capture.finished:
                task = self._on_end
        except BaseException as error:  # noqa: BLE001 - a bug, which is raised in its place
            task = partial(raise_error, error)
        with self._lock:
            number = self._next_in
            self._next_in += newest is not None or task is not None
            self._ended = task is not None
            self._claimed = another = self._can_be_taken()
        if another and self._queue is not None:
            self._queue(self)
        if isinstance(newest, Captured):  # the camera's thread has prepared it
            self.capture.request_next()
            return number, newest
        if newest is not None:
            return self._prepare(newest, number)
        if task is not None:
            self._deliver(number, task, here=False)
        else:
            self._leave()
        return None

    def deliver(self, number: int, frame: Frame, read_output: ReadOutput, *, here: bool) -> None:
        """Report the result of a frame when those before it are reported; with `here`, in this thread if possible."""
        self._deliver(number, partial(self._report_one, frame, read_output), here=here)
        if self._lanes > 1:  # this worker is free, and the one that took the latest frame may still prepare it
            self.capture.request_next()

    def stop(self, timeout_s: float) -> bool:
        """Report no more frames and wait until no worker has one. Return False when a worker is stuck in a call."""
        with self._lock:
            self._stopping = True
            self._done.clear()
            return self._left.wait_for(lambda: not self._working, timeout_s)

    def _prepare(self, newest: Frame, number: int) -> tuple[int, Captured[Tensor]] | None:
        task: Task = _nothing
        try:
            captured = self.capture.prepare(newest)
        except BaseException as error:  # noqa: BLE001 - a bug, which is raised in its place
            captured, task = None, partial(raise_error, error)
        # Only now, unless a worker waits: the camera's thread would compete for Python's lock with the preparation.
        self.capture.request_next()
        if captured is not None:
            return number, captured
        self._deliver(number, task, here=False)
        return None

    def _offer(self) -> None:
        """Wait for a worker if there is a frame to take and fewer than the maximum are in flight; any thread."""
        with self._lock:
            if self._claimed or not self._can_be_taken():
                return
            self._claimed = True
        if self._queue is not None:
            self._queue(self)

    def _can_be_taken(self) -> bool:
        """Return whether there is a frame and room for it; the caller has the lock."""
        room = self._next_in - self._reported < self._max_in_flight
        return room and not self._stopping and not self._ended and self.capture.ready

    def _deliver(self, number: int, task: Task, *, here: bool) -> None:
        with self._lock:
            self._working -= 1
            if self._stopping:
                self._left.notify_all()
                return
            if number != self._next_out:
                self._done[number] = task
                return
            following: list[Task] = [partial(self._execute, task)]
            self._next_out += 1
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


def _nothing() -> None:
    """Take the place of a frame that cannot be prepared."""


def raise_error(error: BaseException) -> Never:
    """Raise `error`: a task for a frame that has failed, or a function in place of one that reads an output."""
    raise error
