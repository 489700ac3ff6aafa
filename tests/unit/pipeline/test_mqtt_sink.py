"""The outlet: which topic says what and in which manner, and what is said no more once it was withdrawn."""

from __future__ import annotations

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
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.mqtt_sink import MqttSink
from edge_classifierd.pipeline.validation import preflight

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.events.schema import EventDraft
    from edge_classifierd.mqtt.retained_topics import RetainedTopics
    from edge_classifierd.pipeline.plan import Plan
    from edge_classifierd.pipeline.watch_statistics import WatchStatistics

BASE = "edge-classifierd/porch/driveway"
LATER = datetime(2026, 11, 22, tzinfo=UTC)
MOMENT = datetime(2026, 11, 21, 22, 26, 11, 123456, UTC)


class Listener:
    """Stands for the outbox, the retained states and the tally; remembers what each was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.values: dict[str, bytes | str] = {}
        self.manners: dict[str, dict[str, Any]] = {}
        self.removed: dict[str, float] = {}

    def append(self, drafts: Sequence[EventDraft]) -> None:
        self.told.append(("outbox", drafts))

    def note(self, drafts: Sequence[EventDraft]) -> None:
        self.told.append(("tally", drafts))

    def show(self, plan: Plan) -> None:
        self.told.append(("show", plan))

    def withdraw(self, pipeline: str, watches: Sequence[str]) -> None:
        self.told.append(("withdraw", pipeline, list(watches)))

    def set(self, topic: str, payload: bytes | str, **manner: Any) -> None:
        self.values[topic.removeprefix(f"{BASE}/")] = payload
        self.manners[topic.removeprefix(f"{BASE}/")] = manner

    def remove(self, topic: str, *, after_s: float) -> None:
        self.values.pop(topic.removeprefix(f"{BASE}/"), None)
        self.removed[topic.removeprefix(f"{BASE}/")] = after_s


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def outlet(listener: Listener, tmp_path: Path) -> MqttSink:
    return MqttSink(
        Topics("edge-classifierd", "porch"),
        cast("Outbox", listener),
        cast("RetainedTopics", listener),
        cast("WatchStatistics", listener),
        tmp_path / "snapshots",
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


def test_events_are_durable_before_they_count(outlet: MqttSink, listener: Listener) -> None:
    drafts = cast("list[EventDraft]", [SimpleNamespace()])
    outlet.events(drafts)
    assert listener.told == [("outbox", drafts), ("tally", drafts)]


def test_each_value_goes_to_its_topic_in_its_manner(outlet: MqttSink, listener: Listener, tmp_path: Path) -> None:
    plan = plan_for(tmp_path, "cat", "dog")
    outlet.settings(plan, enabled=True, thresholds={"cat": 0.6, "dog": 1.0})
    outlet.watches(plan, frozenset({"cat"}))
    outlet.status(plan, online=True)
    outlet.state(plan, a_state())
    assert ("show", plan) in listener.told
    state = listener.values.pop("state")
    assert isinstance(state, bytes)
    assert b'"label":"cat"' in state
    assert listener.values == {
        "enabled": "ON",
        "cat/threshold": "0.6",
        "dog/threshold": "1",
        "cat/state": "ON",
        "dog/state": "OFF",
        "status": "online",
    }
    # Every change of these is heard, however quickly one follows another; the state's latest is enough.
    at_once = {topic for topic, manner in listener.manners.items() if manner.get("min_interval_s") == 0.0}
    assert at_once == {"enabled", "cat/threshold", "dog/threshold", "cat/state", "dog/state", "status"}
    # What a device that vanished for good would leave behind to be believed.
    assert {topic for topic, manner in listener.manners.items() if manner.get("expiry_s") == 3600} == {
        "cat/state",
        "dog/state",
        "state",
    }
    assert listener.manners["state"]["content_type"] == "application/json"
    assert listener.manners["state"]["schema"] == 1
    outlet.settings(plan, enabled=False, thresholds={})
    outlet.watches(plan, frozenset())
    outlet.status(plan, online=False)
    said = [listener.values[topic] for topic in ("enabled", "cat/state", "status", "cat/threshold")]
    assert said == ["OFF", "OFF", "offline", "0.6"]


def test_a_picture_is_cut_to_the_region_scaled_and_not_repeated(
    outlet: MqttSink, listener: Listener, tmp_path: Path
) -> None:
    half = {"x": 0.0, "y": 0.0, "width": 0.5, "height": 1.0}
    outlet.picture(plan_for(tmp_path, region=half, snapshot={"max_width": 40}), a_frame())
    jpeg = listener.values["image"]
    assert isinstance(jpeg, bytes)
    decoder = av.CodecContext.create("mjpeg", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    (decoded,) = decoder.decode(av.Packet(jpeg))
    assert (decoded.width, decoded.height) == (40, 60)
    assert listener.manners["image"] == {"content_type": "image/jpeg", "qos": 0}
    assert not (tmp_path / "snapshots").exists()
    outlet.picture(plan_for(tmp_path, snapshot={"max_width": 160, "quality": 30}), a_frame())
    small = len(listener.values["image"])
    outlet.picture(plan_for(tmp_path, snapshot={"max_width": 160, "quality": 95}), a_frame())
    assert len(listener.values["image"]) > 1.5 * small


def test_pictures_are_kept_by_day_within_the_bounds_of_the_latest_configuration(
    outlet: MqttSink, tmp_path: Path
) -> None:
    def kept() -> list[str]:
        return sorted(str(file.relative_to(tmp_path / "snapshots")) for file in tmp_path.rglob("*.jpg"))

    plan = plan_for(tmp_path, snapshot={"keep": {"count": 2, "megabytes": 1}})
    for second in range(4):
        outlet.picture(plan, Frame(picture(100), 1, 0.0, MOMENT.replace(second=second)))
    assert kept() == ["driveway/2026-11-21/22-26-02-123456.jpg", "driveway/2026-11-21/22-26-03-123456.jpg"]
    outlet.picture(plan_for(tmp_path, snapshot={"keep": {"count": 3, "megabytes": 1}}), a_frame())
    assert len(kept()) == 3
    noise = len((tmp_path / "snapshots/driveway/2026-11-21/22-26-11-123456.jpg").read_bytes())
    little = {"count": 9, "megabytes": noise / 1e6 - 0.0001}
    outlet.picture(plan_for(tmp_path, snapshot={"keep": little}), Frame(picture(100, noise=True), 1, 0.0, LATER))
    assert len(kept()) == 3, "one that never fits is not kept, and costs no other"


def test_a_watch_that_was_withdrawn_is_not_said_again_by_a_pipeline_that_has_not_heard(
    outlet: MqttSink, listener: Listener, tmp_path: Path
) -> None:
    before, after = plan_for(tmp_path, "cat", "dog"), plan_for(tmp_path, "cat")
    outlet.settings(before, enabled=True, thresholds={"cat": 0.6, "dog": 0.6})
    outlet.watches(before, frozenset())
    outlet.withdraw(before, ["dog"])
    outlet.settings(after, enabled=True, thresholds={"cat": 0.6})
    outlet.watches(before, frozenset({"dog", "cat"}))
    assert listener.told[-2:] == [("withdraw", "driveway", ["dog"]), ("show", after)]
    assert listener.removed == {"dog/state": 5.0, "dog/threshold": 5.0}, "after Home Assistant let go of the entity"
    assert set(listener.values) == {"enabled", "cat/threshold", "cat/state"}
    outlet.settings(before, enabled=True, thresholds={"cat": 0.6, "dog": 0.6})
    outlet.watches(before, frozenset({"dog"}))
    assert (listener.values["dog/state"], listener.values["dog/threshold"]) == ("ON", "0.6")


def test_a_pipeline_that_was_withdrawn_says_nothing_even_when_it_is_stuck_and_comes_back(
    outlet: MqttSink, listener: Listener, tmp_path: Path
) -> None:
    plan = plan_for(tmp_path, "cat")
    outlet.settings(plan, enabled=True, thresholds={"cat": 0.6})
    outlet.withdraw(plan)
    assert listener.told[-1] == ("withdraw", "driveway", ["cat"])
    outlet.status(plan, online=False)
    outlet.state(plan, a_state())
    outlet.picture(plan, a_frame())
    outlet.watches(plan, frozenset())
    assert not listener.values
    assert listener.removed.keys() == {"status", "state", "image", "enabled", "cat/state", "cat/threshold"}
    outlet.settings(plan, enabled=True, thresholds={})
    outlet.status(plan, online=True)
    outlet.state(plan, a_state())
    outlet.picture(plan, a_frame())
    assert listener.values.keys() == {"enabled", "status", "state", "image"}
