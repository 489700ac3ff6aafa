"""A clock that tests turn, and drafts of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, RankedLabel


class FakeClock:
    """Both clocks stand still until told otherwise."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.wall = datetime(2026, 11, 21, 22, 26, 11, 123456, UTC)

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return self.wall

    def synchronised(self) -> bool:
        return True

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall += timedelta(seconds=seconds)


def sample(watch: str = "dog", label: str = "Labrador retriever", active_s: float | None = None) -> EventDraft:
    return EventDraft(
        type=EventType.DETECTED if active_s is None else EventType.CLEARED,
        device="porch",
        pipeline="driveway",
        watch=watch,
        label=label,
        confidence=0.83,
        top=(RankedLabel(208, "Labrador retriever", 0.71),),
        time=datetime(2026, 11, 21, 22, 26, 11, 123456, UTC),
        clock_synchronised=True,
        model=ModelIdentity("efficientnet_lite0_int8", "9f2c" * 16, "ai-edge-litert 2.3.0", "cpu"),
        inference_ms=5.1,
        active_s=active_s,
    )
