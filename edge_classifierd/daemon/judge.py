"""The judge: turns what the classifier says of a frame into event drafts and the pipeline's state.

It stands between packages that do not know one another (frames, inference, decision, events) and holds no thread, no
clock and no I/O, so that the daemon, a replay and a bench judge alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd.decision.policy import Policy
from edge_classifierd.decision.types import Observation, Ranked
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, RankedLabel
from edge_classifierd.events.state import PipelineState
from edge_classifierd.inference.scores import top_k

if TYPE_CHECKING:
    from datetime import datetime

    from edge_classifierd.daemon.preflight import Plan
    from edge_classifierd.decision.types import Decision
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.inference.base import Inference


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one frame led to."""

    drafts: tuple[EventDraft, ...]
    ambiguous: bool
    top: tuple[Ranked, ...]


class Judge:
    """Judges the frames of one pipeline, in their order; used by one thread."""

    def __init__(self, plan: Plan, *, device: str, runtime: str) -> None:
        """`device` is the device's id, `runtime` the name and version that events carry."""
        self._plan = plan
        self._device = device
        self._runtime = runtime
        self._display = plan.bundle.labels.display
        # Two are needed to tell how far the best is ahead.
        self._count = max(2, plan.section.top_k)
        self.policy = Policy(plan.rules, ambiguity_margin=plan.section.ambiguity_margin)
        self._top: tuple[Ranked, ...] = ()
        self._meaning: tuple[object, ...] | None = None
        self._since: datetime | None = None

    def judge(self, frame: Frame, inference: Inference, *, clock_synchronised: bool) -> Verdict:
        """Rank, decide, and put into words; tens of microseconds, on the way of every frame."""
        confidences = inference.confidences
        allowed = self._plan.allowed
        reportable = confidences if allowed is None else np.where(allowed, confidences, np.float32(-1))
        best = top_k(reportable, self._count)
        values = reportable[best].tolist()
        top = tuple(Ranked(index, value) for index, value in zip(best.tolist(), values, strict=True) if value >= 0)
        outcome = self.policy.observe(Observation(frame.captured_s, confidences, top))
        self._top = top
        if not outcome.decisions:
            return Verdict((), outcome.ambiguous, top)
        moment = _Moment(frame.captured_at, clock_synchronised, inference.accelerator, inference.inference_ms)
        drafts = tuple(self._draft(decision, moment) for decision in outcome.decisions)
        return Verdict(drafts, outcome.ambiguous, top)

    def end(self, at_s: float, at: datetime, *, accelerator: str, clock_synchronised: bool) -> tuple[EventDraft, ...]:
        """Clear what is on, because nothing is seen any more."""
        self._top = ()
        moment = _Moment(at, clock_synchronised, accelerator, 0.0)
        return tuple(self._draft(decision, moment) for decision in self.policy.end(at_s))

    def adopt(
        self, plan: Plan, at_s: float, at: datetime, *, accelerator: str, clock_synchronised: bool
    ) -> tuple[EventDraft, ...]:
        """Go on with a plan over the same model (other watches, thresholds, lists); what is on stays on."""
        decisions = self.policy.adopt(plan.rules, ambiguity_margin=plan.section.ambiguity_margin, at_s=at_s)
        self._plan = plan
        self._count = max(2, plan.section.top_k)
        self._meaning = None
        moment = _Moment(at, clock_synchronised, accelerator, 0.0)
        return tuple(self._draft(decision, moment) for decision in decisions)

    def changed_state(self, at: datetime) -> PipelineState | None:
        """The pipeline's state when a subscriber would care about the change since the last call, else None."""
        active = tuple(name for name, state in self.policy.states().items() if state.active)
        best = self._top[0] if self._top else None
        topic = (None if best is None else best.index, active)
        meaning = (*topic, 0 if best is None else round(best.confidence * 20))
        if meaning == self._meaning:
            return None
        if self._since is None or self._meaning is None or self._meaning[:2] != topic:
            self._since = at
        self._meaning = meaning
        return PipelineState(
            label=None if best is None else self._display[best.index],
            confidence=None if best is None else best.confidence,
            top=self._ranked_labels(),
            active=active,
            since=self._since,
        )

    def _ranked_labels(self) -> tuple[RankedLabel, ...]:
        return tuple(
            RankedLabel(ranked.index, self._display[ranked.index], ranked.confidence)
            for ranked in self._top[: self._plan.section.top_k]
        )

    def _draft(self, decision: Decision, moment: _Moment) -> EventDraft:
        bundle = self._plan.bundle
        return EventDraft(
            type=EventType(decision.type),
            device=self._device,
            pipeline=self._plan.section.name,
            watch=decision.watch,
            label=self._display[decision.index],
            confidence=decision.confidence,
            top=self._ranked_labels(),
            time=moment.at,
            clock_synchronised=moment.clock_synchronised,
            model=ModelIdentity(bundle.name, bundle.sha256, self._runtime, moment.accelerator),
            inference_ms=moment.inference_ms,
            active_s=decision.active_s,
        )


@dataclass(frozen=True, slots=True)
class _Moment:
    """When and by what a decision was made."""

    at: datetime
    clock_synchronised: bool
    accelerator: str
    inference_ms: float
