"""The outlet: takes a pipeline's results to the outbox and to the retained states of the broker."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.events.pipeline_state import SCHEMA_VERSION as STATE_SCHEMA
from edge_classifierd.events.pipeline_state import encode_state
from edge_classifierd.frames.jpeg import encode_jpeg
from edge_classifierd.log import event_level
from edge_classifierd.mqtt.message import JPEG, JSON
from edge_classifierd.mqtt.retained_topics import REMOVAL_DELAY_S
from edge_classifierd.pipeline.image_store import ImageStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_classifierd.config.sections.pipeline import KeepSection
    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.events.pipeline_state import PipelineState
    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.mqtt.retained_topics import RetainedTopics
    from edge_classifierd.mqtt.topics import Topics
    from edge_classifierd.pipeline.plan import AnyPlan, Plan
    from edge_classifierd.pipeline.watch_statistics import WatchStatistics

_log = logging.getLogger(__name__)

_DELIVERY_S: Final = 0.0008
"""What an event takes from here to a broker nearby and back, by two threads that need Python's lock: what the caller
does next would hold it, and hold the event up for as long again (bench/latency.py)."""

ON: Final = "ON"
OFF: Final = "OFF"
_EXPIRY_S: Final = 3600
"""A device that vanished for good leaves no state for longer; a living one says it again well before (MQTT 5)."""


class MqttSink:
    """Implements the pipelines' ResultSink; any thread."""

    def __init__(
        self, topics: Topics, outbox: Outbox, states: RetainedTopics, tally: WatchStatistics, snapshots: Path
    ) -> None:
        """`snapshots` is the folder below which pictures are kept, one folder a pipeline."""
        self._topics = topics
        self._outbox = outbox
        self._states = states
        self._tally = tally
        self._snapshots = snapshots
        self._event_level = event_level()
        self._albums: dict[str, tuple[KeepSection, ImageStore]] = {}
        self._lock = threading.Lock()
        self._withdrawn: set[str] = set()
        """Topics off the broker, on which a pipeline that has not heard of the reload yet may still say something."""

    def events(self, drafts: Sequence[EventDraft]) -> None:
        """Number the events and keep them; durable when it returns."""
        self._outbox.append(drafts)
        time.sleep(_DELIVERY_S)
        for draft in drafts:
            _log.log(self._event_level, "%s", draft)
        self._tally.note(drafts)

    def watches(self, plan: Plan, active: frozenset[str]) -> None:
        """Which watches are on now. Every change is sent, however short a watch was on."""
        for rule in plan.rules:
            topic = self._topics.watch_state(plan.section.name, rule.name)
            self._say(topic, ON if rule.name in active else OFF, expiry_s=_EXPIRY_S, min_interval_s=0.0)

    def state(self, plan: Plan, state: PipelineState) -> None:
        """The pipeline's state has changed."""
        topic = self._topics.state(plan.section.name)
        self._say(topic, encode_state(state), content_type=JSON, schema=STATE_SCHEMA, expiry_s=_EXPIRY_S)

    def status(self, plan: AnyPlan, *, online: bool) -> None:
        """Whether the camera delivers frames."""
        topic = self._topics.pipeline_status(plan.section.name)
        self._say(topic, "online" if online else "offline", min_interval_s=0.0)

    def picture(self, plan: Plan, frame: Frame) -> None:
        """Publish the frame, upright, cut to the region and scaled."""
        snapshot = plan.section.snapshot
        jpeg = encode_jpeg(frame.picture, plan.view, max_width=snapshot.max_width, quality=snapshot.quality)
        self._say(self._topics.image(plan.section.name), jpeg, content_type=JPEG, qos=0)
        moment = frame.captured_at.strftime("%Y-%m-%d/%H-%M-%S-%f")
        self._album(plan.section.name, snapshot.keep).add(moment, jpeg)

    def settings(self, plan: AnyPlan, *, enabled: bool, thresholds: dict[str, float]) -> None:
        """The values that commands can change, as they are now; from now on the plan's topics are in use."""
        name = plan.section.name
        with self._lock:
            self._withdrawn.difference_update(self._of_pipeline(name))
            self._withdrawn.difference_update(self._of_watches(name, [rule.name for rule in plan.rules]))
        self._tally.show(plan)
        self._say(self._topics.enabled(name), ON if enabled else OFF, min_interval_s=0.0)
        for watch, threshold in thresholds.items():
            self._say(self._topics.threshold(name, watch), repr(threshold).removesuffix(".0"), min_interval_s=0.0)

    def withdraw(self, plan: AnyPlan, watches: Sequence[str] | None = None) -> None:
        """Take the retained topics of watches, or of the whole pipeline, off the broker until `settings` names them."""
        name = plan.section.name
        gone = watches if watches is not None else [rule.name for rule in plan.rules]
        self._tally.withdraw(name, gone)
        topics = self._of_watches(name, gone) + (self._of_pipeline(name) if watches is None else [])
        with self._lock:
            self._withdrawn.update(topics)
            for topic in topics:
                self._states.remove(topic, after_s=REMOVAL_DELAY_S)

    def _say(self, topic: str, payload: bytes | str, **manner: Any) -> None:  # noqa: ANN401 - RetainedTopics.set's
        with self._lock:
            if topic not in self._withdrawn:
                self._states.set(topic, payload, **manner)

    def _of_pipeline(self, name: str) -> list[str]:
        topics = self._topics
        return [topics.pipeline_status(name), topics.state(name), topics.image(name), topics.enabled(name)]

    def _of_watches(self, name: str, watches: Sequence[str]) -> list[str]:
        topics = self._topics
        return [topic(name, watch) for watch in watches for topic in (topics.watch_state, topics.threshold)]

    def _album(self, pipeline: str, keep: KeepSection) -> ImageStore:
        """The pipeline's album; a new one when a reload has changed its bounds."""
        kept = self._albums.get(pipeline)
        if kept is None or kept[0] != keep:
            album = ImageStore(self._snapshots / pipeline, max_files=keep.count, max_bytes=int(keep.megabytes * 1e6))
            self._albums[pipeline] = kept = (keep, album)
        return kept[1]
