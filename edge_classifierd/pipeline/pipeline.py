"""One pipeline: connects a capture, the workers and the reporter; starts, pauses and stops them."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from edge_classifierd.clock import process_age_s
from edge_classifierd.errors import InferenceError, failure_sentence
from edge_classifierd.frames.camera import CaptureStatus
from edge_classifierd.pipeline.preparation import make_prepare
from edge_classifierd.pipeline.reporter import Reporter
from edge_classifierd.pipeline.worker_threads import STUCK_AFTER_S
from edge_classifierd.pipeline.workers import make_workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.frames.capture import Capture
    from edge_classifierd.health.heartbeat import Heartbeats
    from edge_classifierd.health.metrics import PipelineMetrics
    from edge_classifierd.inference.base import AcceleratorTemperature, Inference
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.cameras import Cameras
    from edge_classifierd.pipeline.observation.observer import ResultObserver
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.pipeline.saved_state import SavedState
    from edge_classifierd.pipeline.sink import ResultSink
    from edge_classifierd.pipeline.worker_threads import Classified
    from edge_classifierd.pipeline.workers import Workers
    from edge_classifierd.preprocess import Region, Tensor

T = TypeVar("T")
_log = logging.getLogger(__name__)

_IDLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of the daemon that a pipeline uses."""

    device: str
    sink: ResultSink
    heartbeats: Heartbeats
    saved_state: SavedState
    clock: Clock
    cameras: Cameras
    observer: ResultObserver | None = None


