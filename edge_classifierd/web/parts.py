"""What the routes of the page use: the daemon's parts behind their protocols, and the newest results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.web.route import RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.configuration import DeviceSection
    from edge_classifierd.config.sections.web import WebSection
    from edge_classifierd.pipeline.observation.control import HealthSource, PipelineControl, PipelineView
    from edge_classifierd.pipeline.observation.tap import FrameTap
    from edge_classifierd.web.device.records import Records
    from edge_classifierd.web.live.results import NewestResults


@dataclass(frozen=True, slots=True)
class Parts:
    """The daemon, as the page sees it."""

    device: DeviceSection
    section: WebSection
    control: PipelineControl
    health: HealthSource
    tap: FrameTap
    results: NewestResults
    clock: Clock
    state: Path
    """The state directory."""
    records: Records

    def pipeline(self, name: str) -> PipelineView:
        """Return a running pipeline. Raises RequestError when there is none of this name."""
        for view in self.control.view():
            if view.name == name:
                return view
        raise RequestError(404, "no_pipeline", "there is no such pipeline")
