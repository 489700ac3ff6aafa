"""The tasks of each pipeline (results to report, commands), and the threads that all pipelines share for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from edge_classifierd.pipeline.workers.thread_group import POLL_S, ThreadGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_classifierd.health.heartbeat import Beat, Heartbeats

    Task = Callable[[], None]

_THREADS: Final = 4
"""So many pipelines may wait for a slow disk at the same time without delaying the others."""


class TaskThreads:
    """Executes the tasks of the queues that were started; the threads end with the last of these."""

    def __init__(self, heartbeats: Heartbeats) -> None:
        self._heartbeats = heartbeats
        self._ready: SimpleQueue[TaskQueue | None] = SimpleQueue()  # None: stop
        self.schedule: Final = self._ready.put
        """Makes one of the threads execute the tasks of a `TaskQueue`, its argument."""
        self._lock = threading.Lock()  # protects all that follows
        self._users = 0
        self._group: ThreadGroup | None = None

    def acquire(self) -> None:
        """Start the threads for the first user. Raises RuntimeError when the system has no more threads."""
        with self._lock:
            if self._group is None:
                names = [f"report-{number + 1}" for number in range(_THREADS)]
                self._group = ThreadGroup(names, self._step, lambda: self._ready.put(None), self._heartbeats)
            self._users += 1

    def release(self, timeout_s: float) -> None:
        """End the threads after the last user."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._group is not None:
                self._group.stop(timeout_s)
                self._group = None

    def _step(self, beat: Beat) -> None:
        try:
            queue = self._ready.get(timeout=POLL_S)
        except Empty:
            beat.progress()
            return
        if queue is not None:
            beat.enter(queue.doing)
            queue.execute()


class TaskQueue:
    """The tasks of one pipeline, executed in order and one at a time. Any thread may call its methods."""

    def __init__(self, threads: TaskThreads, name: str, on_error: Callable[[BaseException], None]) -> None:
        """Prepare the queue.

        Args:
            threads: The threads that execute tasks.
            name: The pipeline's name.
            on_error: Called with the exception of a task, in the thread that executed it. The queue is closed then.
        """
        self.doing: Final = f"report ({name})"
        """What a thread does that executes a task, for its heartbeat."""
        self._threads = threads
        self._on_error = on_error
        self._started = False
        self._lock = threading.Lock()  # protects all that follows
        self._paused = threading.Condition(self._lock)  # notified after `close` when no task is executed
        self._waiting: deque[Task] = deque()
        self._claimed = False  # a thread executes the tasks or is about to
        self._executing = False
        self._closed = False

    def start(self) -> None:
        """Begin to use the threads. Raises RuntimeError when the system has no more threads."""
        self._threads.acquire()
        self._started = True

    def put(self, task: Task) -> None:
        """Execute `task` after those before it, in one of the threads. Does nothing after `close` or an error."""
        if self.append((task,)):
            self._threads.schedule(self)

    def append(self, tasks: Iterable[Task]) -> bool:
        """Add tasks. Return whether the caller must now call `execute`, or `schedule` of the threads."""
        with self._lock:
            if self._closed:
                return False
            self._waiting.extend(tasks)
            if self._claimed or not self._waiting:
                return False
            self._claimed = True
            return True

    def schedule(self) -> None:
        """Have one of the threads execute the tasks, after `append` has returned True."""
        self._threads.schedule(self)

    def execute(self, most: int | None = None) -> None:
        """Execute the waiting tasks, at most `most`; leave the others to the threads."""
        while True:
            with self._lock:
                self._executing = bool(self._waiting) and most != 0
                if not self._executing:
                    more = self._claimed = bool(self._waiting)
                    if self._closed:
                        self._paused.notify_all()
                    break
                task = self._waiting.popleft()
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - a bug, which affects this pipeline only
                with self._lock:
                    self._closed = True
                    self._waiting.clear()
                self._on_error(error)
            if most is not None:
                most -= 1
        if more:
            self._threads.schedule(self)

    def close(self, timeout_s: float) -> bool:
        """Discard the waiting tasks and wait for the one that is executed. May be called twice.

        Returns:
            False when that task is stuck in a call.
        """
        end_s = time.monotonic() + timeout_s
        with self._lock:
            self._closed = True
            self._waiting.clear()
            complete = self._paused.wait_for(lambda: not self._executing, timeout_s)
        if self._started:
            self._started = False
            self._threads.release(max(0.0, end_s - time.monotonic()))
        return complete


class Commands:
    """The commands of one pipeline, as tasks of its queue. Any thread may call `put`."""

    def __init__(self, tasks: TaskQueue, finished: Callable[[], bool]) -> None:
        """Commands that wait are discarded once `finished` returns True."""
        self._tasks = tasks
        self._finished = finished
        self._lock = threading.Lock()
        self._waiting: dict[str, Task] = {}

    def put(self, key: str, command: Task) -> None:
        """Execute `command` before the next frame. It replaces a waiting command with the same key."""
        with self._lock:
            scheduled = bool(self._waiting)
            self._waiting.pop(key, None)
            self._waiting[key] = command
        if not scheduled:
            self._tasks.put(self._execute)

    def _execute(self) -> None:
        with self._lock:
            commands, self._waiting = self._waiting, {}
        for command in commands.values():
            if not self._finished():
                command()
