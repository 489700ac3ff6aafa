"""One pipeline: connects a capture, the workers of its model and the reporter; starts, pauses and stops them."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from edge_classifierd.clock import process_age_s
from edge_classifierd.errors import InferenceError, failure_sentence
from edge_classifierd.frames.camera import CaptureStatus
from edge_classifierd.pipeline.gating import make_gate
from edge_classifierd.pipeline.preparation import make_prepare
from edge_classifierd.pipeline.reporter import Reporter
from edge_classifierd.pipeline.rest import Rest
from edge_classifierd.pipeline.workers.pipeline_frames import PipelineFrames
from edge_classifierd.pipeline.workers.task_queue import Commands, TaskQueue
from edge_classifierd.pipeline.workers.thread_group import STUCK_AFTER_S

if TYPE_CHECKING:
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.frames.capture import Capture
    from edge_classifierd.health.metrics import PipelineMetrics
    from edge_classifierd.inference.base import AcceleratorTemperature, Inference
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.gating import PipelineGate
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.pipeline.surroundings import Surroundings
    from edge_classifierd.preprocess import Region, Tensor

_log = logging.getLogger(__name__)

_CLOSE_S = 0.5
"""Maximum time that a command which disables the pipeline waits for the camera and for the workers."""


class Pipeline:
    """Runs one plan. `start`, `stop` and the commands may be called from any thread.

    A pipeline has no thread. The workers of its model classify its frames. The results and the commands are tasks of
    its queue, which are executed one at a time.
    """

    def __init__(
        self, plan: Plan, classifier: SharedClassifier, metrics: PipelineMetrics, surroundings: Surroundings
    ) -> None:
        name = plan.section.name
        self.plan = plan = plan.with_region(surroundings.saved_state.commands(name).region)
        self.metrics = metrics
        self.finished = False
        """Whether the source has ended and all its frames were reported."""
        self.failure: BaseException | None = None
        """The exception that ended the pipeline, for the supervisor."""
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
        self._tasks = TaskQueue(surroundings.threads.tasks, self.name, self._fail)
        self._capture: Capture[Tensor] | None = None
        self._inherited: Capture[Tensor] | None = None
        """The capture of the pipeline that this one replaces; it keeps the camera open."""
        self._gate: PipelineGate | None = None
        self._frames: PipelineFrames | None = None
        self._commands = Commands(self._tasks, lambda: self.finished)
        self._stopping = self._handed_over = self._classified = False
        self._inference_failing = False
        self._offline_reason: str | None = None
        self._enabled = self.enabled
        self._rest = Rest.ACTIVE
        self._online = False

    @property
    def name(self) -> str:
        """The pipeline's name in the configuration."""
        return self.plan.section.name

    @property
    def enabled(self) -> bool:
        """Whether it captures; False after a command has disabled it."""
        return self._around.saved_state.commands(self.name).enabled is not False

    @property
    def resting(self) -> bool:
        """Whether its camera is closed outside its `active` times, or during a pause."""
        return self._enabled and self._rest is not Rest.ACTIVE

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
        """Start the pipeline and return. Call it once, after a previous pipeline of this name has stopped."""
        try:
            self._tasks.start()
        except RuntimeError as error:  # no more threads
            self._fail(error)
        else:
            self._tasks.put(self._begin)

    def request_stop(self) -> None:
        """Begin to stop, without waiting, so that several pipelines stop in parallel; then call `stop`."""
        self._stopping = True
        capture = self._capture
        if capture is not None:
            capture.request_stop()

    def stop(self, timeout_s: float) -> bool:
        """Stop the pipeline. Active watches stay active. Return False when a thread is stuck in a call."""
        self.request_stop()
        working = self._stop_working(timeout_s)
        self._leave_inherited_camera()
        capture = self._capture
        return (capture is None or capture.stop(timeout_s)) and working

    def hand_over(self, successor: Pipeline, timeout_s: float) -> bool:
        """Stop as `stop` does, but leave the camera open for `successor`, which is started next.

        For a successor whose plan needs the same camera (`same_camera`).
        """
        self._stopping = self._handed_over = True
        if not self._stop_working(timeout_s):
            self.stop(timeout_s)
            return False
        successor._inherited, successor._online = self._capture, self._online
        return True

    def _stop_working(self, timeout_s: float) -> bool:
        """Classify and report no more. Return False when a thread is stuck in a call."""
        reported = self._tasks.close(timeout_s)
        frames = self._frames  # read only now: a command may have opened the camera in the meantime
        classified = frames is None or self._around.threads.remove(self._classifier, frames, timeout_s)
        self._around.heartbeats.release(f"capture-{self.name}")
        return reported and classified

    def clear(self) -> None:
        """Clear all active watches. Other objects call it only after `stop`, when the pipeline is removed."""
        self._reporter.clear(self._classifier.accelerator)

    def refresh_accelerator(self) -> None:
        """Copy the state of the accelerator to the metrics. Call it a few times a second."""
        for flag, sentence in self._classifier.degradations.items():
            if sentence is None:
                self.metrics.recover(flag)
            else:
                self.metrics.degrade(flag, sentence)
        self.metrics.set_accelerator(self._classifier.accelerator)

    def refresh_metrics(self) -> None:
        """Copy the state of the accelerator and the counts of the capture to the metrics."""
        self.refresh_accelerator()
        capture = self._capture
        if capture is not None:
            self.metrics.captured(frames=capture.delivered, dropped=capture.dropped, skipped=capture.skipped)
        self.metrics.set_picture_problem(None if capture is None else capture.picture_problem)

    def set_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - the value itself
        """Enable or disable the pipeline."""
        self._commands.put("enabled", lambda: self._set_enabled(enabled))

    def check_rest(self) -> None:
        """Close or open the camera if its `active` times have ended or begun. Call it a few times a second."""
        if self.finished or self._stopping:
            return
        if self._rest is not self._around.rest_times.rest(self.plan.section.active):
            self._commands.put("rest", self._open_or_close)

    def set_threshold(self, watch: str, threshold: float | None) -> None:
        """Change the threshold of a watch from the next frame on; None: the configured one. Both are valid."""
        self._commands.put(f"threshold of {watch}", lambda: self._reporter.set_threshold(watch, threshold))

    def set_region(self, region: Region | None) -> None:
        """Classify another part of the picture from the next frame on; None: the configured region."""
        self._commands.put("region", lambda: self._set_region(region))

    def change_plan(self, plan: Plan) -> None:
        """Continue with a plan that differs in its watches only, without losing a frame or the state of a watch."""
        self._commands.put("plan", lambda: self._change_plan(plan))

    def thresholds(self) -> dict[str, float]:
        """Return the present threshold of every watch."""
        return self._reporter.thresholds()

    def request_picture(self) -> None:
        """Publish the next frame as a picture, although the motion gate sees nothing move."""
        self._commands.put("picture", self._reporter.request_picture)
        self.look_now()

    def look_now(self) -> None:
        """Classify the next frame although the motion gate sees nothing move."""
        gate = self._gate
        if gate is not None:
            gate.look_now()

    @property
    def rests_until_s(self) -> float | None:
        """Monotonic seconds until which no frame is classified because nothing moves; None when frames are."""
        gate = self._gate
        return gate.rests_until_s if gate is not None and self._online else None

    # The methods below are tasks, or are called by tasks, except `_fail` and `_set_status`.

    def _begin(self) -> None:
        self._reporter.start(self._classifier.accelerator)
        self._enabled = self.enabled
        self._open_or_close()
        self._leave_inherited_camera()

    def _leave_inherited_camera(self) -> None:
        """Close the camera of the pipeline that this one has replaced, unless this one uses it."""
        inherited, self._inherited = self._inherited, None
        if inherited is not None:
            inherited.stop(_CLOSE_S)

    def _fail(self, error: BaseException) -> None:
        """Go offline because of an exception, until the supervisor restarts the pipeline."""
        self.failure = error
        self.request_stop()
        self._online, self._offline_reason = False, failure_sentence(error)
        self._around.sink.publish_status(self.plan, online=False)

    def _report(self, frame: Frame, inference: Inference | InferenceError) -> None:
        """Report the result of a frame; in the order of capture."""
        if isinstance(inference, InferenceError):
            self.metrics.failed()
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
        self.metrics.ambiguity.record(ambiguous=result.ambiguous)
        latency_ms = (self._around.clock.monotonic() - frame.captured_s) * 1000.0
        self.metrics.classified(inference_ms=inference.inference_ms, latency_ms=latency_ms)

    def _finish(self) -> None:
        """Clear the watches, because the source has ended."""
        if self._stopping:
            return
        _log.info("%s: the source has ended", self.name)
        self.clear()
        self.finished = True

    def _set_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - the value itself
        self._enabled = enabled
        self._open_or_close()

    def _open_or_close(self) -> None:
        """Open the camera if the pipeline is enabled and active now, else close it and clear what is on."""
        before, self._rest = self._rest, self._around.rest_times.rest(self.plan.section.active)
        if self._rest is not before:
            _log.info("%s: %s", self.name, self._rest)
        was_open = self._capture is not None
        if self._enabled and self._rest is Rest.ACTIVE:
            if not was_open:
                self._publish_status()
                self._open()
            return
        self._close()
        self._publish_status()
        ended = not self._enabled or self._rest is not Rest.CLOCK_UNKNOWN
        if ended and (was_open or self._reporter.any_active):
            self.clear()

    def _publish_status(self) -> None:
        self._around.sink.publish_status(self.plan, online=self._online, resting=self.resting)

    def _change_plan(self, plan: Plan) -> None:
        plan = plan.with_region(self.plan.commanded_region)
        motion_changed = plan.section.motion != self.plan.section.motion
        self._reporter.change_plan(plan, self._classifier.accelerator)
        self.plan = plan
        if self._capture is not None:
            self._capture.set_max_fps(plan.section.max_fps)
            if motion_changed:
                self._capture.set_gate(self._make_gate())
        self._open_or_close()

    def _set_region(self, region: Region | None) -> None:
        self.plan = self.plan.with_region(region)
        self._reporter.change_region(self.plan)
        if self._capture is None:
            return
        if self.plan.section.source.cuts_itself:
            self._close()
            self._open()
        elif self.plan.section.motion.enabled:
            self._capture.set_gate(self._make_gate())

    def _open(self) -> None:
        around, lanes = self._around, self._classifier.lanes
        prepare, gate = make_prepare(lambda: self.plan), self._make_gate()
        self._capture = capture = around.cameras.capture(
            self.plan, prepare, self._set_status, lanes=lanes, gate=gate, beside=self._inherited
        )
        self._frames = PipelineFrames(capture, self._tasks, self._report, self._finish, name=self.name, lanes=lanes)
        around.threads.add(self._classifier, self._frames)
        around.heartbeats.watch(f"capture-{self.name}", STUCK_AFTER_S, lambda: capture.last_beat_s)
        capture.start()

    def _make_gate(self) -> PipelineGate | None:
        sink = self._around.sink
        settle = partial(self._commands.put, "settle", lambda: self._reporter.settle(self._classifier.accelerator))
        self._gate = make_gate(self.plan, self.metrics, sink, on_asleep=settle)
        return self._gate

    def _close(self) -> None:
        capture, frames = self._capture, self._frames
        if capture is not None and frames is not None:
            self.refresh_metrics()
            capture.stop(_CLOSE_S)
            self._around.threads.remove(self._classifier, frames, _CLOSE_S)
            self._capture = self._frames = None
            self._around.sink.publish_motion(self.plan, moving=False)
            self._around.heartbeats.release(f"capture-{self.name}")

    def _set_status(self, status: CaptureStatus, sentence: str) -> None:
        if self.failure is not None or self._handed_over:
            return
        self._online = status is CaptureStatus.DELIVERING
        self._offline_reason = sentence if status is CaptureStatus.RETRYING else None
        self._publish_status()
