"""Discovery: said again whenever Home Assistant may have forgotten it, and taken back when it is no more."""

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
    """Stands for the session and the clock; the broker takes everything unless it is told to refuse."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.now_s = 100.0
        self.standing = False
        self.answer: PublishOutcome | None = PublishOutcome.DELIVERED
        self.refusals = Refusals(cast("Clock", self))
        self.published: PublishedTopics | None = None
        self.handlers: dict[str, Callable[[Incoming], None]] = {}
        self.listeners: list[Listener] = []

    def publish(self, message: Message) -> bool:
        if self.standing:
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
        return self.standing

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None]) -> None:
        self.handlers[topic_filter] = handler

    def add_listener(self, listener: Listener) -> None:
        self.listeners.append(listener)

    def monotonic(self) -> float:
        return self.now_s

    def connect(self) -> None:
        self.standing = True
        for listener in self.listeners:
            listener.connected()

    def disconnect(self) -> None:
        self.standing = False
        for listener in self.listeners:
            listener.disconnected()

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.now_s += 0.25
            for listener in self.listeners:
                listener.tick()

    def hear(self, topic: str, payload: bytes, *, retained: bool = False, subscribed: str | None = None) -> None:
        self.handlers[subscribed or topic](Incoming(topic, payload, retained))

    def take(self) -> list[tuple[str, Any]]:
        taken = [(one.topic, json.loads(one.payload) if one.payload else None) for one in self.sent]
        self.sent.clear()
        return taken


class House:
    """A network, a file, and discoveries that come and go like the daemon."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "discovery.json"
        self.network = FakeNetwork()
        self.states_said = 0
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
            publish_states=self._say,
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

    def _say(self) -> None:
        self.states_said += 1
        self.network.sent.append(Message("states", b"1"))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def components(payload: dict[str, Any]) -> set[str]:
    return {key for key, config in payload["cmps"].items() if len(config) > 1}


def removals(payload: dict[str, Any]) -> set[str]:
    return {key for key, config in payload["cmps"].items() if set(config) == {"p"}}


def test_it_is_said_retained_on_connection_and_after_every_reconnection(house: House) -> None:
    house.start(facts("dog"))
    (message,) = house.network.sent
    assert (message.topic, message.retain, message.qos) == (DEVICE, True, 1)
    first = house.network.take()
    house.network.pass_time(60)
    assert house.network.take() == []
    house.network.disconnect()
    house.network.connect()
    assert house.network.take() == first


def test_home_assistant_that_starts_hears_it_again_and_the_states_after_it(house: House) -> None:
    house.start(facts("dog"))
    house.network.take()
    house.network.hear(BIRTH, b"online")
    house.network.pass_time(1)
    assert [topic for topic, _ in house.network.take()] == [DEVICE, "states"]
    house.network.hear(BIRTH, b"offline")
    house.network.hear(BIRTH, b"online", retained=True)
    house.network.pass_time(10)
    assert house.network.take() == []


def test_many_births_at_once_are_answered_at_most_every_two_seconds(house: House) -> None:
    house.start(facts("dog"))
    for _ in range(40):
        house.network.hear(BIRTH, b"online")
        house.network.pass_time(0.25)
    house.network.pass_time(3)
    assert 4 <= house.states_said <= 6


def test_another_prefix_is_used_and_both_births_are_heard(house: House) -> None:
    house.start(facts("dog"), prefix="my/ha")
    assert [topic for topic, _ in house.network.take()] == ["my/ha/device/edge-classifierd_porch/config"]
    assert set(house.network.handlers) == {BIRTH, "my/ha/status"}
    house.network.hear("my/ha/status", b"online")
    house.network.pass_time(1)
    assert house.states_said == 1


def test_a_watch_that_a_reload_removes_is_taken_out(house: House) -> None:
    discovery = house.start(facts("dog", "cat"))
    house.network.take()
    discovery.announce(facts("dog"))
    house.network.pass_time(1)
    ((topic, payload),) = house.network.take()
    assert topic == DEVICE
    kinds = ("active", "threshold", "count_today", "last_seen")
    assert removals(payload) == {f"driveway_X_cat_X_{kind}" for kind in kinds}
    assert not removals(payload) & components(payload)
    assert "driveway_X_dog_X_active" in components(payload)


