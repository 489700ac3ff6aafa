"""The parts of the daemon that a pipeline uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.health.heartbeat import Heartbeats
    from edge_classifierd.pipeline.cameras import Cameras
    from edge_classifierd.pipeline.observation.observer import ResultObserver
    from edge_classifierd.pipeline.rest import RestTimes
    from edge_classifierd.pipeline.saved_state import SavedState
    from edge_classifierd.pipeline.sink import ResultSink
    from edge_classifierd.pipeline.workers.model_workers import PipelineThreads


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of the daemon that a pipeline uses."""

    device: str
    sink: ResultSink
    heartbeats: Heartbeats
    saved_state: SavedState
    clock: Clock
    cameras: Cameras
    threads: PipelineThreads
    rest_times: RestTimes
    observer: ResultObserver | None = None
