"""The sink: which topic is published with which options, and that removed topics stay removed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import av
import pytest
import yaml
from moving_pictures import picture

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.events.pipeline_state import PipelineState
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.jpeg import decode_jpeg
from edge_classifierd.motion.gate import Focus
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.event_pictures import EventPictures
from edge_classifierd.pipeline.mqtt_sink import MqttSink
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.events.schema import Event, EventDraft
    from edge_classifierd.mqtt.retained_topics import RetainedTopics
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.pipeline.watch_statistics import WatchStatistics

BASE = "edge-classifierd/porch/driveway"
LATER = datetime(2026, 11, 22, tzinfo=UTC)
MOMENT = datetime(2026, 11, 21, 22, 26, 11, 123456, UTC)


class Listener:
    """Stands for the outbox, the retained topics and the statistics; records the calls, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.values: dict[str, bytes | str] = {}
        self.options: dict[str, dict[str, Any]] = {}
        self.removed: dict[str, float] = {}

    def append(self, drafts: Sequence[EventDraft], state: dict[str, str]) -> tuple[Event, ...]:
        self.calls.append(("append", drafts, state))
        return ()

    def count(self, drafts: Sequence[EventDraft]) -> dict[str, str]:
        return {"counted": str(len(drafts))}

    def show(self, plan: Plan) -> None:
        self.calls.append(("show", plan))

    def set(self, topic: str, payload: bytes | str, **options: Any) -> None:
        self.values[topic.removeprefix(f"{BASE}/")] = payload
        self.options[topic.removeprefix(f"{BASE}/")] = options

    def remove(self, topic: str, watches: Sequence[str] | None = None, *, after_s: float = 0.0) -> None:
        if watches is not None:
            self.calls.append(("remove", topic, list(watches)))
            return
        self.values.pop(topic.removeprefix(f"{BASE}/"), None)
        self.removed[topic.removeprefix(f"{BASE}/")] = after_s


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def sink(listener: Listener, tmp_path: Path) -> MqttSink:
    return MqttSink(
        Topics("edge-classifierd", "porch"),
        cast("Outbox", listener),
        cast("RetainedTopics", listener),
        cast("WatchStatistics", listener),
        snapshots=tmp_path / "snapshots",
        event_pictures=EventPictures(tmp_path / "event-pictures", tmp_path / "outbox.sqlite3", SystemClock(), most=10),
        after_events=lambda call: call(),
    )


def plan_for(folder: Path, *watches: str, **keys: Any) -> Plan:
    listed = [{"name": watch, "labels": [281]} for watch in watches]
    one = {"name": "driveway", "source": {"type": "v4l2"}, "watches": listed, **keys}
    (folder / "config.yaml").write_text(yaml.safe_dump({"pipelines": [one]}))
    (plan,) = preflight(load(folder / "config.yaml"))
    return plan


def a_frame() -> Frame:
    return Frame(picture(100, noise=True), 1, SystemClock().monotonic(), MOMENT)


def a_state() -> PipelineState:
    return PipelineState(label="cat", confidence=0.5, top=(), active=("cat",), since=MOMENT)


def test_events_are_stored_with_the_state_and_the_counts(sink: MqttSink, listener: Listener) -> None:
    drafts = cast("list[EventDraft]", [SimpleNamespace()])
    sink.store_events(drafts, {"watches": "on"})
    assert listener.calls == [("append", drafts, {"watches": "on", "counted": "1"})]


