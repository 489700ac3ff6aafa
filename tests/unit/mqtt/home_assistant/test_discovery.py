"""Discovery: announced whenever Home Assistant may not have it, and removed when entities are removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from edge_classifierd.config.sections.mqtt import HomeAssistantSection
from edge_classifierd.mqtt.home_assistant.announced_entities import AnnouncedEntities
from edge_classifierd.mqtt.home_assistant.discovery import Discovery
from edge_classifierd.mqtt.home_assistant.entities import CameraFacts, DeviceFacts, WatchFacts
from edge_classifierd.mqtt.message import Incoming, Message, PublishOutcome
from edge_classifierd.mqtt.published_topics import PublishedTopics
from edge_classifierd.mqtt.refusals import TOO_LARGE, Refusals
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Listener

DEVICE = "homeassistant/device/edge-classifierd_porch/config"
BIRTH = "homeassistant/status"


def facts(*watches: str, name: str = "Porch", camera: str = "driveway") -> DeviceFacts:
    cameras = (CameraFacts(camera, tuple(WatchFacts(watch, None) for watch in watches)),)
    return DeviceFacts(name, "Pi", "1", cameras, has_temperature=False, has_throttling=False)


class FakeNetwork:
    """Replaces the client and the clock; the broker accepts everything unless `answer` is set."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.now_s = 100.0
        self.is_connected = False
        self.answer: PublishOutcome | None = PublishOutcome.DELIVERED
        self.refusals = Refusals(cast("Clock", self))
        self.published: PublishedTopics | None = None
        self.handlers: dict[str, Callable[[Incoming], None]] = {}
        self.listeners: list[Listener] = []

    def publish(self, message: Message) -> bool:
        if self.is_connected:
            self.sent.append(message)
            if self.answer is PublishOutcome.REFUSED:
                self.refusals.add_message(
                    message.topic, len(message.payload), "not authorized", broker="b:1883", closes=False
                )
            elif self.answer is PublishOutcome.DELIVERED:
                self.refusals.remove_message(message.topic)
                if self.published is not None and message.retain:
                    self.published.record(message.topic, empty=not message.payload, outcome=self.answer)
            if message.on_outcome is not None and self.answer is not None:
                message.on_outcome(self.answer, "not authorized")
        return self.is_connected

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None]) -> None:
        self.handlers[topic_filter] = handler

    def add_listener(self, listener: Listener) -> None:
        self.listeners.append(listener)

    def monotonic(self) -> float:
        return self.now_s

    def connect(self) -> None:
        self.is_connected = True
        for listener in self.listeners:
            listener.connected()

    def disconnect(self) -> None:
        self.is_connected = False
        for listener in self.listeners:
            listener.disconnected()

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.now_s += 0.25
            for listener in self.listeners:
                listener.tick()

    def receive(self, topic: str, payload: bytes, *, retained: bool = False, subscribed: str | None = None) -> None:
        self.handlers[subscribed or topic](Incoming(topic, payload, retained))

    def take(self) -> list[tuple[str, Any]]:
        taken = [(one.topic, json.loads(one.payload) if one.payload else None) for one in self.sent]
        self.sent.clear()
        return taken


