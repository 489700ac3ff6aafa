"""The threads of a pipeline that classify its frames and report the results in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from edge_classifierd.pipeline.parallel_workers import ParallelWorkers
from edge_classifierd.pipeline.single_worker import SingleWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.frames.capture import Capture
    from edge_classifierd.health.heartbeat import Beat, Heartbeats
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.worker_threads import Classified
    from edge_classifierd.preprocess import Tensor

    Prepare = Callable[[Frame], Tensor]

T = TypeVar("T")


class MakeCapture(Protocol):
    """Makes the capture of a pipeline, not started."""

    def __call__(self, prepare: Callable[[Frame], T], /) -> Capture[T]:
        """Return a capture that calls `prepare` with every frame in its thread."""


class Workers(Protocol):
    """Classifies and reports the frames of one pipeline. Used by the pipeline's thread, except `wake`."""

    @property
    def capture(self) -> Capture[Any]:
        """The source of the frames. The owner of the workers starts and stops it."""

    @property
    def finished(self) -> bool:
        """Whether the source has ended and all its frames were reported."""

    def work(self, timeout_s: float) -> bool:
        """Classify one frame, or wait up to `timeout_s` when there is none.

        Returns:
            False when this thread classified no frame; the caller then checks `finished`.

        Raises:
            Exception: An unexpected exception of the capture, an inference or a report (a bug).
        """

    def wake(self) -> None:
        """End the wait of `work` early if possible; any thread."""

    def stop(self, timeout_s: float) -> bool:
        """Report no more frames and join the threads. Call it after `request_stop` of the capture.

        Returns:
            False when a thread is stuck in a call.
        """


def make_workers(
    make_capture: MakeCapture,
    make_prepare: Callable[[], Prepare],
    classifier: SharedClassifier,
    report: Callable[[Classified], None],
    *,
    name: str,
    beat: Beat,
    heartbeats: Heartbeats,
) -> Workers:
    """Make the workers of a pipeline: one worker, or one for each lane of a classifier with several.

    Args:
        make_capture: Called once.
        make_prepare: Makes the function that turns a frame into the input tensor; called once for each thread.
        classifier: The classifier; other pipelines may use it too.
        report: Called with one result at a time, in the order of capture, not always in the same thread.
        name: The pipeline's name.
        beat: Heartbeat of the pipeline's thread.
        heartbeats: Receives a heartbeat for each worker thread.
    """
    if classifier.lanes == 1:
        return SingleWorker(
            make_capture(make_prepare()), classifier, report, name=name, beat=beat, heartbeats=heartbeats
        )
    capture = make_capture(lambda frame: frame)
    return ParallelWorkers(capture, make_prepare, classifier, report, name=name, heartbeats=heartbeats)