def test_each_value_is_published_on_its_topic_with_its_options(
    sink: MqttSink, listener: Listener, tmp_path: Path
) -> None:
    plan = plan_for(tmp_path, "cat", "dog")
    sink.publish_settings(plan, enabled=True, region=Region(), thresholds={"cat": 0.6, "dog": 1.0})
    sink.publish_watches(plan, frozenset({"cat"}))
    sink.publish_status(plan, online=True)
    sink.publish_state(plan, a_state())
    assert ("show", plan) in listener.calls
    state = listener.values.pop("state")
    assert isinstance(state, bytes)
    assert b'"label":"cat"' in state
    assert listener.values == {
        "enabled": "ON",
        "region": b'{"x":0.0,"y":0.0,"width":1.0,"height":1.0}',
        "model": "efficientnet_lite0_int8",
        "cat/threshold": "0.6",
        "dog/threshold": "1",
        "cat/state": "ON",
        "dog/state": "OFF",
        "status": "online",
    }
    # Every change of these is heard, however quickly one follows another; the state's latest is enough.
    at_once = {topic for topic, options in listener.options.items() if options.get("min_interval_s") == 0.0}
    assert at_once == {
        "enabled",
        "region",
        "model",
        "cat/threshold",
        "dog/threshold",
        "cat/state",
        "dog/state",
        "status",
    }
    # What a device that vanished for good would leave behind to be believed.
    assert {topic for topic, options in listener.options.items() if options.get("expiry_s") == 3600} == {
        "cat/state",
        "dog/state",
        "state",
    }
    assert listener.options["state"]["content_type"] == "application/json"
    assert listener.options["state"]["schema"] == 1
    sink.publish_settings(plan, enabled=False, region=Region(), thresholds={})
    sink.publish_watches(plan, frozenset())
    sink.publish_status(plan, online=False)
    said = [listener.values[topic] for topic in ("enabled", "cat/state", "status", "cat/threshold")]
    assert said == ["OFF", "OFF", "offline", "0.6"]