class Scene:
    """A network, a file, and a discovery that is started again and again."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "discovery.json"
        self.network = FakeNetwork()
        self.states_published = 0
        self.discovery: Discovery | None = None
        self.published: PublishedTopics

    def start(
        self, watched: DeviceFacts, *, device: str = "porch", base: str = "edge-classifierd", **keys: Any
    ) -> Discovery:
        if self.discovery is not None:
            self.discovery.save()  # as the service does, often
            self.published.save()
        self.network = FakeNetwork()
        self.published = self.network.published = self._published_topics(f"{base}/{device}")
        topics = Topics(base, device)
        discovery = self.discovery = Discovery(
            cast("MqttClient", self.network),
            topics,
            HomeAssistantSection(**keys),
            AnnouncedEntities(self.file, topics.base),
            self.published,
            clock=cast("Clock", self.network),
            publish_states=self._publish_states,
        )
        discovery.announce(watched)
        self.network.connect()
        self.network.pass_time(1)
        return discovery

    def _published_topics(self, base: str) -> PublishedTopics:
        """Return the list, with two states of the device `porch`."""
        topics = PublishedTopics(self.file.with_name("published.json"), base)
        if base == "edge-classifierd/porch":
            for topic in ("status", "driveway/dog/state"):
                topics.record(f"{base}/{topic}", empty=False, outcome=PublishOutcome.DELIVERED)
        return topics

    def _publish_states(self) -> None:
        self.states_published += 1
        self.network.sent.append(Message("states", b"1"))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def components(payload: dict[str, Any]) -> set[str]:
    return {key for key, config in payload["cmps"].items() if len(config) > 1}


def removals(payload: dict[str, Any]) -> set[str]:
    return {key for key, config in payload["cmps"].items() if set(config) == {"p"}}


def test_announces_retained_with_every_connection(scene: Scene) -> None:
    scene.start(facts("dog"))
    (message,) = scene.network.sent
    assert (message.topic, message.retain, message.qos) == (DEVICE, True, 1)
    first = scene.network.take()
    scene.network.pass_time(60)
    assert scene.network.take() == []
    scene.network.disconnect()
    scene.network.connect()
    assert scene.network.take() == first


def test_announces_again_and_then_publishes_states_when_home_assistant_starts(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(1)
    assert [topic for topic, _ in scene.network.take()] == [DEVICE, "states"]
    scene.network.receive(BIRTH, b"offline")
    scene.network.receive(BIRTH, b"online", retained=True)
    scene.network.pass_time(10)
    assert scene.network.take() == []


def test_births_are_answered_at_most_every_two_seconds(scene: Scene) -> None:
    scene.start(facts("dog"))
    for _ in range(40):
        scene.network.receive(BIRTH, b"online")
        scene.network.pass_time(0.25)
    scene.network.pass_time(3)
    assert 4 <= scene.states_published <= 6


def test_other_prefix_is_used_and_both_birth_topics_are_subscribed(scene: Scene) -> None:
    scene.start(facts("dog"), prefix="my/ha")
    assert [topic for topic, _ in scene.network.take()] == ["my/ha/device/edge-classifierd_porch/config"]
    assert set(scene.network.handlers) == {BIRTH, "my/ha/status"}
    scene.network.receive("my/ha/status", b"online")
    scene.network.pass_time(1)
    assert scene.states_published == 1


def test_watch_removed_by_a_reload_is_removed(scene: Scene) -> None:
    discovery = scene.start(facts("dog", "cat"))
    scene.network.take()
    discovery.announce(facts("dog"))
    scene.network.pass_time(1)
    ((topic, payload),) = scene.network.take()
    assert topic == DEVICE
    kinds = ("active", "threshold", "count_today", "last_seen")
    assert removals(payload) == {f"driveway_X_cat_X_{kind}" for kind in kinds}
    assert not removals(payload) & components(payload)
    assert "driveway_X_dog_X_active" in components(payload)


def test_watch_removed_over_a_restart_is_removed_with_its_states(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    ((_, payload),) = scene.network.take()
    assert len(removals(payload)) == 4
    scene.network.pass_time(10)
    assert scene.network.take() == GONE


GONE = [(f"edge-classifierd/porch/driveway/cat/{kind}", None) for kind in ("state", "stats", "threshold")]


def test_states_of_removed_entities_are_cleared_after_a_lost_connection(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.network.disconnect()
    scene.network.connect()
    scene.network.take()
    scene.network.answer = PublishOutcome.LOST
    scene.network.pass_time(10)
    assert scene.network.take() == GONE
    scene.network.disconnect()
    scene.network.answer = PublishOutcome.DELIVERED
    scene.network.connect()
    scene.network.pass_time(10)
    assert scene.network.take()[1:] == GONE
    scene.network.disconnect()
    scene.network.connect()
    scene.network.pass_time(10)
    assert len(scene.network.take()) == 1


def test_states_of_removed_entities_are_cleared_when_home_assistant_starts_meanwhile(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(4)
    scene.network.disconnect()
    scene.network.take()
    scene.start(facts("dog"))
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(15)
    assert scene.network.take()[-3:] == GONE


def test_watch_removed_twice_is_cleared_twice(scene: Scene) -> None:
    discovery = scene.start(facts("dog", "cat"))
    for _ in range(2):
        scene.network.take()
        discovery.announce(facts("dog"))
        scene.network.pass_time(10)
        assert scene.network.take()[1:] == GONE
        discovery.announce(facts("dog", "cat"))
        scene.network.pass_time(10)


def test_entities_removed_one_by_one_are_announced_once_more_together(scene: Scene) -> None:
    scene.start(facts("dog", "cat", "bird"))
    scene.start(facts("dog", "bird"))
    scene.start(facts("dog"))
    scene.network.pass_time(10)
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(1)
    ((_, shown),) = scene.network.take()
    assert {key.split("_X_")[1] for key in components(shown)} == {"cat", "bird"}


def test_home_assistant_that_was_not_running_receives_removed_entities_once_more(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.network.pass_time(10)
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(1)
    ((topic, shown),) = scene.network.take()
    assert topic == DEVICE
    assert {key.split("_X_")[1] for key in components(shown)} == {"cat"}
    scene.network.pass_time(5)
    (_, payload), (last, _) = scene.network.take()
    assert (len(removals(payload)), last) == (4, "states")
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(5)
    (_, payload), _ = scene.network.take()
    assert removals(payload) == set()


def test_removed_entities_are_announced_once_more_without_retain(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.network.pass_time(10)
    scene.network.sent.clear()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(5)
    assert [message.retain for message in scene.network.sent][:2] == [False, True]


def test_watch_that_is_configured_again_is_not_removed(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"))
    scene.start(facts("dog", "cat"))
    scene.network.pass_time(10)
    ((_, payload),) = scene.network.take()
    assert removals(payload) == set()


def test_disabled_discovery_removes_the_announcement_once(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.start(facts("dog"), enabled=False)
    scene.network.pass_time(10)
    assert scene.network.take() == [(DEVICE, None)]
    assert scene.network.handlers == {}
    scene.start(facts("dog"), enabled=False)
    scene.network.pass_time(10)
    assert scene.network.take() == []


def test_other_kind_of_discovery_replaces_the_first_after_a_pause(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.start(facts("dog"), discovery="component")
    assert scene.network.take() == [(DEVICE, None)]
    scene.network.pass_time(4)
    said = scene.network.take()
    assert len(said) > 10
    assert all(payload["dev"]["name"] == "Porch" for _, payload in said)
    assert "homeassistant/binary_sensor/edge-classifierd_porch/driveway_X_dog_X_active/config" in dict(said)


def former(scene: Scene, status: bytes | None, **start: Any) -> FakeNetwork:
    """Change a device's id from porch to gate; `status` is the retained status of porch."""
    scene.start(facts("dog"))
    scene.start(facts("dog"), device="gate", **start)
    network = scene.network
    if status is not None:
        network.receive("edge-classifierd/porch/status", status, retained=True)
    network.take()
    return network


