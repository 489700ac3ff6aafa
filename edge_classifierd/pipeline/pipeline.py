"""One pipeline: what is between a camera's capture and the events, and how it starts, pauses and ends."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from edge_classifierd.clock import process_age_s
from edge_classifierd.errors import InferenceError, failure_sentence
from edge_classifierd.frames.capture import Capture, CaptureStatus
from edge_classifierd.frames.factory import make_source
from edge_classifierd.pipeline.reporter import Reporter
from edge_classifierd.pipeline.workers import STUCK_AFTER_S, make_line
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.sources import Source
    from edge_classifierd.frames.base import Frame, FrameSource, Needs
    from edge_classifierd.health.heartbeat import Heartbeats
    from edge_classifierd.health.metrics import PipelineMetrics
    from edge_classifierd.inference.base import AcceleratorTemperature, Inference
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.plan import Plan
    from edge_classifierd.pipeline.saved_state import SavedState
    from edge_classifierd.pipeline.sink import ResultSink
    from edge_classifierd.pipeline.workers import Classified, Workers
    from edge_classifierd.preprocess import Region, Tensor

T = TypeVar("T")
_log = logging.getLogger(__name__)

_IDLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pipeline needs of the daemon around it."""

    device: str
    sink: ResultSink
    heartbeats: Heartbeats
    saved_state: SavedState
    clock: Clock
    make_source: Callable[[Source, Clock, Region, Needs], FrameSource] = make_source
    """How a source section becomes a source; tests and benches stand in a camera here."""


