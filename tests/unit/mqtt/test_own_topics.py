"""The device's own topics: events that do not come back, and messages of another device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from edge_classifierd.mqtt.message import Incoming, Message
from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
from edge_classifierd.mqtt.refusals import Refusals
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient

TOPICS = Topics("edge-classifierd", "porch")
EVENT = TOPICS.event("driveway")


class FakeClient:
    """Replaces the client and the clock."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.endpoint = SimpleNamespace(protocol="3.1.1")
        self.refusals = Refusals(cast("Clock", self))
        self.handlers: dict[str, Callable[[Incoming], None]] = {}
        self.published: list[Message] = []

    def monotonic(self) -> float:
        return self.now_s

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None], *, not_local: bool = False) -> None:
        assert not_local == topic_filter.endswith("/event")
        self.handlers[topic_filter] = handler

    def add_listener(self, _listener: object) -> None:
        pass

    def publish(self, message: Message) -> bool:
        self.published.append(message)
        return True

    def receive(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        self.handlers[topic if topic in self.handlers else f"{TOPICS.base}/+/event"](Incoming(topic, payload, retained))


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def monitor(client: FakeClient) -> OwnTopicMonitor:
    made = OwnTopicMonitor(cast("MqttClient", client), TOPICS, cast("Clock", client))
    made.connected()
    return made


def flags(monitor: OwnTopicMonitor) -> list[str]:
    monitor.tick()
    return [reason.flag for reason in monitor.reasons]


def test_event_that_does_not_come_back_is_lost_until_one_does(monitor: OwnTopicMonitor, client: FakeClient) -> None:
    monitor.publishing(b"1")
    monitor.acknowledged(EVENT)
    assert flags(monitor) == []
    client.now_s += 11
    assert flags(monitor) == ["broker.silent_loss"]
    monitor.connected()
    assert flags(monitor) == ["broker.silent_loss"], "nothing has shown the opposite"
    monitor.publishing(b"2")
    client.receive(EVENT, b"2")
    assert flags(monitor) == []


def test_event_may_come_back_before_its_acknowledgement(monitor: OwnTopicMonitor, client: FakeClient) -> None:
    monitor.publishing(b"1")
    client.receive(EVENT, b"1")
    monitor.acknowledged(EVENT)
    client.now_s += 11
    assert flags(monitor) == []


def test_connections_that_end_after_each_event_count_as_loss(monitor: OwnTopicMonitor) -> None:
    for _ in range(3):
        assert flags(monitor) == []
        monitor.publishing(b"1")
        monitor.acknowledged(EVENT)
        monitor.disconnected()
        monitor.connected()
    assert flags(monitor) == ["broker.silent_loss"]


@pytest.mark.parametrize("reason", ["protocol 5", "subscription refused"])
def test_nothing_is_expected_where_the_broker_answers_or_the_device_cannot_read(
    monitor: OwnTopicMonitor, client: FakeClient, reason: str
) -> None:
    if reason == "protocol 5":
        client.endpoint.protocol = "5"
    else:
        client.refusals.add_subscription(f"{TOPICS.base}/+/event", "not authorized", broker="b", closes=False)
    monitor.acknowledged(EVENT)
    client.now_s += 11
    assert flags(monitor) == []


def test_event_of_another_process_means_a_second_device_for_ten_minutes(
    monitor: OwnTopicMonitor, client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.receive(EVENT, b"of the last process, delivered late")
    client.now_s += 4
    client.receive(EVENT, b"theirs", retained=True)
    assert flags(monitor) == []
    for _ in range(3):
        client.receive(EVENT, b"theirs")
    assert flags(monitor) == ["device.same_id"]
    assert caplog.text.count("give each device its own device.id") == 1
    client.now_s += 601
    assert flags(monitor) == []


def test_second_online_means_a_second_device(monitor: OwnTopicMonitor, client: FakeClient) -> None:
    client.receive(TOPICS.status, b"offline", retained=True)
    client.receive(TOPICS.status, b"online")
    assert flags(monitor) == []
    client.receive(TOPICS.status, b"online")
    assert flags(monitor) == ["device.same_id"]


def test_offline_of_another_is_corrected_at_once(monitor: OwnTopicMonitor, client: FakeClient) -> None:
    client.receive(TOPICS.status, b"online")
    client.receive(TOPICS.status, b"offline")
    (message,) = client.published
    assert (message.topic, message.payload, message.retain) == (TOPICS.status, b"online", True)
    client.receive(TOPICS.status, b"online")
    assert flags(monitor) == [], "its own correction"


def test_many_events_are_remembered_within_limits(monitor: OwnTopicMonitor, client: FakeClient) -> None:
    for number in range(5000):
        monitor.publishing(str(number).encode())
    client.receive(EVENT, b"4999")
    client.receive(EVENT, b"3001")
    assert flags(monitor) == []


def test_own_repeated_online_is_not_that_of_another_device(monitor: OwnTopicMonitor, client: FakeClient) -> None:
    client.receive(TOPICS.status, b"online")
    monitor.publish_online()
    assert [(one.topic, one.payload, one.retain) for one in client.published] == [(TOPICS.status, b"online", True)]
    client.receive(TOPICS.status, b"online")
    assert flags(monitor) == []
    client.receive(TOPICS.status, b"online")
    assert flags(monitor) == ["device.same_id"]