def test_changed_id_removes_the_former_device_and_then_its_topics(scene: Scene) -> None:
    network = former(scene, b"offline")
    network.pass_time(2.5)
    assert network.take() == [(DEVICE, None)], "the new one follows"
    network.pass_time(10)
    assert {(topic, payload) for topic, payload in network.take() if "porch" in topic} == {
        ("edge-classifierd/porch/status", None),
        ("edge-classifierd/porch/driveway/dog/state", None),
    }
    network.receive(BIRTH, b"online")
    network.pass_time(1)
    topic, payload = network.take()[0]
    assert (topic, payload["dev"]["ids"]) == (DEVICE, ["edge-classifierd_porch"])
    network.pass_time(5)
    assert network.take()[0] == (DEVICE, None)


def test_former_id_of_another_online_device_is_not_removed(scene: Scene) -> None:
    network = former(scene, b"online")
    network.pass_time(300)
    assert [topic for topic, _ in network.take() if "porch" in topic] == []
    assert "edge-classifierd/porch/#" not in network.handlers
    scene.start(facts("dog"), device="gate")
    scene.network.pass_time(300)
    assert [topic for topic, _ in scene.network.take() if "porch" in topic] == []


def test_former_id_is_removed_once_the_last_will_says_offline(scene: Scene) -> None:
    network = former(scene, b"online")
    network.pass_time(50)
    network.receive("edge-classifierd/porch/status", b"offline")
    network.pass_time(20)
    assert (DEVICE, None) in network.take()


