"""Builds event drafts and the pipeline's state from the classifier's results.

It connects packages that do not import one another (frames, inference, decision, events) and has no thread, clock or
I/O, so that the daemon, a replay and a benchmark build the same events.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd.decision.policy import Policy
from edge_classifierd.decision.types import Decision, Observation, Ranked
from edge_classifierd.events.pipeline_state import PipelineState
from edge_classifierd.events.schema import EventBox, EventDraft, EventType, ModelIdentity, RankedLabel
from edge_classifierd.inference.scores import top_k
from edge_classifierd.motion.follow import MAX_THINGS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from numpy.typing import NDArray

    from edge_classifierd.clock import TimePoint
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.pipeline.planning.plan import Plan


_NEVER = np.float32(-1)
"""Stands in for the confidence of a class that may not be reported; some class always may."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The result of one frame."""

    drafts: tuple[EventDraft, ...]
    ambiguous: bool
    best: Ranked | None
    """The best of the classes that may be reported."""
    reportable: NDArray[np.float32]
    """Shape (classes,): the confidences, below 0 for a class that may not be reported."""
    decided: bool = True
    """False for a frame that shows one of several things: the last one of the round decides for all."""
    detected: Frame | None = None
    """The frame of the first `detected`."""
    strongest: tuple[Frame, Inference] | None = None
    """The frame of the round that `best` is of, and its scores; None when nothing was decided."""


