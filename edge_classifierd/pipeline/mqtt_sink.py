"""Stores events in the outbox and publishes the other results of pipelines as retained topics."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.events.pipeline_state import SCHEMA_VERSION as STATE_SCHEMA
from edge_classifierd.events.pipeline_state import encode_state
from edge_classifierd.events.schema import dump
from edge_classifierd.frames.jpeg import encode_jpeg
from edge_classifierd.log import event_level
from edge_classifierd.model.bundle import bundled_model_path
from edge_classifierd.mqtt.message import JPEG, JSON
from edge_classifierd.mqtt.retained_topics import REMOVAL_DELAY_S
from edge_classifierd.pipeline.image_store import ImageStore
from edge_classifierd.pipeline.planning.fetched_models import remote_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from edge_classifierd.config.sections.pipeline import KeepSection
    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.events.pipeline_state import PipelineState
    from edge_classifierd.events.schema import Event, EventDraft
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.mqtt.retained_topics import RetainedTopics
    from edge_classifierd.mqtt.topics import Topics
    from edge_classifierd.pipeline.event_pictures import EventPictures
    from edge_classifierd.pipeline.planning.plan import AnyPlan, Plan
    from edge_classifierd.pipeline.watch_statistics import WatchStatistics
    from edge_classifierd.preprocess import Region

_log = logging.getLogger(__name__)

ON: Final = "ON"
OFF: Final = "OFF"
_EXPIRY_S: Final = 3600
"""How long the broker retains the state of a device that vanished (MQTT 5); a running one publishes it again before."""


class MqttSink:
    """Implements the pipelines' ResultSink. Thread-safe."""

    def __init__(
        self,
        topics: Topics,
        outbox: Outbox,
        retained: RetainedTopics,
        statistics: WatchStatistics,
        *,
        snapshots: Path,
        event_pictures: EventPictures,
        after_events: Callable[[Callable[[], None]], None],
    ) -> None:
        """Prepare a sink.

        Args:
            topics: the device's topics.
            outbox: stores the events.
            retained: publishes the states.
            statistics: counts the events.
            snapshots: the folder for pictures; each pipeline has its own folder below it.
            event_pictures: the pictures of events.
            after_events: makes a call, in order, when the events that were stored before are with the broker.
        """
        self._topics = topics
        self._outbox = outbox
        self._retained = retained
        self._statistics = statistics
        self._snapshots = snapshots
        self._event_pictures = event_pictures
        self._after_events = after_events
        self._event_level = event_level()
        self._image_stores: dict[str, tuple[KeepSection, ImageStore]] = {}
        self._lock = threading.Lock()
        self._removed: set[str] = set()
        """Topics removed from the broker; a pipeline that has not yet been changed by the reload may still use them."""

    def store_events(self, drafts: Sequence[EventDraft], state: Mapping[str, str | None]) -> tuple[Event, ...]:
        """Number the events and store them with the state and the daily counts; durable when it returns."""
        events = self._outbox.append(drafts, {**state, **self._statistics.count(drafts)})
        for draft in drafts:
            _log.log(self._event_level, "%s", draft)
        return events

    def publish_watches(self, plan: Plan, active: frozenset[str]) -> None:
        """Publish which watches are on. Every change is published, however short a watch was on."""
        for rule in plan.rules:
            topic, value = self._topics.watch_state(plan.section.name, rule.name), ON if rule.name in active else OFF
            self._after_events(partial(self._publish, topic, value, expiry_s=_EXPIRY_S, min_interval_s=0.0))

    def publish_state(self, plan: Plan, state: PipelineState) -> None:
        """Publish the pipeline's state."""
        topic = self._topics.state(plan.section.name)
        options = {"content_type": JSON, "schema": STATE_SCHEMA, "expiry_s": _EXPIRY_S}
        self._after_events(lambda: self._publish(topic, encode_state(state), **options))

    def publish_motion(self, plan: Plan, *, moving: bool) -> None:
        """Publish whether something moves in front of the camera, if the motion gate is enabled."""
        if not plan.section.motion.enabled:
            return
        topic = self._topics.motion(plan.section.name)
        self._publish(topic, ON if moving else OFF, qos=0, expiry_s=_EXPIRY_S, min_interval_s=0.0)

    def publish_status(self, plan: AnyPlan, *, online: bool, resting: bool = False) -> None:
        """Publish whether the camera delivers frames, or is closed outside the `active` times."""
        topic = self._topics.pipeline_status(plan.section.name)
        self._publish(topic, "online" if online else "resting" if resting else "offline", min_interval_s=0.0)

    def publish_picture(self, plan: Plan, frame: Frame, event_ids: Sequence[str] = ()) -> None:
        """Publish the frame, upright, cropped to the region and scaled, and store it for its events and by its time."""
        snapshot = plan.section.snapshot
        view, mark = plan.view, None if frame.focus is None else frame.focus.box
        if frame.focus is not None and snapshot.show == "crop":
            view, mark = replace(view, region=frame.focus.square), None
        jpeg = encode_jpeg(frame.picture, view, max_width=snapshot.max_width, quality=snapshot.quality, mark=mark)
        self._publish(self._topics.image(plan.section.name), jpeg, content_type=JPEG, qos=0)
        self._event_pictures.add(event_ids, jpeg)
        name = frame.captured_at.strftime("%Y-%m-%d/%H-%M-%S-%f")
        self._image_store(plan.section.name, snapshot.keep).add(name, jpeg)

    def publish_settings(
        self, plan: AnyPlan, *, enabled: bool, region: Region, thresholds: Mapping[str, float]
    ) -> None:
        """Publish the present values that commands can change; from now on the plan's topics are in use."""
        name = plan.section.name
        with self._lock:
            self._removed.difference_update(self._of_pipeline(plan))
            self._removed.difference_update(self._of_watches(name, [rule.name for rule in plan.rules]))
        self._statistics.show(plan)
        self._publish(self._topics.enabled(name), ON if enabled else OFF, min_interval_s=0.0)
        self._publish(self._topics.region(name), _dump_region(region), content_type=JSON, min_interval_s=0.0)
        self._publish(self._topics.model(name), _model_name(plan), min_interval_s=0.0)
        for watch, threshold in thresholds.items():
            topic = self._topics.threshold(name, watch)
            self._publish(topic, repr(threshold).removesuffix(".0"), min_interval_s=0.0)

    def remove_motion(self, plan: AnyPlan) -> None:
        """Remove the retained topic of the motion gate, until `publish_settings` shows a plan with the gate."""
        topic = self._topics.motion(plan.section.name)
        with self._lock:
            self._removed.add(topic)
            self._retained.remove(topic, after_s=REMOVAL_DELAY_S)

    def remove(self, plan: AnyPlan, watches: Sequence[str] | None = None) -> None:
        """Remove the retained topics of watches, or of the pipeline, until `publish_settings` names them again."""
        name = plan.section.name
        gone = watches if watches is not None else [rule.name for rule in plan.rules]
        self._statistics.remove(name, gone)
        topics = self._of_watches(name, gone) + (self._of_pipeline(plan) if watches is None else [])
        with self._lock:
            self._removed.update(topics)
            for topic in topics:
                self._retained.remove(topic, after_s=REMOVAL_DELAY_S)

    def _publish(self, topic: str, payload: bytes | str, **options: Any) -> None:  # noqa: ANN401 - RetainedTopics.set's
        with self._lock:
            if topic not in self._removed:
                self._retained.set(topic, payload, **options)

    def _of_pipeline(self, plan: AnyPlan) -> list[str]:
        topics = self._topics
        motion = [topics.motion] if plan.section.motion.enabled else []
        of_all = (topics.pipeline_status, topics.state, topics.image, topics.enabled, topics.region, topics.model)
        return [topic(plan.section.name) for topic in (*of_all, *motion)]

    def _of_watches(self, name: str, watches: Sequence[str]) -> list[str]:
        topics = self._topics
        return [topic(name, watch) for watch in watches for topic in (topics.watch_state, topics.threshold)]

    def _image_store(self, pipeline: str, keep: KeepSection) -> ImageStore:
        """Return the pipeline's image store; a new one when a reload has changed its bounds."""
        known = self._image_stores.get(pipeline)
        if known is None or known[0] != keep:
            store = ImageStore(self._snapshots / pipeline, max_files=keep.count, max_bytes=int(keep.megabytes * 1e6))
            self._image_stores[pipeline] = known = (keep, store)
        return known[1]


def _model_name(plan: AnyPlan) -> str:
    """Return the name of the taught model that a pipeline uses, else that of its file without the ending."""
    model = plan.section.model
    if (remote := remote_model(model)) is not None:
        return remote.name
    return model.taught or (model.path or bundled_model_path(model.bundled)).stem


def _dump_region(region: Region) -> bytes:
    return dump({"x": region.x, "y": region.y, "width": region.width, "height": region.height})
