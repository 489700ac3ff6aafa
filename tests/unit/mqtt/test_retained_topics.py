"""Retained topics: published when they change, at a limited rate, and all again with a new connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from edge_classifierd.mqtt.message import PublishOutcome
from edge_classifierd.mqtt.refusals import Refusals
from edge_classifierd.mqtt.retained_topics import RetainedTopics

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Listener, Message


class FakeNetwork:
    """Replaces the client and the clock."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[Message] = []
        self.now_s = 100.0
        self.refusals = Refusals(cast("Clock", self))

    def publish(self, message: Message) -> bool:
        if self.connected:
            self.sent.append(message)
        return self.connected

    def add_listener(self, listener: Listener) -> None:
        pass

    def monotonic(self) -> float:
        return self.now_s

    def answer(self, outcome: PublishOutcome, *topics: str) -> None:
        """Answer the latest message on each topic."""
        for topic in topics:
            message = next(one for one in reversed(self.sent) if one.topic == topic)
            assert message.on_outcome is not None
            if outcome is PublishOutcome.REFUSED:
                self.refusals.add_message(topic, 1, "not authorized", broker="b:1883", closes=False)
            elif outcome is PublishOutcome.DELIVERED:
                self.refusals.remove_message(topic)
            message.on_outcome(outcome, "not authorized")

    def take(self) -> list[tuple[str, bytes]]:
        taken = [(one.topic, one.payload) for one in self.sent]
        self.sent.clear()
        return taken


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def states(network: FakeNetwork) -> RetainedTopics:
    return RetainedTopics(cast("MqttClient", network), cast("Clock", network))


def test_state_is_published_retained_at_once_and_only_when_it_changes(
    states: RetainedTopics, network: FakeNetwork
) -> None:
    states.set("a", "ON")
    assert network.sent[0].retain
    assert network.sent[0].qos == 1
    assert network.take() == [("a", b"ON")]
    network.now_s += 10
    states.set("a", "ON")
    states.tick()
    assert network.take() == []
    states.set("a", "OFF")
    assert network.take() == [("a", b"OFF")]


def test_quick_changes_become_one_message_with_the_latest_value(states: RetainedTopics, network: FakeNetwork) -> None:
    for count in range(10):
        states.set("a", str(count))
        network.now_s += 0.01
    assert network.take() == [("a", b"0")]
    states.tick()
    assert network.take() == []
    network.now_s += 0.3
    states.tick()
    assert network.take() == [("a", b"9")]
    states.tick()
    assert network.take() == []


def test_value_set_while_disconnected_is_published_later(states: RetainedTopics, network: FakeNetwork) -> None:
    network.connected = False
    states.set("a", "1")
    states.set("b", "2")
    states.set("a", "3")
    network.connected = True
    states.connected()
    assert network.take() == [("a", b"3"), ("b", b"2")]


def test_expiring_state_is_published_again_before(states: RetainedTopics, network: FakeNetwork) -> None:
    states.set("a", "1", expiry_s=60)
    assert network.sent[0].expiry_s == 60
    network.take()
    network.now_s += 29
    states.tick()
    assert network.take() == []
    network.now_s += 2
    states.tick()
    assert network.take() == [("a", b"1")]


def test_removed_state_is_cleared_on_the_broker_and_not_published_again(
    states: RetainedTopics, network: FakeNetwork
) -> None:
    states.set("a", "1")
    states.remove("a")
    states.connected()
    assert network.take() == [("a", b"1"), ("a", b"")]


def test_state_of_an_earlier_start_can_be_removed(states: RetainedTopics, network: FakeNetwork) -> None:
    states.remove("image")
    assert network.take() == [("image", b"")]


def test_removal_lost_with_the_connection_is_repeated(states: RetainedTopics, network: FakeNetwork) -> None:
    for topic in ("a", "b", "c"):
        states.remove(topic)
    network.answer(PublishOutcome.LOST, "a")
    network.answer(PublishOutcome.DELIVERED, "c")
    removal = network.sent[1]
    network.take()
    states.set("b", "1")
    assert removal.on_outcome is not None
    removal.on_outcome(PublishOutcome.LOST, "")  # too late: there is a new value
    states.connected()
    states.tick()
    network.answer(PublishOutcome.DELIVERED, "a")
    assert network.take() == [("b", b"1"), ("b", b"1"), ("a", b"")]
    states.tick()
    assert network.take() == []


def test_refused_state_is_logged_once_and_retried_every_ten_minutes(
    states: RetainedTopics, network: FakeNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    states.set("a", "1")
    for reconnects in (False, True, False):
        network.answer(PublishOutcome.REFUSED, "a")
        assert network.take() == [("a", b"1")]
        if reconnects:
            states.connected()
        network.now_s += 599
        states.tick()
        assert network.take() == []
        network.now_s += 2
        states.tick()
    assert caplog.text.count("refuses messages on a (not authorized") == 1
    network.answer(PublishOutcome.DELIVERED, "a")
    network.now_s += 1
    states.set("a", "2")
    network.answer(PublishOutcome.REFUSED, "a")
    assert caplog.text.count("refuses messages on a") == 2


def test_removal_can_be_delayed_and_is_cancelled_by_a_new_value(states: RetainedTopics, network: FakeNetwork) -> None:
    for topic in ("a", "b"):
        states.set(topic, "1")
        states.remove(topic, after_s=5)
    states.tick()
    states.set("b", "2")
    assert network.take() == [("a", b"1"), ("b", b"1"), ("b", b"2")]
    network.now_s += 5
    states.tick()
    network.now_s += 60
    states.tick()
    assert network.take() == [("a", b"")]


def test_removal_without_a_connection_is_published_with_the_next(states: RetainedTopics, network: FakeNetwork) -> None:
    states.set("a", "1")
    network.connected = False
    states.remove("a")
    network.connected = True
    network.take()
    states.connected()
    states.tick()
    assert network.take() == [("a", b"")]


def test_repeat_publishes_all_values_again(states: RetainedTopics, network: FakeNetwork) -> None:
    states.set("a", "1")
    states.set("b", "2")
    network.take()
    states.repeat()
    assert network.take() == [("a", b"1"), ("b", b"2")]