def test_a_picture_is_cut_to_the_region_scaled_and_not_repeated(
    sink: MqttSink, listener: Listener, tmp_path: Path
) -> None:
    half = {"x": 0.0, "y": 0.0, "width": 0.5, "height": 1.0}
    sink.publish_picture(plan_for(tmp_path, region=half, snapshot={"max_width": 40}), a_frame())
    jpeg = listener.values["image"]
    assert isinstance(jpeg, bytes)
    decoder = av.CodecContext.create("mjpeg", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    (decoded,) = decoder.decode(av.Packet(jpeg))
    assert (decoded.width, decoded.height) == (40, 60)
    assert listener.options["image"] == {"content_type": "image/jpeg", "qos": 0}
    assert not (tmp_path / "snapshots").exists()
    sink.publish_picture(plan_for(tmp_path, snapshot={"max_width": 160, "quality": 30}), a_frame())
    small = len(listener.values["image"])
    sink.publish_picture(plan_for(tmp_path, snapshot={"max_width": 160, "quality": 95}), a_frame())
    assert len(listener.values["image"]) > 1.5 * small


def test_pictures_are_kept_by_day_within_the_bounds_of_the_latest_configuration(sink: MqttSink, tmp_path: Path) -> None:
    def kept() -> list[str]:
        return sorted(str(file.relative_to(tmp_path / "snapshots")) for file in tmp_path.rglob("*.jpg"))

    plan = plan_for(tmp_path, snapshot={"keep": {"count": 2, "megabytes": 1}})
    for second in range(4):
        sink.publish_picture(plan, Frame(picture(100), 1, 0.0, MOMENT.replace(second=second)))
    assert kept() == ["driveway/2026-11-21/22-26-02-123456.jpg", "driveway/2026-11-21/22-26-03-123456.jpg"]
    sink.publish_picture(plan_for(tmp_path, snapshot={"keep": {"count": 3, "megabytes": 1}}), a_frame())
    assert len(kept()) == 3
    noise = len((tmp_path / "snapshots/driveway/2026-11-21/22-26-11-123456.jpg").read_bytes())
    little = {"count": 9, "megabytes": noise / 1e6 - 0.0001}
    sink.publish_picture(plan_for(tmp_path, snapshot={"keep": little}), Frame(picture(100, noise=True), 1, 0.0, LATER))
    assert len(kept()) == 3, "one that never fits is not kept, and costs no other"


def test_a_removed_watch_is_not_published_by_a_pipeline_that_still_has_it(
    sink: MqttSink, listener: Listener, tmp_path: Path
) -> None:
    before, after = plan_for(tmp_path, "cat", "dog"), plan_for(tmp_path, "cat")
    sink.publish_settings(before, enabled=True, region=Region(), thresholds={"cat": 0.6, "dog": 0.6})
    sink.publish_watches(before, frozenset())
    sink.remove(before, ["dog"])
    sink.publish_settings(after, enabled=True, region=Region(), thresholds={"cat": 0.6})
    sink.publish_watches(before, frozenset({"dog", "cat"}))
    assert listener.calls[-2:] == [("remove", "driveway", ["dog"]), ("show", after)]
    assert listener.removed == {"dog/state": 5.0, "dog/threshold": 5.0}, "after Home Assistant let go of the entity"
    assert set(listener.values) == {"enabled", "region", "model", "cat/threshold", "cat/state"}
    sink.publish_settings(before, enabled=True, region=Region(), thresholds={"cat": 0.6, "dog": 0.6})
    sink.publish_watches(before, frozenset({"dog"}))
    assert (listener.values["dog/state"], listener.values["dog/threshold"]) == ("ON", "0.6")


def test_a_removed_pipeline_publishes_nothing_even_when_it_was_stuck(
    sink: MqttSink, listener: Listener, tmp_path: Path
) -> None:
    plan = plan_for(tmp_path, "cat")
    sink.publish_settings(plan, enabled=True, region=Region(), thresholds={"cat": 0.6})
    sink.remove(plan)
    assert listener.calls[-1] == ("remove", "driveway", ["cat"])
    sink.publish_status(plan, online=False)
    sink.publish_state(plan, a_state())
    sink.publish_picture(plan, a_frame())
    sink.publish_watches(plan, frozenset())
    assert not listener.values
    assert listener.removed.keys() == {
        "status",
        "state",
        "image",
        "enabled",
        "region",
        "model",
        "cat/state",
        "cat/threshold",
    }
    sink.publish_settings(plan, enabled=True, region=Region(), thresholds={})
    sink.publish_status(plan, online=True)
    sink.publish_state(plan, a_state())
    sink.publish_picture(plan, a_frame())
    assert listener.values.keys() == {"enabled", "region", "model", "status", "state", "image"}


def test_motion_is_published_with_the_gate_only(sink: MqttSink, listener: Listener, tmp_path: Path) -> None:
    sink.publish_motion(plan_for(tmp_path, "cat"), moving=True)
    assert "motion" not in listener.values
    plan = plan_for(tmp_path, "cat", motion={"enabled": True})
    sink.publish_motion(plan, moving=True)
    assert listener.values["motion"] == "ON"
    assert listener.options["motion"]["qos"] == 0
    sink.publish_motion(plan, moving=False)
    assert listener.values["motion"] == "OFF"


def test_motion_is_removed_with_its_gate_and_with_its_pipeline(
    sink: MqttSink, listener: Listener, tmp_path: Path
) -> None:
    plan = plan_for(tmp_path, "cat", motion={"enabled": True})
    sink.publish_motion(plan, moving=True)
    sink.remove_motion(plan)
    assert "motion" in listener.removed
    sink.publish_motion(plan, moving=True)  # a frame that was on its way
    assert "motion" not in listener.values
    sink.publish_settings(plan, enabled=True, region=Region(), thresholds={})
    sink.publish_motion(plan, moving=True)
    assert "motion" in listener.values
    sink.remove(plan)
    assert "motion" not in listener.values


def test_a_picture_shows_a_box_around_what_was_classified_or_that_part_alone(
    sink: MqttSink, listener: Listener, tmp_path: Path
) -> None:
    focus = Focus(Region(0.25, 0.25, 0.25, 0.25), Region(0.2, 0.2, 0.3, 0.4), ends_round=True)
    frame = replace(Frame(picture(100), 1, 0.0, MOMENT), focus=focus)

    def pixels(**snapshot: Any) -> Any:
        sink.publish_picture(plan_for(tmp_path, "cat", snapshot=snapshot), frame)
        decoded = decode_jpeg(bytes(listener.values["image"]), "image", most_memory=10**7)  # type: ignore[arg-type]
        return decoded.to_ndarray(format="gray").astype(int)

    whole = pixels(quality=95)
    assert whole.shape == (120, 160)
    assert whole[30:60, 40].mean() > 160
    assert whole[30:60, 78].mean() > 160
    assert abs(whole[45, 60] - 100) < 5
    assert abs(whole[10, 10] - 100) < 5
    crop = pixels(show="crop", quality=95)
    assert crop.shape == (48, 48)
    assert abs(crop - 100).max() < 8
