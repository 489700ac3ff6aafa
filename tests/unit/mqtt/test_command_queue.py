from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_classifierd.mqtt.command_queue import CommandQueue
from edge_classifierd.mqtt.commands import SetEnabled
from edge_classifierd.mqtt.message import Incoming
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

TOPICS = Topics("edge-classifierd", "porch")
WATCHES = {"driveway": frozenset({"dog"})}


class FakeClock:
    """A clock that the test moves."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


class FakeClient:
    """Replaces the client: records the handlers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Incoming], None]] = {}

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None]) -> None:
        self.handlers[topic_filter] = handler


def message(topic: str, payload: bytes) -> Incoming:
    return Incoming(f"{TOPICS.base}/{topic}", payload, retained=False)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def commands(client: FakeClient, clock: FakeClock) -> CommandQueue:
    return CommandQueue(client, TOPICS, WATCHES, clock)  # type: ignore[arg-type]


def test_refusal_is_logged_once_a_minute_for_each_topic(
    commands: CommandQueue, client: FakeClient, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    handler = client.handlers[f"{TOPICS.base}/+/+/set"]
    for _ in range(50):
        handler(message("driveway/enabled/set", b"maybe"))
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1
    clock.now_s = 61.0
    handler(message("driveway/enabled/set", b"maybe"))
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 2
    assert commands.take() is None


def test_flood_on_invented_topics_is_logged_at_most_64_times_a_minute(
    client: FakeClient, clock: FakeClock, commands: CommandQueue, caplog: pytest.LogCaptureFixture
) -> None:
    handler = client.handlers[f"{TOPICS.base}/+/+/set"]
    for minute in (0.0, 61.0):
        clock.now_s = minute
        caplog.clear()
        for count in range(1000):
            handler(message(f"x{count}/enabled/set", b"ON"))
        assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 64
    assert commands.take() is None


def test_flood_is_limited_to_the_rate(commands: CommandQueue, client: FakeClient, clock: FakeClock) -> None:
    handler = client.handlers[f"{TOPICS.base}/+/+/set"]
    taken = []
    for second in range(4):
        clock.now_s = float(second)
        for _ in range(500):
            handler(message("driveway/enabled/set", b"ON"))
        taken.append(0)
        while commands.take() is not None:
            taken[-1] += 1
    assert taken == [40, 20, 20, 20]
    clock.now_s = 3.1
    handler(message("driveway/enabled/set", b"OFF"))
    assert commands.take() == SetEnabled("driveway", False)


def test_queue_is_bounded(commands: CommandQueue, client: FakeClient, clock: FakeClock) -> None:
    for second in range(10):
        clock.now_s = float(second)
        for _ in range(20):
            client.handlers[f"{TOPICS.base}/+/+/set"](message("driveway/enabled/set", b"ON"))
    taken = 0
    while commands.take() is not None:
        taken += 1
    assert taken == 64
