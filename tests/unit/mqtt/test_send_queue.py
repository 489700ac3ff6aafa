"""The queue: order, limits, and which message or subscription the broker closes the connection over."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from edge_classifierd.mqtt.connection import Connection, Subscription
from edge_classifierd.mqtt.connection_errors import ConnectionFailure
from edge_classifierd.mqtt.message import Message, PublishOutcome
from edge_classifierd.mqtt.refusals import Refusals
from edge_classifierd.mqtt.send_queue import SendQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.clock import Clock

BY_BROKER = ConnectionFailure("b:1883: lost; see its log", unexplained=True, by_broker=True)
NETWORK = ConnectionFailure("b:1883: timed out; see the network")


class FakeConnection:
    """A connection that records what is sent, until the test ends it."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.sent: list[Message | Subscription] = []
        self.unproven: list[Message | Subscription] = []
        self.refused: tuple[float, Message | Subscription] | None = None
        self.acknowledged: tuple[float, Message] | None = None
        self.failure: ConnectionFailure | None = None
        self.sent_s = float("-inf")
        self.quota = 100
        self.writable = True

    @property
    def awaiting_answer(self) -> bool:
        return bool(self.unproven)

    @property
    def in_flight(self) -> int:
        return len(self.unproven)

    def send(self, message: Message) -> None:
        self._record(message)

    def subscribe(self, filters: Sequence[str], _not_local: Sequence[str]) -> None:
        self._record(Subscription(tuple(filters)))

    def _record(self, item: Message | Subscription) -> None:
        self.sent.append(item)
        self.unproven.append(item)
        self.sent_s = self._clock.now_s


