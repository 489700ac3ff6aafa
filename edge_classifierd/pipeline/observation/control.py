"""What the page may see and change of the running pipelines: one view each, and commands as those over MQTT."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from edge_classifierd.mqtt.commands import Command

if TYPE_CHECKING:
    from concurrent.futures import Future
    from datetime import datetime

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.health.metrics import PipelineMetrics, PipelineSnapshot
    from edge_classifierd.health.report import Health
    from edge_classifierd.pipeline.observation.observer import ObservedFrame
    from edge_classifierd.pipeline.planning.plan import AnyPlan
    from edge_classifierd.pipeline.saved_state import SavedCommands
    from edge_classifierd.preprocess import Region

__all__ = ["Command", "CommandOutcome", "HealthSource", "PipelineControl", "PipelineView", "Resting"]


@dataclass(frozen=True, slots=True)
class Resting:
    """Why no frame of a pipeline is classified although nothing failed."""

    why: Literal["gate", "schedule", "training"]
    """`gate`: nothing moves. The camera is closed for the others: `schedule`, this is none of its `active` times;
    `training`, all cameras are paused."""
    until: datetime | None
    """UTC; None when it is not known."""

    @property
    def closed(self) -> bool:
        """Whether the camera is closed."""
        return self.why != "gate"


@dataclass(frozen=True, slots=True)
class PipelineView:
    """One pipeline at one moment."""

    plan: AnyPlan
    enabled: bool
    online: bool
    offline_reason: str | None
    commands: SavedCommands
    """The commanded values; absent ones are as configured."""
    metrics: PipelineMetrics = field(repr=False)
    resting: Resting | None = None

    @property
    def figures(self) -> PipelineSnapshot:
        """The figures of the last minute, which take a while to compute."""
        return self.metrics.snapshot()

    @property
    def name(self) -> str:
        """The pipeline's name in the configuration."""
        return self.plan.section.name


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """The result of an executed command."""

    changed: int = 0
    """For a reload: the number of pipelines that changed."""
    problems: tuple[str, ...] = ()
    """For a refused reload: each mistake of the configuration, with its place."""


class PipelineControl(Protocol):
    """The running pipelines. Any thread may call it."""

    def view(self) -> tuple[PipelineView, ...]:
        """Return all pipelines in the order of the configuration."""

    def submit(self, command: Command) -> Future[CommandOutcome]:
        """Queue a command for the daemon's main thread, which executes it as one received over MQTT.

        Raises:
            RefusedError: There is no such pipeline or watch, the value is not allowed, or too many commands wait.
        """

    def resting(self, pipeline: str) -> Resting | None:
        """Return why a pipeline classifies no frame, and until when; None when it does, or fails, or is disabled."""

    def pause_cameras(self, timeout_s: float) -> None:
        """Close all cameras until `resume_cameras`, for `timeout_s` at most; not stored, so a restart ends it."""

    def resume_cameras(self) -> None:
        """End the pause of `pause_cameras`, if there is one."""

    def try_region(self, pipeline: str, region: Region, frame: Frame) -> ObservedFrame:
        """Classify a frame with another region, without an effect on the pipeline; takes as long as an inference.

        Raises:
            EdgeClassifierError: The pipeline does not run, or the inference failed.
        """


class HealthSource(Protocol):
    """The health of the daemon. Any thread may call it."""

    def document(self) -> Health | None:
        """Return the newest health document, at most about a second old; None in the first second."""

    def alive(self) -> bool:
        """Return whether every supervised stage makes progress or waits on purpose."""