def test_device_that_returns_to_its_former_id_is_not_removed(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.start(facts("dog"), device="gate")
    scene.start(facts("dog"))
    network = scene.network
    assert "edge-classifierd/porch/status" not in network.handlers
    network.receive("edge-classifierd/gate/status", b"offline", retained=True)
    network.pass_time(30)
    said = network.take()
    assert [topic for topic, payload in said if payload is None] == [DEVICE.replace("porch", "gate")]
    assert (said[0][1], said[-1][0]) == (None, DEVICE), "first the former one is removed"


def test_changed_base_topic_keeps_the_device(scene: Scene) -> None:
    scene.start(facts("dog"))
    scene.start(facts("dog"), base="home")
    network = scene.network
    network.receive("edge-classifierd/porch/status", b"offline", retained=True)
    network.pass_time(30)
    said = network.take()
    assert {topic for topic, payload in said if payload is not None} == {DEVICE}
    former_states = ["edge-classifierd/porch/driveway/dog/state", "edge-classifierd/porch/status"]
    assert [topic for topic, payload in said if payload is None] == former_states


def test_refused_discovery_is_logged_once_and_retried_every_ten_minutes(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = scene.start(facts("dog"))
    scene.network.answer = PublishOutcome.REFUSED
    discovery.announce(facts("cat"))
    scene.network.pass_time(1)
    scene.network.take()
    for _ in range(3):
        scene.network.disconnect()
        scene.network.connect()
    assert scene.network.take() == []
    assert len([record for record in caplog.records if "refuses messages on" in record.message]) == 1
    scene.network.pass_time(590)
    assert DEVICE not in dict(scene.network.take())
    scene.network.pass_time(20)
    assert [topic for topic, _ in scene.network.take()] == [DEVICE], "again after ten minutes, still refused"
    scene.network.answer = None
    scene.network.pass_time(605)
    assert [topic for topic, _ in scene.network.take()] == [DEVICE], "once, however long the answer takes"
    scene.network.answer = PublishOutcome.DELIVERED
    scene.network.disconnect()
    scene.network.connect()
    assert [topic for topic, _ in scene.network.take()] == [DEVICE]
    scene.network.pass_time(700)
    assert scene.network.take() == []


def test_damaged_file_is_logged_and_replaced(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.start(facts("dog", "cat"))
    for damage in ("", "{", "[]", '{"announced, version 1": {}}', "\x00" * 50):
        scene.discovery = None
        scene.file.write_text(damage)
        caplog.clear()
        scene.start(facts("dog"))
        assert "unreadable" in caplog.text
        ((_, payload),) = scene.network.take()
        assert removals(payload) == set()


def test_file_that_cannot_be_written_is_logged_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.file = scene.file.parent / "absent" / "discovery.json"
    discovery = scene.start(facts("dog"))
    discovery.announce(facts("cat"))
    discovery.announce(facts("bird"))
    assert caplog.text.count("discovery.json: cannot be written") == 1


def test_new_id_is_announced_after_the_former_one_is_removed_and_not_retained_before_home_assistant_starts(
    scene: Scene,
) -> None:
    network = former(scene, None)
    network.pass_time(30)
    messages = [message for message in network.sent if "homeassistant/" in message.topic]
    assert [(message.topic, bool(message.payload), message.retain) for message in messages] == [
        (DEVICE, False, True),
        (DEVICE.replace("porch", "gate"), True, False),
    ]
    network.sent.clear()
    network.receive(BIRTH, b"online")
    network.pass_time(15)
    messages = [message for message in network.sent if "homeassistant/" in message.topic]
    assert [(message.topic, bool(message.payload), message.retain) for message in messages] == [
        (DEVICE, True, False),
        (DEVICE, False, True),
        (DEVICE.replace("porch", "gate"), True, True),
    ]


def test_device_message_that_is_too_large_is_replaced_by_component_messages(scene: Scene) -> None:
    discovery = scene.start(facts("dog"))
    scene.network.take()
    scene.network.refusals.add_message(DEVICE, 9000, TOO_LARGE, broker="b:1883", closes=False)
    scene.network.pass_time(5)
    said = scene.network.take()
    assert said[0] == (DEVICE, None)
    assert len(said) > 20
    assert all(topic.count("/") == 4 for topic, _ in said[1:])
    assert scene.network.refusals.sentences == ()
    discovery.announce(facts("dog", "cat"))
    scene.network.pass_time(5)
    assert DEVICE not in dict(scene.network.take())
    scene.start(facts("dog"))
    assert DEVICE not in dict(scene.network.take()), "remembered over a restart"


def test_removes_only_topics_that_the_daemon_has_published(scene: Scene) -> None:
    network = former(scene, None)
    network.pass_time(30)
    removed = {message.topic for message in network.sent if not message.payload}
    assert removed == {DEVICE, "edge-classifierd/porch/status", "edge-classifierd/porch/driveway/dog/state"}
    assert not [one for one in network.handlers if one.endswith("#")], "no search on the broker"


def test_name_of_emoji_only_is_completed_with_the_device_id(scene: Scene) -> None:
    scene.start(facts("dog", name="🚪🐈"))
    ((_, payload),) = scene.network.take()
    assert payload["dev"]["name"] == "🚪🐈 porch"
    scene.start(facts("dog", name="Küche 🐈"))
    assert scene.network.take()[0][1]["dev"]["name"] == "Küche 🐈"


def test_each_removed_entity_is_announced_once_more_in_one_message_only(scene: Scene) -> None:
    scene.start(facts("dog", "cat"))
    scene.start(facts("dog"), discovery="component")
    scene.network.pass_time(10)
    scene.network.take()
    scene.network.receive(BIRTH, b"online")
    scene.network.pass_time(1)
    ((topic, payload),) = scene.network.take()
    assert topic == DEVICE
    assert {key.split("_X_")[1] for key in components(payload)} == {"cat"}, "those of the dog are announced"
