"""Classifies the frames of a pipeline one after the other, for a classifier with one lane."""

from __future__ import annotations

import threading
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import InferenceError
from edge_classifierd.pipeline.worker_threads import POLL_S, STUCK_AFTER_S, classify, start_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.frames.capture import Capture
    from edge_classifierd.health.heartbeat import Beat, Heartbeats
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.worker_threads import Classified
    from edge_classifierd.preprocess import Tensor

    ReadOutput = Callable[[], Inference]

_MAX_UNREPORTED: Final = 2


class SingleWorker:
    """Classifies in the pipeline's thread. The capture thread prepares frames, a third thread reports results.

    The third thread also reads the output, so that between two inferences the classifier waits only for the next
    frame: work between two inferences runs with cold caches and takes ten times as long as with warm ones.
    At most two results wait for their report.
    """

    def __init__(
        self,
        capture: Capture[Tensor],
        classifier: SharedClassifier,
        report: Callable[[Classified], None],
        *,
        name: str,
        beat: Beat,
        heartbeats: Heartbeats,
    ) -> None:
        self.capture = capture
        self._classifier = classifier
        self._report = report
        self._beat = beat
        self._heartbeats = heartbeats
        self._stopping = threading.Event()
        self._results: SimpleQueue[tuple[Frame, ReadOutput] | None] = SimpleQueue()  # None: stop
        self._classified = 0  # written by the pipeline's thread
        self._reported = 0  # written by the reporting thread
        self._progress = threading.Event()
        self._bug: BaseException | None = None
        report_beat = heartbeats.register(f"report-{name}", STUCK_AFTER_S)
        self._thread = threading.Thread(target=self._run, args=(report_beat,), name=f"report-{name}", daemon=True)
        start_threads([self._thread], heartbeats, self._stopping)

    @property
    def finished(self) -> bool:
        """See `Workers.finished`."""
        return self.capture.finished and self._classified == self._reported

    def work(self, timeout_s: float) -> bool:
        """See `Workers.work`."""
        if self._bug is not None:
            raise self._bug
        if self._classified - self._reported >= _MAX_UNREPORTED:
            self._wait_for_fewer_than(_MAX_UNREPORTED, timeout_s)
            return False
        captured = self.capture.take(timeout_s)
        if captured is None:
            if self.capture.finished:
                self._wait_for_fewer_than(1, timeout_s)
            return False
        self._beat.enter("classify")
        try:
            read_output = self._classifier.run(captured.prepared)
        except InferenceError as error:
            read_output = partial(_raise, error)
        self._classified += 1
        self._results.put((captured.frame, read_output))
        return True

    def wake(self) -> None:
        """Do nothing: `work` returns after the next frame or after its timeout."""

    def stop(self, timeout_s: float) -> bool:
        """See `Workers.stop`."""
        self._stopping.set()
        self._results.put(None)
        self._thread.join(timeout_s)
        self._heartbeats.release(self._thread.name)
        return not self._thread.is_alive()

    def _wait_for_fewer_than(self, count: int, timeout_s: float) -> None:
        """Wait up to `timeout_s` until fewer than `count` results wait for their report."""
        self._progress.clear()
        if self._classified - self._reported >= count and self._bug is None:
            self._progress.wait(timeout_s)

    # The methods below run in the reporting thread.

    def _run(self, beat: Beat) -> None:
        try:
            while not self._stopping.is_set():
                beat.progress()
                try:
                    result = self._results.get(timeout=POLL_S)
                except Empty:
                    continue
                if result is None:
                    return
                beat.enter("report")
                self._report(classify(*result))
                self._reported += 1
                self._progress.set()
        except BaseException as error:  # noqa: BLE001 - a bug; `work` raises it in the pipeline's thread
            self._bug = error
        finally:
            beat.waiting("ended")
            self._progress.set()


def _raise(error: InferenceError) -> Inference:
    raise error