class EventBuilder:
    """Builds the events of one pipeline; frames come in the order of their time. Used by one thread at a time."""

    def __init__(self, plan: Plan, *, device: str, runtime: Callable[[], str]) -> None:
        """Create a builder with no watch on.

        Args:
            plan: the pipeline's plan.
            device: the device's id.
            runtime: returns the name and version of the runtime; called for each event, because an Edge TPU's runtime
                may be another one than that of its CPU fallback.
        """
        self._plan = plan
        self._device = device
        self._runtime = runtime
        self._display = plan.bundle.labels.display
        self.policy = Policy(plan.rules, ambiguity_margin=plan.section.ambiguity_margin)
        self.unknown_since: set[str] = set()
        """Watches that were restored without knowing how long they have been on."""
        self._reportable: NDArray[np.float32] | None = None
        self._ranked: tuple[RankedLabel, ...] | None = None  # of the latest frame, once an event or state has needed it
        self._best: Ranked | None = None
        self._round: deque[_View] = deque(maxlen=MAX_THINGS)  # the things that had their turn
        self._topic: tuple[int | None, frozenset[str]] | None = None
        self._meaning: tuple[object, ...] | None = None
        self._since: datetime | None = None

    def observe(self, frame: Frame, inference: Inference, *, clock_synchronised: Callable[[], bool]) -> FrameResult:
        """Decide on a frame and build its events; takes tens of microseconds.

        Only the best class is searched for: the others are ranked, and the clock is read, only for an event. With
        several things in a scene, each frame shows one of them; the decision is made when each had its turn.
        """
        view = self._view(frame, inference)
        if frame.focus is not None and not frame.focus.ends_round:
            self._round.append(view)
            best, reportable = view.observation.best, view.reportable
            return FrameResult((), ambiguous=False, best=best, reportable=reportable, decided=False)
        views: tuple[_View, ...] = (view,)
        if self._round:
            views = (view, *reversed(self._round))
            self._round.clear()
            outcome = self.policy.observe(*(each.observation for each in views))
            strongest = max(views, key=_confidence)
        else:
            outcome, strongest = self.policy.observe(view.observation), view
        self._reportable, self._best, self._ranked = strongest.reportable, strongest.observation.best, None
        shown = (strongest.frame, strongest.inference)
        if not outcome.decisions:
            return FrameResult((), outcome.ambiguous, self._best, strongest.reportable, strongest=shown)
        synchronised = clock_synchronised()
        drafts = tuple(
            self._draft(decision, self._origin(views[decision.view], clock_synchronised=synchronised))
            for decision in outcome.decisions
        )
        detected = (views[decision.view].frame for decision in outcome.decisions if decision.type == "detected")
        return FrameResult(
            drafts,
            outcome.ambiguous,
            self._best,
            strongest.reportable,
            detected=next(detected, None),
            strongest=shown,
        )

    def restore(self, watch: str, *, index: int, at_s: float, active_s: float | None) -> None:
        """Restore a watch that was on before a restart; `active_s` is None when it is unknown for how long."""
        self.policy.restore(watch, index=index, since_s=at_s - (active_s or 0.0))
        if active_s is None:
            self.unknown_since.add(watch)

    def clear(self, now: TimePoint, *, accelerator: str) -> tuple[EventDraft, ...]:
        """Clear what is on, because no more frames come."""
        self._reportable = self._best = self._ranked = None
        origin = _Origin(now.utc, now.synchronised, accelerator, 0.0)
        return tuple(self._draft(decision, origin) for decision in self.policy.end(now.monotonic_s))

    def settle(self, now: TimePoint, *, accelerator: str) -> tuple[EventDraft, ...]:
        """Clear what was below its release in the last frame, because no frames come until something moves."""
        origin = _Origin(now.utc, now.synchronised, accelerator, 0.0)
        return tuple(self._draft(decision, origin) for decision in self.policy.settle(now.monotonic_s))

    def change_plan(self, plan: Plan, now: TimePoint, *, accelerator: str) -> tuple[EventDraft, ...]:
        """Continue with a plan for the same model (other watches, thresholds, lists); what is on stays on."""
        margin = plan.section.ambiguity_margin
        decisions = self.policy.adopt(plan.rules, ambiguity_margin=margin, at_s=now.monotonic_s)
        self._plan = plan
        self._reportable = self._best = self._ranked = None
        self._meaning = None
        origin = _Origin(now.utc, now.synchronised, accelerator, 0.0)
        return tuple(self._draft(decision, origin) for decision in decisions)

    def clear_removed(
        self, watch: str, label: str, active_s: float | None, now: TimePoint, *, accelerator: str
    ) -> EventDraft:
        """Build the `cleared` of a watch that was on before a restart and no longer exists, or its label does not."""
        origin = _Origin(now.utc, now.synchronised, accelerator, 0.0)
        return replace(self._draft(Decision("cleared", watch, 0, 0.0, active_s), origin), label=label)

    def changed_state(self, at: datetime) -> PipelineState | None:
        """Return the pipeline's state when it has changed noticeably since the last call, else None."""
        active = self.policy.active()
        best = self._best
        topic = (None if best is None else best.index, frozenset(active))
        meaning = (*topic, 0 if best is None else round(best.confidence * 20))
        if meaning == self._meaning:
            return None
        if self._since is None or self._topic != topic:
            self._since = at
        self._topic, self._meaning = topic, meaning
        return PipelineState(
            label=None if best is None else self._display[best.index],
            confidence=None if best is None else best.confidence,
            top=self._ranked_labels(),
            active=active,
            since=self._since,
        )

    def _view(self, frame: Frame, inference: Inference) -> _View:
        confidences = inference.confidences
        allowed = self._plan.allowed
        reportable = confidences if allowed is None else np.where(allowed, confidences, _NEVER)
        index = int(reportable.argmax())
        best = Ranked(index, reportable.item(index))
        lead = self._lead(reportable) if self._plan.section.ambiguity_margin > 0 else 1.0
        return _View(frame, inference, reportable, Observation(frame.captured_s, confidences, best, lead))

    def _origin(self, view: _View, *, clock_synchronised: bool) -> _Origin:
        inference, frame = view.inference, view.frame
        box = None
        if frame.focus is not None:
            part = self._plan.in_whole_frame(frame.focus.box)
            box = EventBox(part.x, part.y, part.width, part.height)
        accelerator, inference_ms = inference.accelerator, inference.inference_ms
        reportable = None if view.reportable is self._reportable else view.reportable
        return _Origin(frame.captured_at, clock_synchronised, accelerator, inference_ms, reportable, box)

    def _ranked_labels(self) -> tuple[RankedLabel, ...]:
        if self._reportable is None:
            return ()
        if self._ranked is None:
            self._ranked = self._rank(self._reportable)
        return self._ranked

    def _rank(self, reportable: NDArray[np.float32]) -> tuple[RankedLabel, ...]:
        best = top_k(reportable, self._plan.section.top_k)
        values = zip(best.tolist(), reportable[best].tolist(), strict=True)
        return tuple(RankedLabel(index, self._display[index], value) for index, value in values if value >= 0)

    @staticmethod
    def _lead(reportable: NDArray[np.float32]) -> float:
        """Return the lead of the best class over the second; classes that may not be reported do not count."""
        if len(reportable) < 2:
            return 1.0
        second, best = np.partition(reportable, -2)[-2:].tolist()
        return float(best - max(0.0, second))

    def _draft(self, decision: Decision, origin: _Origin) -> EventDraft:
        bundle = self._plan.bundle
        active_s = None if decision.watch in self.unknown_since else decision.active_s
        self.unknown_since.discard(decision.watch)
        return EventDraft(
            type=EventType(decision.type),
            device=self._device,
            pipeline=self._plan.section.name,
            watch=decision.watch,
            label=self._display[decision.index],
            confidence=decision.confidence,
            top=self._ranked_labels() if origin.reportable is None else self._rank(origin.reportable),
            time=origin.at,
            clock_synchronised=origin.clock_synchronised,
            model=ModelIdentity(bundle.name, bundle.sha256, self._runtime(), origin.accelerator),
            inference_ms=origin.inference_ms,
            active_s=active_s,
            box=origin.box,
        )


@dataclass(frozen=True, slots=True)
class _View:
    """A frame with its scores."""

    frame: Frame
    inference: Inference
    reportable: NDArray[np.float32]
    observation: Observation


def _confidence(view: _View) -> float:
    return 0.0 if view.observation.best is None else view.observation.best.confidence


@dataclass(frozen=True, slots=True)
class _Origin:
    """When and by what a decision was made."""

    at: datetime
    clock_synchronised: bool
    accelerator: str
    inference_ms: float
    reportable: NDArray[np.float32] | None = None
    """The scores of the frame; None for the latest ones."""
    box: EventBox | None = None