def test_a_watch_that_vanished_over_a_restart_is_taken_out_and_its_states_too(house: House) -> None:
    house.start(facts("dog", "cat"))
    house.start(facts("dog"))
    ((_, payload),) = house.network.take()
    assert len(removals(payload)) == 4
    house.network.pass_time(10)
    assert house.network.take() == GONE


GONE = [(f"edge-classifierd/porch/driveway/cat/{kind}", None) for kind in ("state", "stats", "threshold")]


def test_the_states_of_what_vanished_are_cleared_although_the_first_connection_is_lost(house: House) -> None:
    house.start(facts("dog", "cat"))
    house.start(facts("dog"))
    house.network.disconnect()
    house.network.connect()
    house.network.take()
    house.network.answer = PublishOutcome.LOST
    house.network.pass_time(10)
    assert house.network.take() == GONE
    house.network.disconnect()
    house.network.answer = PublishOutcome.DELIVERED
    house.network.connect()
    house.network.pass_time(10)
    assert house.network.take()[1:] == GONE
    house.network.disconnect()
    house.network.connect()
    house.network.pass_time(10)
    assert len(house.network.take()) == 1


def test_the_states_of_what_vanished_are_cleared_although_home_assistant_starts_meanwhile(house: House) -> None:
    house.start(facts("dog", "cat"))
    house.start(facts("dog"))
    house.network.take()
    house.network.hear(BIRTH, b"online")
    house.network.pass_time(4)
    house.network.disconnect()
    house.network.take()
    house.start(facts("dog"))
    house.network.hear(BIRTH, b"online")
    house.network.pass_time(15)
    assert house.network.take()[-3:] == GONE


def test_a_watch_that_comes_and_goes_twice_is_cleared_twice(house: House) -> None:
    discovery = house.start(facts("dog", "cat"))
    for _ in range(2):
        house.network.take()
        discovery.announce(facts("dog"))
        house.network.pass_time(10)
        assert house.network.take()[1:] == GONE
        discovery.announce(facts("dog", "cat"))
        house.network.pass_time(10)


def test_what_vanished_one_by_one_is_shown_together(house: House) -> None:
    house.start(facts("dog", "cat", "bird"))
    house.start(facts("dog", "bird"))
    house.start(facts("dog"))
    house.network.pass_time(10)
    house.network.take()
    house.network.hear(BIRTH, b"online")
    house.network.pass_time(1)
    ((_, shown),) = house.network.take()
    assert {key.split("_X_")[1] for key in components(shown)} == {"cat", "bird"}


def test_a_home_assistant_that_was_away_is_shown_what_it_is_to_forget_once(house: House) -> None:
    house.start(facts("dog", "cat"))
    house.start(facts("dog"))
    house.network.pass_time(10)
    house.network.take()
    house.network.hear(BIRTH, b"online")
    house.network.pass_time(1)
    ((topic, shown),) = house.network.take()
    assert topic == DEVICE
    assert {key.split("_X_")[1] for key in components(shown)} == {"cat"}
    house.network.pass_time(5)
    (_, payload), (last, _) = house.network.take()
    assert (len(removals(payload)), last) == (4, "states")
    house.network.hear(BIRTH, b"online")
    house.network.pass_time(5)
    (_, payload), _ = house.network.take()
    assert removals(payload) == set()


def test_what_is_shown_once_more_is_not_retained(house: House) -> None:
    house.start(facts("dog", "cat"))
    house.start(facts("dog"))
    house.network.pass_time(10)
    house.network.sent.clear()
    house.network.hear(BIRTH, b"online")
    house.network.pass_time(5)
    assert [message.retain for message in house.network.sent][:2] == [False, True]


def test_a_watch_that_comes_back_is_not_removed_again(house: House) -> None:
    house.start(facts("dog", "cat"))
    house.start(facts("dog"))
    house.start(facts("dog", "cat"))
    house.network.pass_time(10)
    ((_, payload),) = house.network.take()
    assert removals(payload) == set()


