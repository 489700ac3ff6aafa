"""The newest result of each pipeline, and figures of all results: the page's observer of the pipelines."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final

from edge_classifierd.web.live.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.schema import Event
    from edge_classifierd.pipeline.observation.observer import ObservedFrame
    from edge_classifierd.pipeline.planning.plan import Plan

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histograms, seconds."""


def frame_number(captured_s: float) -> int:
    """Return the number by which the page distinguishes frames: milliseconds of the monotonic clock."""
    return int(captured_s * 1000)


class Timings:
    """A histogram of durations. `add` is called by one thread at a time."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        """The number of durations up to each bound and above the bound before it; the last one: above all bounds."""
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds


class NewestResults:
    """Implements ResultObserver. What it holds is bounded by the number of pipelines and watches."""

    def __init__(self, clock: Clock) -> None:
        self.history = History()
        self.inference: dict[str, Timings] = {}
        self.latency: dict[str, Timings] = {}
        self.event_counts: Counter[tuple[str, str, str]] = Counter()
        """Number of events by pipeline, watch and type."""
        self.awaited: set[str] = set()
        """Pipelines whose next result is passed to `on_awaited`, once each."""
        self.on_awaited: Callable[[str], None] = lambda _pipeline: None
        self.on_events: Callable[[Sequence[Event]], None] = lambda _events: None
        """Both are called in the threads of the pipelines."""
        self._clock = clock
        self._newest: dict[str, tuple[Plan, ObservedFrame]] = {}

    def newest(self, pipeline: str) -> tuple[Plan, ObservedFrame] | None:
        """Return the plan and the result of the newest classified frame; any thread."""
        return self._newest.get(pipeline)

    def frame(self, plan: Plan, observed: ObservedFrame) -> None:
        """See `ResultObserver.frame`."""
        name, captured_s = plan.section.name, observed.captured_s
        if name not in self.inference:
            self.latency[name] = Timings()
            self.inference[name] = Timings()
        self._newest[name] = (plan, observed)
        self.history.record(name, observed.watches, captured_s)
        self.inference[name].add(observed.inference.inference_ms / 1000)
        self.latency[name].add(self._clock.monotonic() - captured_s)
        if name in self.awaited:
            self.awaited.discard(name)
            self.on_awaited(name)

    def events(self, events: Sequence[Event]) -> None:
        """See `ResultObserver.events`."""
        for event in events:
            self.event_counts[event.pipeline, event.watch, str(event.type)] += 1
        self.on_events(events)
