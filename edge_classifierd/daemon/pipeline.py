"""One pipeline: the inference thread between a camera's capture and the events, and how it starts, pauses and ends."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Protocol

from edge_classifierd.clock import process_age_s
from edge_classifierd.daemon.judge import Judge
from edge_classifierd.daemon.memory import ActiveWatch
from edge_classifierd.errors import InferenceError
from edge_classifierd.frames.capture import Capture, CaptureStatus
from edge_classifierd.frames.factory import make_source
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections import Source
    from edge_classifierd.daemon.classifiers import SharedClassifier
    from edge_classifierd.daemon.memory import Memory
    from edge_classifierd.daemon.preflight import Plan
    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.events.state import PipelineState
    from edge_classifierd.frames.base import Frame, FrameSource
    from edge_classifierd.frames.capture import Captured
    from edge_classifierd.health.heartbeat import Heartbeats
    from edge_classifierd.health.metrics import PipelineMetrics
    from edge_classifierd.preprocess import Tensor

_log = logging.getLogger(__name__)

_IDLE_S = 0.5
_STUCK_AFTER_S = 15.0
_MOST_ORDERS = 64


class Outlet(Protocol):
    """Where a pipeline's results go; called from the pipeline's threads."""

    def events(self, drafts: Sequence[EventDraft]) -> None:
        """Number the events and keep them; durable when it returns."""

    def watches(self, plan: Plan, active: frozenset[str]) -> None:
        """Which watches are on now."""

    def state(self, plan: Plan, state: PipelineState) -> None:
        """The pipeline's state has changed."""

    def status(self, plan: Plan, *, online: bool) -> None:
        """Whether the camera delivers frames."""

    def picture(self, plan: Plan, frame: Frame) -> None:
        """The frame that made a detection, or one that somebody asked for."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pipeline needs of the daemon around it."""

    device: str
    outlet: Outlet
    heartbeats: Heartbeats
    memory: Memory
    clock: Clock
    make_source: Callable[[Source, Clock], FrameSource] = make_source
    """How a source section becomes a source; tests and benches stand in a camera here."""