def test_switched_off_it_takes_back_what_it_said_once(house: House) -> None:
    house.start(facts("dog"))
    house.start(facts("dog"), enabled=False)
    house.network.pass_time(10)
    assert house.network.take() == [(DEVICE, None)]
    assert house.network.handlers == {}
    house.start(facts("dog"), enabled=False)
    house.network.pass_time(10)
    assert house.network.take() == []


def test_the_other_kind_of_discovery_replaces_the_first_with_a_pause_between(house: House) -> None:
    house.start(facts("dog"))
    house.start(facts("dog"), discovery="component")
    assert house.network.take() == [(DEVICE, None)]
    house.network.pass_time(4)
    said = house.network.take()
    assert len(said) > 10
    assert all(payload["dev"]["name"] == "Porch" for _, payload in said)
    assert "homeassistant/binary_sensor/edge-classifierd_porch/driveway_X_dog_X_active/config" in dict(said)


def former(house: House, status: bytes | None, **start: Any) -> FakeNetwork:
    """A device whose id has changed from porch to gate, and what the broker says of porch."""
    house.start(facts("dog"))
    house.start(facts("dog"), device="gate", **start)
    network = house.network
    if status is not None:
        network.hear("edge-classifierd/porch/status", status, retained=True)
    network.take()
    return network


def test_a_changed_id_removes_the_former_device_and_then_its_topics(house: House) -> None:
    network = former(house, b"offline")
    network.pass_time(2.5)
    assert network.take() == [(DEVICE, None)], "the new one follows"
    network.pass_time(10)
    assert {(topic, payload) for topic, payload in network.take() if "porch" in topic} == {
        ("edge-classifierd/porch/status", None),
        ("edge-classifierd/porch/driveway/dog/state", None),
    }
    network.hear(BIRTH, b"online")
    network.pass_time(1)
    topic, payload = network.take()[0]
    assert (topic, payload["dev"]["ids"]) == (DEVICE, ["edge-classifierd_porch"])
    network.pass_time(5)
    assert network.take()[0] == (DEVICE, None)


def test_a_former_id_under_which_another_device_is_online_is_left_alone(house: House) -> None:
    network = former(house, b"online")
    network.pass_time(300)
    assert [topic for topic, _ in network.take() if "porch" in topic] == []
    assert "edge-classifierd/porch/#" not in network.handlers
    house.start(facts("dog"), device="gate")
    house.network.pass_time(300)
    assert [topic for topic, _ in house.network.take() if "porch" in topic] == []


def test_a_former_id_that_only_seems_online_is_cleared_when_the_broker_notices(house: House) -> None:
    network = former(house, b"online")
    network.pass_time(50)
    network.hear("edge-classifierd/porch/status", b"offline")
    network.pass_time(20)
    assert (DEVICE, None) in network.take()


def test_a_device_that_takes_its_former_id_again_is_not_removed(house: House) -> None:
    house.start(facts("dog"))
    house.start(facts("dog"), device="gate")
    house.start(facts("dog"))
    network = house.network
    assert "edge-classifierd/porch/status" not in network.handlers
    network.hear("edge-classifierd/gate/status", b"offline", retained=True)
    network.pass_time(30)
    said = network.take()
    assert [topic for topic, payload in said if payload is None] == [DEVICE.replace("porch", "gate")]
    assert (said[0][1], said[-1][0]) == (None, DEVICE), "first the former one is removed"


def test_a_changed_base_topic_keeps_the_device(house: House) -> None:
    house.start(facts("dog"))
    house.start(facts("dog"), base="home")
    network = house.network
    network.hear("edge-classifierd/porch/status", b"offline", retained=True)
    network.pass_time(30)
    said = network.take()
    assert {topic for topic, payload in said if payload is not None} == {DEVICE}
    former_states = ["edge-classifierd/porch/driveway/dog/state", "edge-classifierd/porch/status"]
    assert [topic for topic, payload in said if payload is None] == former_states


