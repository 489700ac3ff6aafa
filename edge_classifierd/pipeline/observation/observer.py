"""What the page needs to see of a pipeline's results, beside what the sink stores and publishes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.decision.types import WatchState
    from edge_classifierd.events.schema import Event
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.pipeline.planning.plan import Plan

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ObservedFrame:
    """The result of one classified frame."""

    captured_s: float
    """Monotonic seconds at which the frame was captured."""
    captured_at: datetime
    """The same moment in UTC."""
    width: int
    """Of the upright frame, in pixels."""
    height: int
    inference: Inference
    reportable: NDArray[np.float32]
    """Shape (classes,): the confidences, below 0 for a class that may not be reported."""
    watches: Mapping[str, WatchState]


def observed_frame(
    plan: Plan,
    frame: Frame,
    inference: Inference,
    reportable: NDArray[np.float32],
    watches: Mapping[str, WatchState],
) -> ObservedFrame:
    """Return the result of a frame without its picture."""
    width, height = frame.picture.width, frame.picture.height
    if plan.view.quarter_turns(frame.picture) % 2:
        width, height = height, width
    return ObservedFrame(frame.captured_s, frame.captured_at, width, height, inference, reportable, watches)


class ResultObserver(Protocol):
    """Observes the results of all pipelines. Called from their threads; must return at once."""

    def frame(self, plan: Plan, observed: ObservedFrame) -> None:
        """Observe a classified frame, after its events were stored."""

    def events(self, events: Sequence[Event]) -> None:
        """Observe events that were stored."""


class GuardedObserver:
    """Implements ResultObserver and protects the pipelines from exceptions of another one; logs the first."""

    def __init__(self, observer: ResultObserver) -> None:
        self._observer = observer
        self._logged = False

    def frame(self, plan: Plan, observed: ObservedFrame) -> None:
        """See `ResultObserver.frame`."""
        try:
            self._observer.frame(plan, observed)
        except Exception:  # noqa: BLE001 - a bug of an observer must not affect the pipeline
            self._log_once()

    def events(self, events: Sequence[Event]) -> None:
        """See `ResultObserver.events`."""
        try:
            self._observer.events(events)
        except Exception:  # noqa: BLE001 - as above
            self._log_once()

    def _log_once(self) -> None:
        if not self._logged:
            self._logged = True
            _log.exception("the page cannot follow the results of the pipelines; they continue")
