"""The tally: how often each watch was detected today and when it was last on, kept across restarts."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.clock import timestamp
from edge_classifierd.events.schema import EventType
from edge_classifierd.mqtt.message import JSON
from edge_classifierd.mqtt.retained_topics import REMOVAL_DELAY_S
from edge_classifierd.state_file import StateFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.mqtt.retained_topics import RetainedTopics
    from edge_classifierd.mqtt.topics import Topics
    from edge_classifierd.pipeline.plan import AnyPlan

SCHEMA_VERSION: Final = 1
_VERSION: Final = "tally, version 1"
_LOOK_EVERY_S: Final = 1.0
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
    """Whether `last_seen` is by a synchronised clock."""
    last_seen_s: float | None = None
    """The monotonic moment of an unsure `last_seen`, as long as this process runs."""
    unsure_s: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_UNSURE))
    """Monotonic moments of detections of whose day nobody was sure."""


class WatchStatistics:
    """Counts what it is told, publishes `<base>/<pipeline>/<watch>/stats`, and begins anew at local midnight.

    While the wall clock is not synchronised it counts by that clock and says so; when it becomes synchronised, what was
    counted meanwhile is moved to the time at which it really was. Any thread. A file that cannot be written costs the
    count at a restart, nothing else.
    """

    def __init__(self, path: Path, topics: Topics, states: RetainedTopics, clock: Clock) -> None:
        self._file = StateFile(path, _VERSION, "counts last until a restart")
        self._topics = topics
        self._states = states
        self._clock = clock
        self._lock = threading.Lock()
        self._synchronised = clock.synchronised()
        self._changed = False
        self._looked_s = clock.monotonic()
        self._shown: set[Watch] = set()
        self._counts: dict[Watch, _Count] = self._file.read(_counts, {})
        if self._synchronised:
            self._correct(clock.monotonic())

    def show(self, plan: AnyPlan) -> None:
        """Publish what is known of a pipeline's watches, from now on at every change."""
        pipeline, names = plan.section.name, {rule.name for rule in plan.rules}
        with self._lock:
            for watch in [watch for watch in self._counts if watch[0] == pipeline and watch[1] not in names]:
                del self._counts[watch]
            for name in sorted(names):
                self._shown.add((pipeline, name))
                self._publish((pipeline, name))

    def withdraw(self, pipeline: str, watches: Iterable[str]) -> None:
        """The watches are gone from the configuration."""
        with self._lock:
            for watch in watches:
                self._shown.discard((pipeline, watch))
                self._counts.pop((pipeline, watch), None)
                self._states.remove(self._topics.watch_stats(pipeline, watch), after_s=REMOVAL_DELAY_S)
            self._changed = True

    def note(self, drafts: Sequence[EventDraft]) -> None:
        """Events that were decided just now. The last one of a watch that was withdrawn comes too late to count."""
        with self._lock:
            now_s = self._clock.monotonic()
            for draft in drafts:
                watch = (draft.pipeline, draft.watch)
                if watch not in self._shown:
                    continue
                count = self._count(watch)
                self._begin_if_over(count)
                count.last_seen, count.sure, count.last_seen_s = draft.time, draft.clock_synchronised, now_s
                if draft.type is EventType.DETECTED:
                    count.count += 1
                    if not count.sure:
                        count.unsure_s.append(now_s)
                self._publish(watch)
            self._changed = True

    def keep(self) -> None:
        """Write down what has changed, without waiting for the disk: a loss of power costs a few counts."""
        with self._lock:
            if self._changed:
                self._changed = not self._file.write(self._document(), durably=False)

    def tick(self) -> None:
        """The service's, often: notices midnight and the clock's synchronisation."""
        now_s = self._clock.monotonic()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        with self._lock:
            synchronised = self._clock.synchronised()
            if synchronised and not self._synchronised:
                self._correct(now_s)
            stale = synchronised != self._synchronised or any(self._over(self._count(watch)) for watch in self._shown)
            self._synchronised = synchronised
            if stale:
                for watch in self._shown:
                    self._publish(watch)
                self._changed = True

    def _count(self, watch: Watch) -> _Count:
        """The watch's count of today."""
        count = self._counts.get(watch)
        if count is None:
            count = self._counts[watch] = _Count(self._today())
        return count

    def _publish(self, watch: Watch) -> None:
        count = self._count(watch)
        self._begin_if_over(count)
        document = {
            "schema": SCHEMA_VERSION,
            "count_today": count.count,
            "day": count.day.isoformat(),
            "last_seen": None if count.last_seen is None else timestamp(count.last_seen),
            "clock_synchronised": self._synchronised,
        }
        topic = self._topics.watch_stats(*watch)
        payload = json.dumps(document, separators=(",", ":"))
        self._states.set(topic, payload, content_type=JSON, schema=SCHEMA_VERSION, expiry_s=_EXPIRY_S)

    def _begin_if_over(self, count: _Count) -> None:
        if self._over(count):
            count.day, count.count = self._today(), 0  # what was unsure stays: a midnight may be a wrong clock's too

    def _over(self, count: _Count) -> bool:
        """Whether the count's day has ended. A clock that nobody has set may well stand before it: that ends no day."""
        today = self._today()
        return today > count.day or (self._synchronised and today != count.day)

    def _today(self) -> date:
        return self._clock.utc().astimezone().date()

    def _correct(self, now_s: float) -> None:
        """The wall clock is right from now on: find out when what was counted before really was."""
        now = self._clock.utc()
        today = self._today()
        for count in self._counts.values():
            unsure = [now - timedelta(seconds=now_s - at_s) for at_s in count.unsure_s]
            sure = 0 if count.day != today else count.count - len(unsure)
            count.count = max(0, sure) + sum(at.astimezone().date() == today for at in unsure)
            count.day = today
            count.unsure_s.clear()
            if not count.sure:
                # Of an earlier process nobody knows how long ago it was.
                ago_s = None if count.last_seen_s is None else now_s - count.last_seen_s
                count.last_seen = None if ago_s is None else now - timedelta(seconds=ago_s)
                count.sure = True

    def _document(self) -> dict[str, dict[str, Any]]:
        document: dict[str, dict[str, Any]] = {}
        for (pipeline, watch), count in self._counts.items():
            last_seen = None if count.last_seen is None else timestamp(count.last_seen)
            entry = {"day": count.day.isoformat(), "count": count.count, "last_seen": last_seen, "sure": count.sure}
            document.setdefault(pipeline, {})[watch] = entry
        return document


def _counts(document: Any) -> dict[Watch, _Count]:  # noqa: ANN401 - whatever the file holds
    return {
        (pipeline, watch): _Count(
            date.fromisoformat(kept["day"]),
            int(kept["count"]),
            None if kept["last_seen"] is None else datetime.fromisoformat(kept["last_seen"]),
            bool(kept["sure"]),
        )
        for pipeline, watches in document.items()
        for watch, kept in watches.items()
    }