def test_a_broker_that_refuses_is_named_once_and_left_alone_for_a_while(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = house.start(facts("dog"))
    house.network.answer = PublishOutcome.REFUSED
    discovery.announce(facts("cat"))
    house.network.pass_time(1)
    house.network.take()
    for _ in range(3):
        house.network.disconnect()
        house.network.connect()
    assert house.network.take() == []
    assert len([record for record in caplog.records if "refuses messages on" in record.message]) == 1
    house.network.pass_time(590)
    assert DEVICE not in dict(house.network.take())
    house.network.pass_time(20)
    assert [topic for topic, _ in house.network.take()] == [DEVICE], "again after ten minutes, still refused"
    house.network.answer = None
    house.network.pass_time(605)
    assert [topic for topic, _ in house.network.take()] == [DEVICE], "once, however long the answer takes"
    house.network.answer = PublishOutcome.DELIVERED
    house.network.disconnect()
    house.network.connect()
    assert [topic for topic, _ in house.network.take()] == [DEVICE]
    house.network.pass_time(700)
    assert house.network.take() == []


def test_a_damaged_file_is_said_and_costs_only_what_it_held(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.start(facts("dog", "cat"))
    for damage in ("", "{", "[]", '{"announced, version 1": {}}', "\x00" * 50):
        house.discovery = None
        house.file.write_text(damage)
        caplog.clear()
        house.start(facts("dog"))
        assert "unreadable" in caplog.text
        ((_, payload),) = house.network.take()
        assert removals(payload) == set()


def test_a_file_that_cannot_be_written_is_said_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.file = house.file.parent / "absent" / "discovery.json"
    discovery = house.start(facts("dog"))
    discovery.announce(facts("cat"))
    discovery.announce(facts("bird"))
    assert caplog.text.count("discovery.json: cannot be written") == 1


def test_new_id_is_announced_after_the_former_one_is_removed_and_not_retained_before_home_assistant_starts(
    house: House,
) -> None:
    network = former(house, None)
    network.pass_time(30)
    messages = [message for message in network.sent if "homeassistant/" in message.topic]
    assert [(message.topic, bool(message.payload), message.retain) for message in messages] == [
        (DEVICE, False, True),
        (DEVICE.replace("porch", "gate"), True, False),
    ]
    network.sent.clear()
    network.hear(BIRTH, b"online")
    network.pass_time(15)
    messages = [message for message in network.sent if "homeassistant/" in message.topic]
    assert [(message.topic, bool(message.payload), message.retain) for message in messages] == [
        (DEVICE, True, False),
        (DEVICE, False, True),
        (DEVICE.replace("porch", "gate"), True, True),
    ]


def test_device_message_that_is_too_large_is_replaced_by_component_messages(house: House) -> None:
    discovery = house.start(facts("dog"))
    house.network.take()
    house.network.refusals.add_message(DEVICE, 9000, TOO_LARGE, broker="b:1883", closes=False)
    house.network.pass_time(5)
    said = house.network.take()
    assert said[0] == (DEVICE, None)
    assert len(said) > 20
    assert all(topic.count("/") == 4 for topic, _ in said[1:])
    assert house.network.refusals.sentences == ()
    discovery.announce(facts("dog", "cat"))
    house.network.pass_time(5)
    assert DEVICE not in dict(house.network.take())
    house.start(facts("dog"))
    assert DEVICE not in dict(house.network.take()), "remembered over a restart"


def test_removes_only_topics_that_the_daemon_has_published(house: House) -> None:
    network = former(house, None)
    network.pass_time(30)
    removed = {message.topic for message in network.sent if not message.payload}
    assert removed == {DEVICE, "edge-classifierd/porch/status", "edge-classifierd/porch/driveway/dog/state"}
    assert not [one for one in network.handlers if one.endswith("#")], "no search on the broker"


def test_name_of_emoji_only_is_completed_with_the_device_id(house: House) -> None:
    house.start(facts("dog", name="🚪🐈"))
    ((_, payload),) = house.network.take()
    assert payload["dev"]["name"] == "🚪🐈 porch"
    house.start(facts("dog", name="Küche 🐈"))
    assert house.network.take()[0][1]["dev"]["name"] == "Küche 🐈"
