"""Classifies several frames of a pipeline at the same time, for a classifier with several lanes."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.pipeline.worker_threads import POLL_S, STUCK_AFTER_S, classify, start_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.frames.capture import Capture
    from edge_classifierd.health.heartbeat import Beat, Heartbeats
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.worker_threads import Classified
    from edge_classifierd.preprocess import Tensor

    Prepare = Callable[[Frame], Tensor]


class ParallelWorkers:
    """Classifies in one thread per lane. Each thread prepares its frames and reports the results that are next.

    A thread reports its result when that is the next one, and then those after it that are complete. So no other
    thread interrupts an inference where all cores are busy, and no frame is prepared that a newer one replaces: on two
    cores this gives some percent more frames. The next frame is requested just before an inference, because a capture
    thread that runs earlier competes for Python's lock with the preparation.
    At most twice as many frames as there are lanes are in flight, so that a blocked report (a slow disk) blocks the
    workers and does not fill the memory.
    """

    def __init__(
        self,
        capture: Capture[Frame],
        make_prepare: Callable[[], Prepare],
        classifier: SharedClassifier,
        report: Callable[[Classified], None],
        *,
        name: str,
        heartbeats: Heartbeats,
    ) -> None:
        self.capture = capture
        self._make_prepare = make_prepare
        self._classifier = classifier
        self._report = report
        self._heartbeats = heartbeats
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._intake = threading.Lock()  # held while a frame is taken and numbered
        self._next_in = 0
        self._max_in_flight = 2 * classifier.lanes
        self._lock = threading.Lock()  # protects all that follows; faster than a Condition for every frame
        self._reported_one = threading.Condition(self._lock)
        self._intake_waits = False
        self._next_out = 0
        self._done: dict[int, Classified | None] = {}  # None: the frame could not be prepared
        self._reporting = False
        self._bug: BaseException | None = None
        self._running = classifier.lanes
        names = [f"infer-{name}-{lane}" for lane in range(classifier.lanes)]
        beats = [heartbeats.register(each, STUCK_AFTER_S) for each in names]
        self._threads = [
            threading.Thread(target=self._run, args=(beat,), name=each, daemon=True)
            for each, beat in zip(names, beats, strict=True)
        ]
        start_threads(self._threads, heartbeats, self._stopping)

    @property
    def finished(self) -> bool:
        """See `Workers.finished`."""
        return self.capture.finished and not self._running

    def work(self, timeout_s: float) -> bool:
        """See `Workers.work`."""
        self._awake.wait(timeout_s)
        self._awake.clear()
        if self._bug is not None:
            raise self._bug
        return False

    def wake(self) -> None:
        """See `Workers.wake`."""
        self._awake.set()

    def stop(self, timeout_s: float) -> bool:
        """See `Workers.stop`."""
        self._stopping.set()
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
            self._heartbeats.release(thread.name)
        return not any(thread.is_alive() for thread in self._threads)

    # The methods below run in the threads of the lanes.

    def _run(self, beat: Beat) -> None:
        try:
            prepare = self._make_prepare()
            while not self._stopping.is_set() and self._process_one(beat, prepare):
                pass
        except BaseException as error:  # noqa: BLE001 - a bug; `work` raises it in the pipeline's thread
            self._bug = self._bug or error
            self._stopping.set()
        finally:
            beat.waiting("ended")
            with self._lock:
                self._running -= 1
            self._awake.set()

    def _process_one(self, beat: Beat, prepare: Prepare) -> bool:
        """Take, classify and report one frame if there is one. Return False when the source has ended."""
        beat.waiting("for the intake")  # other lanes may hold it repeatedly while frames are rare
        with self._intake:
            beat.progress()
            if self._next_in - self._next_out >= self._max_in_flight and not self._wait_for_report():
                return True
            captured = self.capture.take(POLL_S, request_next=False)
            if captured is None:
                return not self.capture.finished
            number = self._next_in
            self._next_in += 1
        beat.enter("classify")
        try:
            tensor = prepare(captured.frame)
        except EdgeClassifierError as error:
            self.capture.skip(error)
            classified = None
        else:
            self.capture.request_next()
            classified = classify(captured.frame, partial(self._classifier.classify, tensor))
        beat.enter("report")
        self._report_in_order(number, classified)
        return True

    def _wait_for_report(self) -> bool:
        """Wait a short time until fewer frames are in flight; called with the intake held."""
        with self._lock:
            self._intake_waits = True
            fewer = self._reported_one.wait_for(lambda: self._next_in - self._next_out < self._max_in_flight, POLL_S)
            self._intake_waits = False
            return fewer

    def _report_in_order(self, number: int, classified: Classified | None) -> None:
        """Report the frames that are next. If another thread reports already, it also reports this one."""
        with self._lock:
            self._done[number] = classified
            if self._reporting:
                return
            self._reporting = True
        while not self._stopping.is_set():
            with self._lock:
                if self._next_out not in self._done:
                    self._reporting = False
                    return
                following = self._done.pop(self._next_out)
                self._next_out += 1
                if self._intake_waits:
                    self._reported_one.notify()
            if following is not None:
                self._report(following)
