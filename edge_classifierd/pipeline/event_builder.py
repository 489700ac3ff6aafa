"""The judge: turns what the classifier says of a frame into event drafts and the pipeline's state.

It stands between packages that do not know one another (frames, inference, decision, events) and holds no thread, no
clock and no I/O, so that the daemon, a replay and a bench judge alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd.decision.policy import Policy
from edge_classifierd.decision.types import Decision, Observation, Ranked
from edge_classifierd.events.pipeline_state import PipelineState
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, RankedLabel
from edge_classifierd.inference.scores import top_k

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from numpy.typing import NDArray

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.pipeline.plan import Plan


_NEVER = np.float32(-1)
"""Stands in for the confidence of a class that may not be reported; some class always may."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What one frame led to."""

    drafts: tuple[EventDraft, ...]
    ambiguous: bool
    best: Ranked | None
    """The best of the classes that may be reported."""


class EventBuilder:
    """Judges the frames of one pipeline, in their order; used by one thread."""

    def __init__(self, plan: Plan, *, device: str, runtime: Callable[[], str]) -> None:
        """`device` is the device's id, `runtime` tells the name and version that an event carries.

        It is asked for each event: an Edge TPU's runtime may be another one than its CPU twin's.
        """
        self._plan = plan
        self._device = device
        self._runtime = runtime
        self._display = plan.bundle.labels.display
        self.policy = Policy(plan.rules, ambiguity_margin=plan.section.ambiguity_margin)
        self._reportable: NDArray[np.float32] | None = None
        self._best: Ranked | None = None
        self._topic: tuple[int | None, frozenset[str]] | None = None
        self._meaning: tuple[object, ...] | None = None
        self._since: datetime | None = None

    def judge(self, frame: Frame, inference: Inference, *, clock_synchronised: Callable[[], bool]) -> FrameResult:
        """Rank, decide, and put into words; tens of microseconds, on the way of every frame.

        Only the best class is looked for: the others are ranked, and the clock is asked about, when somebody is told.
        """
        confidences = inference.confidences
        allowed = self._plan.allowed
        reportable = confidences if allowed is None else np.where(allowed, confidences, _NEVER)
        index = int(reportable.argmax())
        best = Ranked(index, reportable.item(index))
        lead = self._lead(reportable) if self._plan.section.ambiguity_margin > 0 else 1.0
        outcome = self.policy.observe(Observation(frame.captured_s, confidences, best, lead))
        self._reportable, self._best = reportable, best
        if not outcome.decisions:
            return FrameResult((), outcome.ambiguous, best)
        moment = _Moment(frame.captured_at, clock_synchronised(), inference.accelerator, inference.inference_ms)
        drafts = tuple(self._draft(decision, moment) for decision in outcome.decisions)
        return FrameResult(drafts, outcome.ambiguous, best)

    def end(self, at_s: float, at: datetime, *, accelerator: str, clock_synchronised: bool) -> tuple[EventDraft, ...]:
        """Clear what is on, because nothing is seen any more."""
        self._reportable = self._best = None
        moment = _Moment(at, clock_synchronised, accelerator, 0.0)
        return tuple(self._draft(decision, moment) for decision in self.policy.end(at_s))

    def adopt(
        self, plan: Plan, at_s: float, at: datetime, *, accelerator: str, clock_synchronised: bool
    ) -> tuple[EventDraft, ...]:
        """Go on with a plan over the same model (other watches, thresholds, lists); what is on stays on."""
        decisions = self.policy.adopt(plan.rules, ambiguity_margin=plan.section.ambiguity_margin, at_s=at_s)
        self._plan = plan
        self._reportable = self._best = None
        self._meaning = None
        moment = _Moment(at, clock_synchronised, accelerator, 0.0)
        return tuple(self._draft(decision, moment) for decision in decisions)

    def lost(
        self, watch: str, label: str, active_s: float, at: datetime, *, accelerator: str, clock_synchronised: bool
    ) -> EventDraft:
        """The `cleared` of a watch that was on before a restart and is gone, or its label is."""
        moment = _Moment(at, clock_synchronised, accelerator, 0.0)
        return replace(self._draft(Decision("cleared", watch, 0, 0.0, active_s), moment), label=label)

    def changed_state(self, at: datetime) -> PipelineState | None:
        """The pipeline's state when a subscriber would care about the change since the last call, else None."""
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

    def _ranked_labels(self) -> tuple[RankedLabel, ...]:
        if self._reportable is None:
            return ()
        best = top_k(self._reportable, self._plan.section.top_k)
        ranked = zip(best.tolist(), self._reportable[best].tolist(), strict=True)
        return tuple(RankedLabel(index, self._display[index], value) for index, value in ranked if value >= 0)

    @staticmethod
    def _lead(reportable: NDArray[np.float32]) -> float:
        """How far the best class is ahead of the second; one that may not be reported does not count."""
        if len(reportable) < 2:
            return 1.0
        second, best = np.partition(reportable, -2)[-2:].tolist()
        return float(best - max(0.0, second))

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
            model=ModelIdentity(bundle.name, bundle.sha256, self._runtime(), moment.accelerator),
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