class Pipeline:
    """Runs one plan. `start`, `stop` and the orders may come from any thread; frames are judged on its own."""

    def __init__(
        self, plan: Plan, classifier: SharedClassifier, metrics: PipelineMetrics, surroundings: Surroundings
    ) -> None:
        self.plan = plan
        self.metrics = metrics
        self.finished = False
        """The source has come to its end and everything of it was judged."""
        self.failure: BaseException | None = None
        """The bug that ended the pipeline's thread, for the supervisor."""
        self._classifier = classifier
        self._around = surroundings
        self._judge = Judge(plan, device=surroundings.device, runtime=classifier.runtime)
        self._capture: Capture[Tensor] | None = None
        self._orders: queue.Queue[Callable[[], None]] = queue.Queue(_MOST_ORDERS)
        self._stopping = threading.Event()
        self._picture_wanted = False
        self._classified = False
        self._inference_failing = False
        self._offline_reason: str | None = None
        self._online = False
        self._thread = threading.Thread(target=self._run, name=f"infer-{plan.section.name}", daemon=True)
        self._recall()

    @property
    def name(self) -> str:
        """The pipeline's name in the configuration."""
        return self.plan.section.name

    @property
    def enabled(self) -> bool:
        """Whether it captures; False after the command `enabled` switched it off."""
        return self._around.memory.pipeline(self.name).enabled is not False

    @property
    def online(self) -> bool:
        """Whether its camera delivers frames."""
        return self._online

    @property
    def offline_reason(self) -> str | None:
        """Why the camera does not deliver, against its will; one sentence."""
        return self._offline_reason

    def start(self) -> None:
        """Start capturing and judging; returns at once. Once only, after an earlier one of the name has stopped."""
        self._beat = self._around.heartbeats.register(f"infer-{self.name}", _STUCK_AFTER_S)
        self._thread.start()

    def request_stop(self) -> None:
        """Begin to end; `stop` waits for it. So several pipelines end side by side."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> bool:
        """End both threads; what is on is remembered, not cleared. False when a thread is stuck in a call."""
        self._stopping.set()
        capture = self._capture
        if capture is not None:
            capture.stop(timeout_s)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._release()
        return not self._thread.is_alive()

    def refresh_metrics(self) -> None:
        """Take the capture's counts over into the metrics."""
        capture = self._capture
        if capture is not None:
            self.metrics.captured(frames=capture.delivered, dropped=capture.dropped, skipped=capture.skipped)

    def set_enabled(self, enabled: bool) -> bool:  # noqa: FBT001 - the value itself
        """Switch the camera on or off; False when too many orders wait."""
        return self._order(lambda: self._switch(enabled))

    def set_threshold(self, watch: str, threshold: float) -> bool:
        """Change a watch's threshold from the next frame on; the caller has checked both."""
        return self._order(lambda: self._judge.policy.set_threshold(watch, threshold))

    def adopt(self, plan: Plan) -> bool:
        """Go on with a plan that differs in its watches only, without losing a frame or a watch's state."""
        return self._order(lambda: self._adopt(plan))

    def thresholds(self) -> dict[str, float]:
        """Every watch's threshold as it is now."""
        return {name: state.threshold for name, state in self._judge.policy.states().items()}

    def want_picture(self) -> bool:
        """Publish the next frame as a picture."""
        return self._order(self._ask_picture)

    def _order(self, order: Callable[[], None]) -> bool:
        try:
            self._orders.put_nowait(order)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        try:
            self._around.outlet.watches(self.plan, self._active_names())
            self._around.outlet.status(self.plan, online=False)
            if self.enabled:
                self._open()
            while not self._stopping.is_set() and not self.finished:
                self._step()
        except Exception as error:  # noqa: BLE001 - the supervisor's: it logs the bug and starts the pipeline again
            self.failure = error
        finally:
            self._release()

    def _step(self) -> None:
        """Carry out the orders that wait, then judge one frame or wait a little for one."""
        while not self._orders.empty():
            self._orders.get_nowait()()
        capture = self._capture
        if capture is None:
            self._beat.waiting("switched off")
            self._stopping.wait(_IDLE_S / 5)
            return
        captured = capture.take(_IDLE_S)
        if captured is not None:
            self._beat.enter("classify")
            self._classify(captured)
            self._beat.progress()
        elif self._stopping.is_set():
            return
        elif capture.finished:
            self._finish()
        else:
            self._beat.waiting("no frame")

    def _classify(self, captured: Captured[Tensor]) -> None:
        try:
            inference = self._classifier.classify(captured.prepared)
        except InferenceError as error:
            self.metrics.failed()
            if not self._inference_failing:
                _log.warning("%s: %s", self.name, error)
                self.metrics.degrade("inference", str(error))
            self._inference_failing = True
            return
        if self._inference_failing:
            _log.info("%s: inference works again", self.name)
            self.metrics.recover("inference")
            self._inference_failing = False
        frame = captured.frame
        clock = self._around.clock
        verdict = self._judge.judge(frame, inference, clock_synchronised=clock.synchronised())
        if verdict.drafts:
            self._tell(verdict.drafts)
            if self._picture_after(verdict.drafts):
                self._around.outlet.picture(self.plan, frame)
        elif self._picture_wanted:
            self._around.outlet.picture(self.plan, frame)
        self._picture_wanted = False
        state = self._judge.changed_state(frame.captured_at)
        if state is not None:
            self._around.outlet.state(self.plan, state)
        if not self._classified:
            self._classified = True
            _log.info("%s: first frame classified, %.2f s after the start of the process", self.name, process_age_s())
        self.metrics.computes_on(inference.accelerator)
        self.metrics.ambiguity.record(ambiguous=verdict.ambiguous)
        latency_ms = (clock.monotonic() - frame.captured_s) * 1000.0
        self.metrics.classified(inference_ms=inference.inference_ms, latency_ms=latency_ms)

    def _picture_after(self, drafts: Sequence[EventDraft]) -> bool:
        wanted = self.plan.section.snapshot.enabled and any(draft.type == "detected" for draft in drafts)
        return self._picture_wanted or wanted

    def _tell(self, drafts: Sequence[EventDraft]) -> None:
        """Events first: they are durable before anything is acted on."""
        self._around.outlet.events(drafts)
        self._remember()
        self._around.outlet.watches(self.plan, self._active_names())

    def _finish(self) -> None:
        """The source is at its end: nothing is seen any more."""
        _log.info("%s: the source has come to its end", self.name)
        self._clear()
        self.finished = True

    def _clear(self) -> None:
        clock = self._around.clock
        drafts = self._judge.end(
            clock.monotonic(),
            clock.utc(),
            accelerator=self._classifier.accelerator,
            clock_synchronised=clock.synchronised(),
        )
        if drafts:
            self._tell(drafts)
        state = self._judge.changed_state(clock.utc())
        if state is not None:
            self._around.outlet.state(self.plan, state)

    def _switch(self, enabled: bool) -> None:  # noqa: FBT001 - the value itself
        if enabled and self._capture is None:
            self._open()
        elif not enabled and self._capture is not None:
            self._close()
            self._clear()

    def _adopt(self, plan: Plan) -> None:
        clock = self._around.clock
        drafts = self._judge.adopt(
            plan,
            clock.monotonic(),
            clock.utc(),
            accelerator=self._classifier.accelerator,
            clock_synchronised=clock.synchronised(),
        )
        self.plan = plan
        self._recall_thresholds()
        if drafts:
            self._around.outlet.events(drafts)
        self._remember()
        self._around.outlet.watches(plan, self._active_names())

    def _ask_picture(self) -> None:
        self._picture_wanted = True

    def _open(self) -> None:
        section = self.plan.section
        preprocess = Preprocessor(
            self.plan.bundle.input,
            self.plan.bundle.normalisation,
            fit=section.fit,
            crop_fraction=section.crop_fraction,
            view=self.plan.view,
        )
        self._capture = Capture(
            self._around.make_source(section.source, self._around.clock),
            lambda frame: preprocess(frame.picture),
            name=section.name,
            clock=self._around.clock,
            stall_timeout_s=getattr(section.source, "stall_timeout", 10.0),
            on_status=self._captured_status,
        )
        self._around.heartbeats.watch(f"capture-{section.name}", _STUCK_AFTER_S, self._capture_beat_s)
        self._capture.start()

    def _close(self) -> None:
        if self._capture is not None:
            self.refresh_metrics()
            self._capture.stop(_IDLE_S)
            self._capture = None
            self._around.heartbeats.release(f"capture-{self.name}")

    def _capture_beat_s(self) -> float:
        capture = self._capture
        return inf if capture is None else capture.last_beat_s

    def _release(self) -> None:
        self._around.heartbeats.release(f"infer-{self.name}")
        self._around.heartbeats.release(f"capture-{self.name}")

    def _captured_status(self, status: CaptureStatus, sentence: str) -> None:
        self._online = status is CaptureStatus.DELIVERING
        self._offline_reason = sentence if status is CaptureStatus.RETRYING else None
        self._around.outlet.status(self.plan, online=self._online)

    def _active_names(self) -> frozenset[str]:
        return frozenset(name for name, state in self._judge.policy.states().items() if state.active)

    def _remember(self) -> None:
        clock = self._around.clock
        now_s, now = clock.monotonic(), clock.utc()
        display = self.plan.bundle.labels.display
        active = {
            name: ActiveWatch(display[state.index], now - timedelta(seconds=max(0.0, now_s - state.since_s)))
            for name, state in self._judge.policy.states().items()
            if state.index is not None and state.since_s is not None
        }
        self._around.memory.set_active(self.name, active)

    def _recall(self) -> None:
        """Take up what was on and what was commanded before the restart, as far as it still exists."""
        self._recall_thresholds()
        kept = self._around.memory.pipeline(self.name)
        names = {rule.name for rule in self.plan.rules}
        clock = self._around.clock
        display = self.plan.bundle.labels.display
        for watch, active in kept.active:
            if watch in names and active.label in display:
                lasted_s = max(0.0, (clock.utc() - active.since).total_seconds())
                self._judge.policy.restore(
                    watch, index=display.index(active.label), since_s=clock.monotonic() - lasted_s
                )

    def _recall_thresholds(self) -> None:
        names = {rule.name for rule in self.plan.rules}
        for watch, threshold in self._around.memory.pipeline(self.name).thresholds:
            if watch in names and 0 < threshold <= 1:
                self._judge.policy.set_threshold(watch, threshold)