class Pipeline:
    """Runs one plan. `start`, `stop` and the orders may come from any thread."""

    def __init__(
        self, plan: Plan, classifier: SharedClassifier, metrics: PipelineMetrics, surroundings: Surroundings
    ) -> None:
        self.plan = plan
        self.metrics = metrics
        self.finished = False
        """The source has come to its end and everything of it was judged."""
        self.failure: BaseException | None = None
        """What ended the pipeline's thread, for the supervisor."""
        self._classifier = classifier
        self._around = surroundings
        self._reporter = Reporter(
            plan,
            device=surroundings.device,
            runtime=lambda: classifier.runtime,
            sink=surroundings.sink,
            saved_state=surroundings.saved_state,
            clock=surroundings.clock,
        )
        self._capture: Capture[Any] | None = None
        self._line: Workers | None = None
        self._orders: dict[str, Callable[[], None]] = {}
        self._ordering = threading.Lock()
        self._stopping = threading.Event()
        self._classified = False
        self._inference_failing = False
        self._offline_reason: str | None = None
        self._online = False
        self._reporting = threading.Lock()  # the reporter is used by one thread at a time
        self._thread = threading.Thread(target=self._run, name=f"infer-{plan.section.name}", daemon=True)

    @property
    def name(self) -> str:
        """The pipeline's name in the configuration."""
        return self.plan.section.name

    @property
    def enabled(self) -> bool:
        """Whether it captures; False after the command `enabled` switched it off."""
        return self._around.saved_state.commands(self.name).enabled is not False

    @property
    def online(self) -> bool:
        """Whether its camera delivers frames."""
        return self._online

    @property
    def temperatures(self) -> tuple[tuple[str, AcceleratorTemperature], ...]:
        """The accelerators of this pipeline that have a readable sensor, by name."""
        return self._classifier.temperatures

    @property
    def offline_reason(self) -> str | None:
        """Why the camera does not deliver, against its will; one sentence."""
        return self._offline_reason

    def start(self) -> None:
        """Start capturing and judging; returns at once. Once only, after an earlier one of the name has stopped."""
        self._beat = self._around.heartbeats.register(f"infer-{self.name}", STUCK_AFTER_S)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads
            self._fail(error)
            self._release()

    def request_stop(self) -> None:
        """Begin to end; `stop` waits for it. So several pipelines end side by side."""
        self._stopping.set()
        capture = self._capture
        if capture is not None:
            capture.request_stop()

    def stop(self, timeout_s: float) -> bool:
        """End all threads; what is on is remembered, not cleared. False when a thread is stuck in a call."""
        self.request_stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        # Looked up only now: an order may have opened the camera in between.
        capture, line = self._capture, self._line
        captured = capture is None or capture.stop(timeout_s)
        classified = line is None or line.stop(timeout_s)
        self._release()
        return captured and classified and not self._thread.is_alive()

    def clear(self) -> None:
        """Say that nothing is seen any more; from outside only once it has stopped and when it does not come back."""
        with self._reporting:
            self._reporter.clear(self._classifier.accelerator)

    def refresh_metrics(self) -> None:
        """Take the capture's counts and the accelerator's state over into the metrics, also while no frames come."""
        self._note_troubles()
        self.metrics.set_accelerator(self._classifier.accelerator)
        capture = self._capture
        if capture is not None:
            self.metrics.captured(frames=capture.delivered, dropped=capture.dropped, skipped=capture.skipped)

    def set_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - the value itself
        """Switch the camera on or off."""
        self._order("enabled", lambda: self._switch(enabled))

    def set_threshold(self, watch: str, threshold: float | None) -> None:
        """Change a watch's threshold from the next frame on, None: as configured; the caller has checked both."""
        self._order(f"threshold of {watch}", lambda: self._set_threshold(watch, threshold))

    def adopt(self, plan: Plan) -> None:
        """Go on with a plan that differs in its watches only, without losing a frame or a watch's state."""
        self._order("plan", lambda: self._adopt(plan))

    def thresholds(self) -> dict[str, float]:
        """Every watch's threshold as it is now."""
        return self._reporter.thresholds()

    def want_picture(self) -> None:
        """Publish the next frame as a picture."""
        self._order("picture", self._want_picture)

    def _order(self, what: str, order: Callable[[], None]) -> None:
        """Have it done before the next frame; a newer order takes the place of one for the same thing that waits."""
        with self._ordering:
            self._orders.pop(what, None)
            self._orders[what] = order
        line = self._line
        if line is not None:
            line.wake()

    def _run(self) -> None:
        try:
            self._reporter.start(self._classifier.accelerator)
            self._around.sink.publish_status(self.plan, online=False)
            if self.enabled:
                self._open()
            elif self._reporter.any_active:  # it was switched off, and ended before that was carried out
                self.clear()
            while not self._stopping.is_set() and not self.finished:
                self._step()
        except Exception as error:  # noqa: BLE001 - the supervisor's: it logs the bug and starts the pipeline again
            self._fail(error)
        finally:
            self._release()

    def _fail(self, error: BaseException) -> None:
        """Be offline because of an exception, until the supervisor starts the pipeline again."""
        self.failure = error
        self.request_stop()
        self._online, self._offline_reason = False, failure_sentence(error)
        self._around.sink.publish_status(self.plan, online=False)

    def _step(self) -> None:
        """Carry out the orders that wait, then judge one frame or wait a little for one."""
        if self._orders:
            with self._ordering:
                orders, self._orders = self._orders, {}
            for order in orders.values():
                order()
        line = self._line
        if line is None:
            self._beat.progress()
            self._stopping.wait(_IDLE_S / 5)
            return
        worked = line.work(_IDLE_S)
        self._beat.progress()  # such a wait is short: whoever does not come back from it is stuck
        if not worked and line.finished and not self._stopping.is_set():
            self._finish()

    def _tell(self, classified: Classified) -> None:
        """One frame after the other, in their order; not always in the same thread."""
        with self._reporting:
            self._tell_of(classified.frame, classified.outcome)

    def _tell_of(self, frame: Frame, inference: Inference | InferenceError) -> None:
        if isinstance(inference, InferenceError):
            self.metrics.failed()
            self._note_troubles()
            if not self._inference_failing:
                _log.warning("%s: %s", self.name, inference)
                self.metrics.degrade("inference", str(inference))
            self._inference_failing = True
            return
        if self._inference_failing:
            _log.info("%s: inference works again", self.name)
            self.metrics.recover("inference")
            self._inference_failing = False
        result = self._reporter.report(frame, inference)
        if not self._classified:
            self._classified = True
            _log.info("%s: first frame classified, %.2f s after the start of the process", self.name, process_age_s())
        self.metrics.set_accelerator(inference.accelerator)
        self._note_troubles()
        self.metrics.ambiguity.record(ambiguous=result.ambiguous)
        latency_ms = (self._around.clock.monotonic() - frame.captured_s) * 1000.0
        self.metrics.classified(inference_ms=inference.inference_ms, latency_ms=latency_ms)

    def _note_troubles(self) -> None:
        for flag, sentence in self._classifier.degradations.items():
            if sentence is None:
                self.metrics.recover(flag)
            else:
                self.metrics.degrade(flag, sentence)

    def _finish(self) -> None:
        """The source is at its end: nothing is seen any more."""
        _log.info("%s: the source has come to its end", self.name)
        self.clear()
        self.finished = True

    def _switch(self, enabled: bool) -> None:  # noqa: FBT001 - the value itself
        if enabled and self._capture is None:
            self._open()
        elif not enabled and self._capture is not None:
            self._close()
            self.clear()

    def _adopt(self, plan: Plan) -> None:
        with self._reporting:
            self._reporter.change_plan(plan, self._classifier.accelerator)
            self.plan = plan

    def _set_threshold(self, watch: str, threshold: float | None) -> None:
        with self._reporting:
            self._reporter.set_threshold(watch, threshold)

    def _want_picture(self) -> None:
        with self._reporting:
            self._reporter.request_picture()

    def _open(self) -> None:
        section = self.plan.section
        self._line = make_line(
            self._make_capture,
            self._make_prepare,
            self._classifier,
            self._tell,
            name=section.name,
            beat=self._beat,
            heartbeats=self._around.heartbeats,
        )
        self._capture = self._line.capture
        self._around.heartbeats.watch(f"capture-{section.name}", STUCK_AFTER_S, self._capture_beat_s)
        self._capture.start()

    def _make_capture(self, prepare: Callable[[Frame], T]) -> Capture[T]:
        section = self.plan.section
        return Capture(
            self._around.make_source(section.source, self._around.clock, self.plan.region, self._preprocessor().needs),
            prepare,
            name=section.name,
            clock=self._around.clock,
            stall_timeout_s=getattr(section.source, "stall_timeout", 10.0),
            on_status=self._captured_status,
        )

    def _make_prepare(self) -> Callable[[Frame], Tensor]:
        preprocess = self._preprocessor()
        return lambda frame: preprocess(frame.for_model)

    def _preprocessor(self) -> Preprocessor:
        section = self.plan.section
        return Preprocessor(
            self.plan.bundle.input,
            self.plan.bundle.normalisation,
            fit=section.fit,
            crop_fraction=section.crop_fraction,
            view=self.plan.view,
        )

    def _close(self) -> None:
        if self._capture is not None:
            self.refresh_metrics()
            self._capture.stop(_IDLE_S)
            if self._line is not None:
                self._line.stop(_IDLE_S)
            self._capture = self._line = None
            self._around.heartbeats.release(f"capture-{self.name}")

    def _capture_beat_s(self) -> float:
        capture = self._capture
        return inf if capture is None else capture.last_beat_s

    def _release(self) -> None:
        self._around.heartbeats.release(f"infer-{self.name}")
        self._around.heartbeats.release(f"capture-{self.name}")

    def _captured_status(self, status: CaptureStatus, sentence: str) -> None:
        if self.failure is not None:
            return
        self._online = status is CaptureStatus.DELIVERING
        self._offline_reason = sentence if status is CaptureStatus.RETRYING else None
        self._around.sink.publish_status(self.plan, online=self._online)