class FakeClock:
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Scene:
    """A queue, and connections that a broker ends or answers."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.refusals = Refusals(cast("Clock", self.clock))
        self.queue = SendQueue(self.refusals, cast("Clock", self.clock))
        self.connection = FakeConnection(self.clock)
        self.outcomes: list[tuple[str, PublishOutcome]] = []

    def push(self, *topics: str, size: int = 10, qos: int = 1) -> None:
        for topic in topics:

            def record(outcome: PublishOutcome, _reason: str, topic: str = topic) -> None:
                self.outcomes.append((topic, outcome))

            self.queue.push(Message(topic, bytes(size), qos=qos, on_outcome=record))

    def send(self) -> list[str]:
        """Send what may be sent; return the topics and filters sent since the connection began."""
        self.queue.send(cast("Connection", self.connection), ())
        return [one.topic if isinstance(one, Message) else "+".join(one.filters) for one in self.connection.sent]

    def answer(self, reason: str | None = None) -> None:
        """Accept everything that is unanswered, or refuse it with a reason."""
        for item in self.connection.unproven:
            if isinstance(item, Subscription):
                for one in item.filters:
                    self.queue.record_subscription(one, reason, "b:1883")
            else:
                outcome = PublishOutcome.DELIVERED if reason is None else PublishOutcome.REFUSED
                self.queue.record_outcome(item, outcome, reason or "", "b:1883")
                self.connection.acknowledged = (self.clock.now_s, item)
        self.connection.unproven = []

    def end(self, failure: ConnectionFailure = BY_BROKER) -> bool:
        """End the connection and begin the next one; whether the queue found the cause."""
        self.connection.failure = failure
        self.queue.clear()
        found = self.queue.record_end(cast("Connection", self.connection), "b:1883")
        self.connection = FakeConnection(self.clock)
        return found


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_messages_are_sent_in_order_up_to_the_quota(scene: Scene) -> None:
    scene.connection.quota = 2
    scene.push("a", "b", "c")
    assert scene.send() == ["a", "b"]
    scene.answer()
    assert scene.send() == ["a", "b", "c"]


def test_after_a_drop_everything_is_sent_alone_and_acknowledged(scene: Scene) -> None:
    scene.push("a", "b")
    scene.send()
    scene.end()
    scene.queue.subscribe(cast("Connection", scene.connection), ["f", "g"], ())
    scene.push("a", "b", qos=0)
    seen = []
    for _ in range(4):
        seen.append(scene.send()[-1])
        assert len(scene.connection.unproven) == 1
        scene.answer()
    assert seen == ["f", "g", "a", "b"]
    assert [one.qos for one in scene.connection.sent if isinstance(one, Message)] == [1, 1]


def test_refused_message_that_was_never_accepted_is_found_with_the_second_drop(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    for topics in (("a", "bad", "b"), ("a", "bad", "b")):
        scene.push(*topics)
        scene.send()
        scene.answer() if scene.queue.careful else None
        scene.send()
        found = scene.end()
    assert found
    assert "over a message on bad (10 bytes); allow the topic" in caplog.text
    scene.push("a", "bad", "b")
    for _ in range(3):
        scene.send()
        scene.answer()
    assert scene.send() == ["a", "b"]
    assert ("bad", PublishOutcome.REFUSED) in scene.outcomes


def test_refused_message_is_tried_again_alone_after_ten_minutes(scene: Scene) -> None:
    scene.refusals.add_message("bad", 10, "", broker="b:1883", closes=True)
    scene.clock.now_s += 599
    scene.push("bad")
    assert scene.send() == []
    scene.clock.now_s += 2
    scene.push("a", "bad", "b")
    assert scene.send() == ["a"]
    scene.answer()
    assert scene.send() == ["a", "bad"]
    assert scene.send() == ["a", "bad"], "nothing else before its answer"
    scene.answer()
    assert scene.send() == ["a", "bad", "b"]
    assert scene.refusals.sentences == ()


def test_topic_that_was_accepted_before_is_left_out_only_if_two_connections_end_with_it(scene: Scene) -> None:
    scene.push("event")
    scene.send()
    scene.answer()
    for expected in (False, True):
        scene.push("event")
        scene.send()
        assert scene.end() is expected
    assert scene.refusals.waits("event", 10)


def test_restarts_of_the_broker_in_mid_stream_leave_nothing_out(scene: Scene) -> None:
    for _ in range(20):
        for _ in range(3):
            scene.push("event")
            scene.send()
            scene.answer()
        scene.push("event")
        scene.send()
        assert not scene.end()
    assert scene.refusals.sentences == ()


def test_failures_of_the_network_leave_nothing_out(scene: Scene) -> None:
    for _ in range(5):
        scene.push("a")
        scene.send()
        assert not scene.end(NETWORK)
    assert not scene.queue.careful


def test_large_message_is_left_out_with_the_first_drop(scene: Scene) -> None:
    scene.push("small")
    scene.send()
    scene.answer()
    scene.push("health", qos=0)
    scene.push("image", size=100_000, qos=0)
    scene.push("state")
    scene.send()
    assert scene.end()
    assert "image (100,000 bytes)" in scene.refusals.sentences[0]


def test_large_message_is_not_left_out_if_a_message_before_it_is_unanswered(scene: Scene) -> None:
    scene.push("event")
    scene.push("image", size=100_000, qos=0)
    scene.send()
    assert not scene.end()
    scene.push("event")
    scene.send()
    assert scene.end()
    assert "event (10 bytes)" in scene.refusals.sentences[0]


def test_message_that_is_refused_with_a_reason_before_the_drop_is_left_out(scene: Scene) -> None:
    scene.push("bad")
    scene.send()
    bad = scene.connection.unproven[0]
    scene.answer("not authorized")
    scene.connection.refused = (scene.clock.now_s, bad)
    scene.push("innocent")
    scene.send()
    assert scene.end()
    assert len(scene.refusals.sentences) == 1
    assert "bad (not authorized" in scene.refusals.sentences[0]


def test_topic_whose_acknowledgement_ends_three_connections_is_left_out(scene: Scene) -> None:
    for expected in (False, False, True):
        scene.push("event")
        scene.send()
        scene.answer()
        assert scene.end() is expected
    assert scene.refusals.waits("event", 10)


def test_refused_subscription_is_left_out_and_tried_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    connection = cast("Connection", scene.connection)
    scene.queue.subscribe(connection, ["good", "bad"], ())
    scene.end()
    scene.queue.subscribe(cast("Connection", scene.connection), ["good", "bad"], ())
    scene.send()
    scene.answer()
    scene.send()
    assert scene.end()
    assert "over the subscription to bad; check its ACL" in caplog.text
    scene.queue.subscribe(cast("Connection", scene.connection), ["good", "bad"], ())
    assert scene.send() == ["good"]
    scene.answer()
    scene.clock.now_s += 601
    assert scene.send() == ["good", "bad"]
    scene.answer()
    assert scene.refusals.sentences == ()


def test_smaller_message_is_sent_at_once_where_the_limit_is_known(scene: Scene) -> None:
    scene.refusals.add_message("image", 5000, "larger than the broker's maximum packet size", broker="b", closes=False)
    assert scene.refusals.waits("image", 5000)
    assert not scene.refusals.waits("image", 4999)
