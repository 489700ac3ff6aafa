"""Daily statistics: how often each watch was detected today and when it was last seen, stored across restarts."""

from __future__ import annotations

import json
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from edge_classifierd.clock import timestamp
from edge_classifierd.events.schema import EventType, dump
from edge_classifierd.mqtt.message import JSON
from edge_classifierd.mqtt.retained_topics import REMOVAL_DELAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.mqtt.retained_topics import RetainedTopics
    from edge_classifierd.mqtt.topics import Topics
    from edge_classifierd.pipeline.planning.plan import AnyPlan

SCHEMA_VERSION: Final = 1
_STATE: Final = "statistics/"
_CHECK_EVERY_S: Final = 1.0
_MOST_UNSURE: Final = 10_000
_EXPIRY_S: Final = 3600

Watch = tuple[str, str]
"""A pipeline's name and its watch's."""


@dataclass(slots=True)
class _Count:
    day: date
    count: int = 0
    last_seen: datetime | None = None
    sure: bool = True
    """Whether `last_seen` is from a synchronised clock."""
    last_seen_s: float | None = None
    """The monotonic time of an unsure `last_seen`, within this process."""
    unsure_s: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_UNSURE))
    """Monotonic times of detections whose day is not sure."""


class WatchStatistics:
    """Counts detections per watch, publishes `<base>/<pipeline>/<watch>/stats`, restarts at local midnight.

    While the wall clock is not synchronised it counts by that clock and publishes that it does; once synchronised,
    what was counted meanwhile is moved to the time at which it really was. Thread-safe.
    """

    def __init__(self, outbox: Outbox, topics: Topics, retained: RetainedTopics, clock: Clock) -> None:
        """Load the counts from the outbox's state."""
        self._outbox = outbox
        self._topics = topics
        self._retained = retained
        self._clock = clock
        self._lock = threading.Lock()
        self._synchronised = clock.synchronised()
        self._checked_s = clock.monotonic()
        self._shown: set[Watch] = set()
        self._unpublished: set[Watch] = set()
        self._counts = _parse(outbox.state(_STATE))
        if self._synchronised:
            self._correct(clock.monotonic())

    def show(self, plan: AnyPlan) -> None:
        """Publish the counts of a pipeline's watches, now and at every change."""
        pipeline, names = plan.section.name, {rule.name for rule in plan.rules}
        with self._lock:
            gone = [watch for watch in self._counts if watch[0] == pipeline and watch[1] not in names]
            for watch in gone:
                del self._counts[watch]
            self._shown.update((pipeline, name) for name in names)
            self._unpublished.update((pipeline, name) for name in names)
            self._publish()
        self._outbox.append((), {_STATE + "/".join(watch): None for watch in gone})

    def remove(self, pipeline: str, watches: Iterable[str]) -> None:
        """Forget watches that are no longer configured, and remove their topics."""
        with self._lock:
            for name in watches:
                self._shown.discard((pipeline, name))
                self._unpublished.discard((pipeline, name))
                self._counts.pop((pipeline, name), None)
                self._retained.remove(self._topics.watch_stats(pipeline, name), after_s=REMOVAL_DELAY_S)
        self._outbox.append((), {f"{_STATE}{pipeline}/{name}": None for name in watches})

    def count(self, drafts: Sequence[EventDraft]) -> dict[str, str]:
        """Count events and return the values of the outbox's state that are to be stored with them.

        An event of a watch that was removed is not counted. The counts are published by the next `tick`.
        """
        with self._lock:
            now_s = self._clock.monotonic()
            changed: dict[str, str] = {}
            for draft in drafts:
                watch = (draft.pipeline, draft.watch)
                if watch not in self._shown:
                    continue
                count = self._count(watch)
                self._restart_if_over(count)
                count.last_seen, count.sure, count.last_seen_s = draft.time, draft.clock_synchronised, now_s
                if draft.type is EventType.DETECTED:
                    count.count += 1
                    if not count.sure:
                        count.unsure_s.append(now_s)
                self._unpublished.add(watch)
                changed[_STATE + "/".join(watch)] = _encode(count)
            return changed

    def tick(self) -> None:
        """Publish what has changed, and check for midnight and the clock's synchronisation: call it often."""
        now_s = self._clock.monotonic()
        with self._lock:
            if now_s - self._checked_s >= _CHECK_EVERY_S:
                self._checked_s = now_s
                synchronised = self._clock.synchronised()
                corrected = synchronised and not self._synchronised
                if corrected:
                    self._correct(now_s)
                over = any(self._over(self._count(watch)) for watch in self._shown)
                if over or synchronised != self._synchronised:
                    self._unpublished |= self._shown
                self._synchronised = synchronised
                if corrected:
                    self._outbox.append((), {_STATE + "/".join(one): _encode(it) for one, it in self._counts.items()})
            self._publish()

    def _count(self, watch: Watch) -> _Count:
        """The watch's count of today."""
        count = self._counts.get(watch)
        if count is None:
            count = self._counts[watch] = _Count(self._today())
        return count

    def _publish(self) -> None:
        for watch in sorted(self._unpublished):
            count = self._count(watch)
            self._restart_if_over(count)
            document = {
                "schema": SCHEMA_VERSION,
                "count_today": count.count,
                "day": count.day.isoformat(),
                "last_seen": None if count.last_seen is None else timestamp(count.last_seen),
                "clock_synchronised": self._synchronised,
            }
            topic = self._topics.watch_stats(*watch)
            self._retained.set(topic, dump(document), content_type=JSON, schema=SCHEMA_VERSION, expiry_s=_EXPIRY_S)
        self._unpublished.clear()

    def _restart_if_over(self, count: _Count) -> None:
        if self._over(count):
            count.day, count.count = self._today(), 0  # unsure moments stay: the midnight may be that of a wrong clock

    def _over(self, count: _Count) -> bool:
        """Return whether the count's day has ended; a clock that is not synchronised may lie before it."""
        today = self._today()
        return today > count.day or (self._synchronised and today != count.day)

    def _today(self) -> date:
        return self._clock.utc().astimezone().date()

    def _correct(self, now_s: float) -> None:
        """Move what was counted by a wrong wall clock to the time at which it really was."""
        now = self._clock.utc()
        today = self._today()
        for count in self._counts.values():
            unsure = [now - timedelta(seconds=now_s - at_s) for at_s in count.unsure_s]
            sure = 0 if count.day != today else count.count - len(unsure)
            count.count = max(0, sure) + sum(at.astimezone().date() == today for at in unsure)
            count.day = today
            count.unsure_s.clear()
            if not count.sure:
                # How long ago it was is unknown for a detection of an earlier process.
                ago_s = None if count.last_seen_s is None else now_s - count.last_seen_s
                count.last_seen = None if ago_s is None else now - timedelta(seconds=ago_s)
                count.sure = True


def _encode(count: _Count) -> str:
    last_seen = None if count.last_seen is None else timestamp(count.last_seen)
    document = {"day": count.day.isoformat(), "count": count.count, "last_seen": last_seen, "sure": count.sure}
    return dump(document).decode()


def _parse(state: Mapping[str, str]) -> dict[Watch, _Count]:
    """Return the stored counts; one that cannot be understood is left out, which costs that count."""
    counts: dict[Watch, _Count] = {}
    for name, value in state.items():
        pipeline, _, watch = name.partition("/")
        with suppress(ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            document = json.loads(value)
            counts[pipeline, watch] = _Count(
                date.fromisoformat(document["day"]),
                int(document["count"]),
                None if document["last_seen"] is None else datetime.fromisoformat(document["last_seen"]),
                bool(document["sure"]),
            )
    return counts
