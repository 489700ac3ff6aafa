"""The reporter: records the events of each frame, publishes the state and the pictures, and stores what is on."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING

from edge_classifierd.clock import TimePoint
from edge_classifierd.pipeline.collector import Collector
from edge_classifierd.pipeline.event_builder import EventBuilder
from edge_classifierd.pipeline.observation.observer import observed_frame
from edge_classifierd.pipeline.saved_state import ActiveWatch, SavedWatches, encode_watches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.schema import Event, EventDraft
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.pipeline.event_builder import FrameResult
    from edge_classifierd.pipeline.observation.observer import ResultObserver
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.pipeline.saved_state import SavedState
    from edge_classifierd.pipeline.sink import ResultSink


class Reporter:
    """Reports the results of one pipeline; used by one thread at a time, `thresholds` by any."""

    def __init__(
        self,
        plan: Plan,
        *,
        device: str,
        runtime: Callable[[], str],
        sink: ResultSink,
        saved_state: SavedState,
        clock: Clock,
        observer: ResultObserver | None = None,
    ) -> None:
        """Restore commanded thresholds.

        Args:
            plan: the pipeline's plan.
            device: the device's id.
            runtime: returns the name and version of the runtime.
            sink: takes the results.
            saved_state: what was stored before a restart.
            clock: the clock.
            observer: sees the result of every frame.
        """
        self._plan = plan
        self._sink = sink
        self._saved_state = saved_state
        self._clock = clock
        self._observer = observer
        self._builder = EventBuilder(plan, device=device, runtime=runtime)
        self._picture_requested = False
        self._collector = Collector()
        self._restore_thresholds()

    def start(self, accelerator: str) -> None:
        """Restore the watches that were on and publish all; call after a previous instance has stopped reporting.

        A watch that was on is cleared when it is no longer configured, or when it was detected by another model.
        """
        cleared = self._restore_watches(accelerator)
        if cleared:
            self._record(cleared)
        else:
            self._sink.publish_watches(self._plan, self._active_names())

    def report(self, frame: Frame, inference: Inference) -> FrameResult:
        """Record the events of a frame, then publish what has changed."""
        result = self._builder.observe(frame, inference, clock_synchronised=self._clock.synchronised)
        pictured: list[str] = []
        if result.drafts:
            events = self._record(result.drafts)
            if self._plan.section.snapshot.enabled:
                pictured = [event.event_id for event in events if event.type == "detected"]
        if pictured or self._picture_requested:
            self._picture_requested = False
            self._sink.publish_picture(self._plan, result.detected or frame, pictured)
        state = self._builder.changed_state(frame.captured_at)
        if state is not None:
            self._sink.publish_state(self._plan, state)
        if self._plan.section.collect.enabled:
            self._collector.consider(self._plan, result, self._builder.policy.states())
        if self._observer is not None:
            states = self._builder.policy.states()
            observed = observed_frame(self._plan, frame, inference, result.reportable, states)
            self._observer.frame(self._plan, observed)
        return result

    def clear(self, accelerator: str) -> None:
        """Clear what is on, because the camera delivers no more frames."""
        now = TimePoint.now(self._clock)
        drafts = self._builder.clear(now, accelerator=accelerator)
        if drafts:
            self._record(drafts)
        state = self._builder.changed_state(now.utc)
        if state is not None:
            self._sink.publish_state(self._plan, state)

    def settle(self, accelerator: str) -> None:
        """Clear what was below its release in the last frame, because the motion gate lets no more frames through."""
        now = TimePoint.now(self._clock)
        drafts = self._builder.settle(now, accelerator=accelerator)
        if drafts:
            self._record(drafts)
            state = self._builder.changed_state(now.utc)
            if state is not None:
                self._sink.publish_state(self._plan, state)

    def change_plan(self, plan: Plan, accelerator: str) -> None:
        """Continue with a plan that differs in its watches and lists only; what is on stays on if it still exists."""
        drafts = self._builder.change_plan(plan, TimePoint.now(self._clock), accelerator=accelerator)
        self._plan = plan
        self._restore_thresholds()
        self._record(drafts)

    def change_region(self, plan: Plan) -> None:
        """Continue with a plan that differs in its region only: pictures are cut to it."""
        self._plan = plan

    def set_threshold(self, watch: str, threshold: float | None) -> None:
        """Change a watch's threshold from the next frame on; None: as configured.

        A watch that a reload has removed is ignored.
        """
        if watch in self._builder.policy.states():
            self._builder.policy.set_threshold(watch, threshold)

    def request_picture(self) -> None:
        """Publish the next frame as a picture."""
        self._picture_requested = True

    def thresholds(self) -> dict[str, float]:
        """Return the present threshold of every watch."""
        return {name: state.threshold for name, state in self._builder.policy.states().items()}

    @property
    def any_active(self) -> bool:
        """Whether any watch is on."""
        return bool(self._active_names())

    def _active_names(self) -> frozenset[str]:
        return frozenset(self._builder.policy.active())

    def _record(self, drafts: Sequence[EventDraft]) -> tuple[Event, ...]:
        """Store events with the watches that are on after them, in one transaction; then publish these."""
        name, watches = self._plan.section.name, self._watches()
        events = self._sink.store_events(drafts, encode_watches(name, watches))
        self._saved_state.set_watches(name, watches)
        self._sink.publish_watches(self._plan, self._active_names())
        if self._observer is not None:
            self._observer.events(events)
        return events

    def _watches(self) -> SavedWatches:
        """Return what is on and what is in its cooldown, by the wall clock of this moment."""
        now = TimePoint.now(self._clock)
        bundle, states = self._plan.bundle, self._builder.policy.states()
        active = {
            name: ActiveWatch(
                bundle.labels.display[state.index],
                now.utc - timedelta(seconds=max(0.0, now.monotonic_s - state.since_s)),
                state.index,
                bundle.sha256,
                since_known=name not in self._builder.unknown_since,
            )
            for name, state in states.items()
            if state.index is not None and state.since_s is not None
        }
        quiet_until = {
            name: now.utc + timedelta(seconds=state.quiet_until_s - now.monotonic_s)
            for name, state in states.items()
            if state.quiet_until_s > now.monotonic_s
        }
        return SavedWatches(active, quiet_until, now)

    def _restore_watches(self, accelerator: str) -> tuple[EventDraft, ...]:
        """Restore cooldowns and watches that are on; return a `cleared` for each that cannot be."""
        names = {rule.name for rule in self._plan.rules}
        policy, now = self._builder.policy, TimePoint.now(self._clock)
        saved = self._saved_state.watches(self._plan.section.name)
        elapsed_s = None if saved.saved_at is None else saved.saved_at.seconds_until(now)
        saved_utc = now.utc if saved.saved_at is None else saved.saved_at.utc
        for watch, until in saved.quiet_until.items():
            if watch in names:
                rest_s = (until - saved_utc).total_seconds() - (elapsed_s or 0.0)
                policy.keep_quiet(watch, at_s=now.monotonic_s, for_s=rest_s)
        cleared = []
        for watch, active in saved.active.items():
            active_s = None
            if elapsed_s is not None and active.since_known:
                active_s = max(0.0, (saved_utc - active.since).total_seconds() + elapsed_s)
            index = self._index(active)
            if watch in names and index is not None:
                self._builder.restore(watch, index=index, at_s=now.monotonic_s, active_s=active_s)
            else:
                if watch in names:
                    policy.keep_quiet(watch, at_s=now.monotonic_s, for_s=inf)
                cleared.append(self._builder.clear_removed(watch, active.label, active_s, now, accelerator=accelerator))
        return tuple(cleared)

    def _index(self, active: ActiveWatch) -> int | None:
        """Return the class that a watch was detected with, None when the model is another.

        Labels may be in any language. An earlier version stored only the label.
        """
        bundle = self._plan.bundle
        display = bundle.labels.display
        if active.index is None:
            return display.index(active.label) if active.label in display else None
        return active.index if active.model == bundle.sha256 and 0 <= active.index < len(display) else None

    def _restore_thresholds(self) -> None:
        names = {rule.name for rule in self._plan.rules}
        for watch, threshold in self._saved_state.commands(self._plan.section.name).thresholds.items():
            if watch in names and 0 < threshold <= 1:
                self._builder.policy.set_threshold(watch, threshold)
