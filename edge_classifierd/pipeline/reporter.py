"""The teller: has each frame judged, and tells outbox, broker and memory what came of it, so that nothing is lost."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Protocol

from edge_classifierd.pipeline.collector import Collector
from edge_classifierd.pipeline.event_builder import EventBuilder
from edge_classifierd.pipeline.saved_state import ActiveWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.pipeline_state import PipelineState
    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.pipeline.event_builder import FrameResult
    from edge_classifierd.pipeline.plan import AnyPlan, Plan
    from edge_classifierd.pipeline.saved_state import SavedState


class ResultSink(Protocol):
    """Where a pipeline's results go; called from the pipeline's threads."""

    def events(self, drafts: Sequence[EventDraft]) -> None:
        """Number the events and keep them; durable when it returns."""

    def watches(self, plan: Plan, active: frozenset[str]) -> None:
        """Which watches are on now."""

    def state(self, plan: Plan, state: PipelineState) -> None:
        """The pipeline's state has changed."""

    def status(self, plan: AnyPlan, *, online: bool) -> None:
        """Whether the camera delivers frames."""

    def picture(self, plan: Plan, frame: Frame) -> None:
        """The frame that made a detection, or one that somebody asked for."""


class Reporter:
    """Judges the frames of one pipeline and tells of them; used by the pipeline's thread, `thresholds` by any."""

    def __init__(
        self,
        plan: Plan,
        *,
        device: str,
        runtime: Callable[[], str],
        outlet: ResultSink,
        memory: SavedState,
        clock: Clock,
    ) -> None:
        """Takes up what was commanded before a restart, as far as it still exists."""
        self._plan = plan
        self._outlet = outlet
        self._memory = memory
        self._clock = clock
        self._judge = EventBuilder(plan, device=device, runtime=runtime)
        self._picture_wanted = False
        self._collector = Collector()
        self._recall_thresholds()

    def begin(self, accelerator: str) -> None:
        """Take up what was on and say where every watch stands: once an earlier teller of the pipeline tells no more.

        Until then that one may still change what is on, also while this one is being made. What was on and is no longer
        there, or was seen by another model, is cleared.
        """
        lost = self._recall_active(accelerator)
        if lost:
            self._tell(lost)
        else:
            self._outlet.watches(self._plan, self._active_names())

    def judged(self, frame: Frame, inference: Inference) -> FrameResult:
        """Judge a frame and tell of it. Events first: they are durable before anything is acted on."""
        verdict = self._judge.judge(frame, inference, clock_synchronised=self._clock.synchronised)
        if verdict.drafts:
            self._tell(verdict.drafts)
            self._picture_wanted |= self._deserves_picture(verdict.drafts)
        if self._picture_wanted:
            self._picture_wanted = False
            self._outlet.picture(self._plan, frame)
        state = self._judge.changed_state(frame.captured_at)
        if state is not None:
            self._outlet.state(self._plan, state)
        if self._plan.section.collect.enabled:
            self._collector.consider(self._plan, frame, inference, verdict, self._judge.policy.states())
        return verdict

    def end(self, accelerator: str) -> None:
        """Nothing is seen any more: clear what is on."""
        now = self._clock.utc()
        synchronised = self._clock.synchronised()
        drafts = self._judge.end(self._clock.monotonic(), now, accelerator=accelerator, clock_synchronised=synchronised)
        if drafts:
            self._tell(drafts)
        state = self._judge.changed_state(now)
        if state is not None:
            self._outlet.state(self._plan, state)

    def adopt(self, plan: Plan, accelerator: str) -> None:
        """Go on with a plan that differs in its watches and lists only; what is on stays on if it is still there."""
        drafts = self._judge.adopt(
            plan,
            self._clock.monotonic(),
            self._clock.utc(),
            accelerator=accelerator,
            clock_synchronised=self._clock.synchronised(),
        )
        self._plan = plan
        self._recall_thresholds()
        self._tell(drafts)

    def set_threshold(self, watch: str, threshold: float | None) -> None:
        """Change a watch's threshold from the next frame on; None: as configured.

        A watch that a reload has removed meanwhile is left alone.
        """
        if watch in self._judge.policy.states():
            self._judge.policy.set_threshold(watch, threshold)

    def want_picture(self) -> None:
        """Publish the next frame as a picture."""
        self._picture_wanted = True

    def thresholds(self) -> dict[str, float]:
        """Every watch's threshold as it is now."""
        return {name: state.threshold for name, state in self._judge.policy.states().items()}

    def _deserves_picture(self, drafts: Sequence[EventDraft]) -> bool:
        return self._plan.section.snapshot.enabled and any(draft.type == "detected" for draft in drafts)

    def _tell(self, drafts: Sequence[EventDraft]) -> None:
        if drafts:
            self._outlet.events(drafts)
        self._remember_active()
        self._outlet.watches(self._plan, self._active_names())

    @property
    def something_on(self) -> bool:
        """Whether any watch is on."""
        return bool(self._active_names())

    def _active_names(self) -> frozenset[str]:
        return frozenset(self._judge.policy.active())

    def _remember_active(self) -> None:
        now_s, now = self._clock.monotonic(), self._clock.utc()
        bundle, states = self._plan.bundle, self._judge.policy.states()
        active = {
            name: ActiveWatch(
                bundle.labels.display[state.index],
                now - timedelta(seconds=max(0.0, now_s - state.since_s)),
                state.index,
                bundle.sha256,
            )
            for name, state in states.items()
            if state.index is not None and state.since_s is not None
        }
        quiet_until = [
            (name, now + timedelta(seconds=state.quiet_until_s - now_s))
            for name, state in states.items()
            if state.quiet_until_s > now_s
        ]
        self._memory.set_active(self._plan.section.name, active, quiet_until)

    def _recall_active(self, accelerator: str) -> tuple[EventDraft, ...]:
        """Restore what can go on, cooldowns too; a `cleared` for each watch that cannot."""
        names = {rule.name for rule in self._plan.rules}
        now_s, now, synchronised = self._clock.monotonic(), self._clock.utc(), self._clock.synchronised()
        remembered = self._memory.pipeline(self._plan.section.name)
        for watch, until in remembered.quiet_until:
            if watch in names:
                self._judge.policy.keep_quiet(watch, at_s=now_s, for_s=(until - now).total_seconds())
        lost = []
        for watch, active in remembered.active:
            lasted_s = max(0.0, (now - active.since).total_seconds())
            index = self._index(active)
            if watch in names and index is not None:
                self._judge.policy.restore(watch, index=index, since_s=now_s - lasted_s)
            else:
                if watch in names:
                    self._judge.policy.keep_quiet(watch, at_s=now_s, for_s=inf)
                lost.append(
                    self._judge.lost(
                        watch, active.label, lasted_s, now, accelerator=accelerator, clock_synchronised=synchronised
                    )
                )
        return tuple(lost)

    def _index(self, active: ActiveWatch) -> int | None:
        """The class that the watch was detected with; None when this model is another. Labels may be in any language.

        What an earlier version remembered has only its label.
        """
        bundle = self._plan.bundle
        display = bundle.labels.display
        if active.index is None:
            return display.index(active.label) if active.label in display else None
        return active.index if active.model == bundle.sha256 and 0 <= active.index < len(display) else None

    def _recall_thresholds(self) -> None:
        names = {rule.name for rule in self._plan.rules}
        for watch, threshold in self._memory.pipeline(self._plan.section.name).thresholds:
            if watch in names and 0 < threshold <= 1:
                self._judge.policy.set_threshold(watch, threshold)
