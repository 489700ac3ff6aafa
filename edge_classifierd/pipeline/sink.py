"""The sink of a pipeline's results: what the reporter needs of the outbox and the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_classifierd.events.pipeline_state import PipelineState
    from edge_classifierd.events.schema import Event, EventDraft
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.pipeline.planning.plan import AnyPlan, Plan


class ResultSink(Protocol):
    """Takes the results of pipelines; called from their threads."""

    def store_events(self, drafts: Sequence[EventDraft], state: Mapping[str, str | None]) -> tuple[Event, ...]:
        """Number the events and store them with the state, in one transaction; durable when it returns."""

    def publish_watches(self, plan: Plan, active: frozenset[str]) -> None:
        """Publish which watches are on."""

    def publish_state(self, plan: Plan, state: PipelineState) -> None:
        """Publish the pipeline's state."""

    def publish_motion(self, plan: Plan, *, moving: bool) -> None:
        """Publish whether something moves in front of the camera, if the motion gate is enabled."""

    def publish_status(self, plan: AnyPlan, *, online: bool, resting: bool = False) -> None:
        """Publish whether the camera delivers frames."""

    def publish_picture(self, plan: Plan, frame: Frame, event_ids: Sequence[str] = ()) -> None:
        """Publish the frame of a detection, whose events are given, or one that was requested."""