class Pipeline:
    """Runs one plan. `start`, `stop` and the commands may be called from any thread."""

    def __init__(
        self, plan: Plan, classifier: SharedClassifier, metrics: PipelineMetrics, surroundings: Surroundings
    ) -> None:
        name = plan.section.name
        self.plan = plan = plan.with_region(surroundings.saved_state.commands(name).region)
        self.metrics = metrics
        self.finished = False
        """Whether the source has ended and all its frames were reported."""
        self.failure: BaseException | None = None
        """The exception that ended the pipeline's thread, for the supervisor."""
        self._classifier = classifier
        self._around = surroundings
        self._reporter = Reporter(
            plan,
            device=surroundings.device,
            runtime=lambda: classifier.runtime,
            sink=surroundings.sink,
            saved_state=surroundings.saved_state,
            clock=surroundings.clock,
            observer=surroundings.observer,
        )
        self._capture: Capture[Any] | None = None
        self._workers: Workers | None = None
        self._commands: dict[str, Callable[[], None]] = {}
        self._command_lock = threading.Lock()
        self._stopping = threading.Event()
        self._classified = False
        self._inference_failing = False
        self._offline_reason: str | None = None
        self._online = False
        self._report_lock = threading.Lock()  # the reporter is used by one thread at a time
        self._thread = threading.Thread(target=self._run, name=f"infer-{name}", daemon=True)

    @property
    def name(self) -> str:
        """The pipeline's name in the configuration."""
        return self.plan.section.name

    @property
    def enabled(self) -> bool:
        """Whether it captures; False after a command has disabled it."""
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
        """Why the camera delivers no frames, one sentence; None when it does or when the pipeline is disabled."""
        return self._offline_reason

    def start(self) -> None:
        """Start the threads and return. Call it once, after a previous pipeline of this name has stopped."""
        self._beat = self._around.heartbeats.register(f"infer-{self.name}", STUCK_AFTER_S)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads
            self._fail(error)
            self._release_heartbeats()

    def request_stop(self) -> None:
        """Begin to stop, without waiting, so that several pipelines stop in parallel; then call `stop`."""
        self._stopping.set()
        capture = self._capture
        if capture is not None:
            capture.request_stop()

    def stop(self, timeout_s: float) -> bool:
        """Stop all threads. Active watches stay active. Return False when a thread is stuck in a call."""
        self.request_stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        # Read these only now: a command may have opened the camera in the meantime.
        capture, workers = self._capture, self._workers
        captured = capture is None or capture.stop(timeout_s)
        classified = workers is None or workers.stop(timeout_s)
        self._release_heartbeats()
        return captured and classified and not self._thread.is_alive()

    def clear(self) -> None:
        """Clear all active watches. Other objects call it only after `stop`, when the pipeline is removed."""
        with self._report_lock:
            self._reporter.clear(self._classifier.accelerator)

    def refresh_metrics(self) -> None:
        """Copy the counts of the capture and the state of the accelerator to the metrics."""
        self._update_degradations()
        self.metrics.set_accelerator(self._classifier.accelerator)
        capture = self._capture
        if capture is not None:
            self.metrics.captured(frames=capture.delivered, dropped=capture.dropped, skipped=capture.skipped)
        self.metrics.set_picture_problem(None if capture is None else capture.picture_problem)

    def set_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - the value itself
        """Enable or disable the pipeline."""
        self._enqueue("enabled", lambda: self._set_enabled(enabled))

    def set_threshold(self, watch: str, threshold: float | None) -> None:
        """Change the threshold of a watch from the next frame on; None: the configured one. Both are valid."""
        self._enqueue(f"threshold of {watch}", lambda: self._set_threshold(watch, threshold))

    def set_region(self, region: Region | None) -> None:
        """Classify another part of the picture from the next frame on; None: the configured region."""
        self._enqueue("region", lambda: self._set_region(region))

    def change_plan(self, plan: Plan) -> None:
        """Continue with a plan that differs in its watches only, without losing a frame or the state of a watch."""
        self._enqueue("plan", lambda: self._change_plan(plan))

    def thresholds(self) -> dict[str, float]:
        """Return the present threshold of every watch."""
        return self._reporter.thresholds()

    def request_picture(self) -> None:
        """Publish the next frame as a picture."""
        self._enqueue("picture", self._request_picture)

    def _enqueue(self, key: str, command: Callable[[], None]) -> None:
        """Execute `command` before the next frame. It replaces a waiting command with the same key."""
        with self._command_lock:
            self._commands.pop(key, None)
            self._commands[key] = command
        workers = self._workers
        if workers is not None:
            workers.wake()

    def _run(self) -> None:
        try:
            self._reporter.start(self._classifier.accelerator)
            self._around.sink.publish_status(self.plan, online=False)
            if self.enabled:
                self._open()
            elif self._reporter.any_active:  # it stopped before it executed the command that disabled it
                self.clear()
            while not self._stopping.is_set() and not self.finished:
                self._step()
        except Exception as error:  # noqa: BLE001 - the supervisor logs the bug and restarts the pipeline
            self._fail(error)
        finally:
            self._release_heartbeats()

    def _fail(self, error: BaseException) -> None:
        """Go offline because of an exception, until the supervisor restarts the pipeline."""
        self.failure = error
        self.request_stop()
        self._online, self._offline_reason = False, failure_sentence(error)
        self._around.sink.publish_status(self.plan, online=False)

    def _step(self) -> None:
        """Execute the waiting commands, then classify a frame or wait a short time for one."""
        if self._commands:
            with self._command_lock:
                commands, self._commands = self._commands, {}
            for command in commands.values():
                command()
        workers = self._workers
        if workers is None:
            self._beat.progress()
            self._stopping.wait(_IDLE_S / 5)
            return
        worked = workers.work(_IDLE_S)
        self._beat.progress()  # the wait is shorter than the limit of the watchdog
        if not worked and workers.finished and not self._stopping.is_set():
            self._finish()

    def _report(self, classified: Classified) -> None:
        """Report one result. Called in the order of capture, not always in the same thread."""
        with self._report_lock:
            self._report_frame(classified.frame, classified.outcome)

    def _report_frame(self, frame: Frame, inference: Inference | InferenceError) -> None:
        if isinstance(inference, InferenceError):
            self.metrics.failed()
            self._update_degradations()
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
        self._update_degradations()
        self.metrics.ambiguity.record(ambiguous=result.ambiguous)
        latency_ms = (self._around.clock.monotonic() - frame.captured_s) * 1000.0
        self.metrics.classified(inference_ms=inference.inference_ms, latency_ms=latency_ms)

    def _update_degradations(self) -> None:
        for flag, sentence in self._classifier.degradations.items():
            if sentence is None:
                self.metrics.recover(flag)
            else:
                self.metrics.degrade(flag, sentence)

    def _finish(self) -> None:
        """Clear the watches, because the source has ended."""
        _log.info("%s: the source has ended", self.name)
        self.clear()
        self.finished = True

    def _set_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - the value itself
        if enabled and self._capture is None:
            self._open()
        elif not enabled and self._capture is not None:
            self._close()
            self.clear()

    def _change_plan(self, plan: Plan) -> None:
        plan = plan.with_region(self.plan.commanded_region)
        with self._report_lock:
            self._reporter.change_plan(plan, self._classifier.accelerator)
            self.plan = plan
        if self._capture is not None:
            self._capture.set_max_fps(plan.section.max_fps)

    def _set_region(self, region: Region | None) -> None:
        with self._report_lock:
            self.plan = self.plan.with_region(region)
            self._reporter.change_region(self.plan)
        if self.plan.section.source.cuts_itself and self._capture is not None:
            self._close()
            self._open()

    def _set_threshold(self, watch: str, threshold: float | None) -> None:
        with self._report_lock:
            self._reporter.set_threshold(watch, threshold)

    def _request_picture(self) -> None:
        with self._report_lock:
            self._reporter.request_picture()

    def _open(self) -> None:
        section = self.plan.section
        self._workers = make_workers(
            self._make_capture,
            self._make_prepare,
            self._classifier,
            self._report,
            name=section.name,
            beat=self._beat,
            heartbeats=self._around.heartbeats,
        )
        self._around.heartbeats.watch(f"capture-{section.name}", STUCK_AFTER_S, self._capture_beat_s)
        self._workers.capture.start()

    def _make_capture(self, prepare: Callable[[Frame], T]) -> Capture[T]:
        self._capture = capture = self._around.cameras.capture(self.plan, prepare, self._set_status)
        return capture

    def _make_prepare(self) -> Callable[[Frame], Tensor]:
        return make_prepare(lambda: self.plan)

    def _close(self) -> None:
        if self._capture is not None:
            self.refresh_metrics()
            self._capture.stop(_IDLE_S)
            if self._workers is not None:
                self._workers.stop(_IDLE_S)
            self._capture = self._workers = None
            self._around.heartbeats.release(f"capture-{self.name}")

    def _capture_beat_s(self) -> float:
        capture = self._capture
        return inf if capture is None else capture.last_beat_s

    def _release_heartbeats(self) -> None:
        self._around.heartbeats.release(f"infer-{self.name}")
        self._around.heartbeats.release(f"capture-{self.name}")

    def _set_status(self, status: CaptureStatus, sentence: str) -> None:
        if self.failure is not None:
            return
        self._online = status is CaptureStatus.DELIVERING
        self._offline_reason = sentence if status is CaptureStatus.RETRYING else None
        self._around.sink.publish_status(self.plan, online=self._online)
