"""The motion gate of a pipeline: between its camera and its classifier."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from edge_classifierd.motion.gate import GateSettings, MotionGate, Turns
from edge_classifierd.motion.luma import COLUMNS
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.health.metrics import PipelineMetrics
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.pipeline.sink import ResultSink


class PipelineGate:
    """Implements the FrameGate of a capture. `admit` looks at every frame, also while the classifier is busy.

    So a thing is followed at the rate of the camera, and while nothing moves no other thread wakes.
    """

    def __init__(
        self,
        plan: Plan,
        metrics: PipelineMetrics,
        sink: ResultSink,
        *,
        on_asleep: Callable[[], None],
    ) -> None:
        """Create the gate of a plan whose section `motion` is enabled.

        Args:
            plan: The pipeline's plan.
            metrics: Counts the frames that are left out.
            sink: Publishes whether something moves.
            on_asleep: Called in the camera's thread when no more frames are classified because nothing moves.
        """
        self._view = plan.view
        self._gate = MotionGate(gate_settings(plan), plan.view)
        self._turns = Turns()
        self._metrics = metrics
        self._plan = plan
        self._sink = sink
        self._on_asleep = on_asleep
        self._moving: bool | None = None

    def admit(self, frame: Frame) -> Frame | None:
        """See `FrameGate.admit`."""
        look = self._gate.look(frame.for_model(self._needs), frame.captured_s)
        if look.moving is not self._moving:
            self._moving = look.moving
            self._sink.publish_motion(self._plan, moving=look.moving)
        if look.fell_asleep:
            self._on_asleep()
        if not look.classify:
            self._metrics.gated()
            return None
        return replace(frame, things=look.things) if look.things else frame

    def aim(self, frame: Frame) -> Frame:
        """See `FrameGate.aim`."""
        focus = self._turns.next(frame.things)
        return frame if focus is None else replace(frame, focus=focus)

    def look_now(self) -> None:
        """Classify the next frame although nothing moves; any thread."""
        self._gate.look_now()

    @property
    def rests_until_s(self) -> float | None:
        """Monotonic seconds of the next classification while nothing moves; None while something does. Any thread."""
        return self._gate.refreshes_at_s if self._moving is False else None

    def _needs(self, width: int, height: int) -> tuple[int, int]:
        """Return the smallest picture that has a pixel for each cell."""
        region = self._view.region
        scale = min(1.0, COLUMNS / max(region.width * width, region.height * height))
        return ceil(width * scale), ceil(height * scale)


def make_gate(
    plan: Plan, metrics: PipelineMetrics, sink: ResultSink, on_asleep: Callable[[], None]
) -> PipelineGate | None:
    """Return the gate of a plan, None when its section `motion` is not enabled; see `PipelineGate`."""
    return PipelineGate(plan, metrics, sink, on_asleep=on_asleep) if plan.section.motion.enabled else None


def gate_settings(plan: Plan) -> GateSettings:
    """Return the settings of the section `motion`, in fractions of the frames that the source delivers."""
    motion = plan.section.motion
    delivered = plan.region if plan.section.source.cuts_itself else Region()
    return GateSettings(
        sensitivity=motion.sensitivity,
        smallest=motion.smallest / delivered.width,
        ignore=tuple(_inside(Region(part.x, part.y, part.width, part.height), delivered) for part in motion.ignore),
        hold_s=motion.hold,
        refresh_s=motion.refresh,
        follow=motion.follow,
    )


def _inside(part: Region, delivered: Region) -> Region:
    """Return a part of the whole frame in fractions of the part that is delivered; it may be partly outside."""
    return Region(
        (part.x - delivered.x) / delivered.width,
        (part.y - delivered.y) / delivered.height,
        part.width / delivered.width,
        part.height / delivered.height,
    )
