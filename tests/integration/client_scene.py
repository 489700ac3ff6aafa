"""The client of integration tests, and what it retained on a broker."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

from edge_classifierd.clock import SystemClock
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.mqtt.client import MqttClient


class ShiftedClock(SystemClock):
    """The system's clock plus a time that a test skips."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


STATUS = "edge-classifierd/porch/status"
TOPICS = Topics("edge-classifierd", "porch")


def wait_until(condition: Callable[[], Any], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def failure_sentence(client: MqttClient) -> str:
    """Start the client and return why it does not connect."""
    client.start()
    wait_until(lambda: client.status_sentence.startswith("reconnecting"))
    assert not client.connected
    return client.status_sentence


def retained(port: int) -> list[tuple[str, bytes]]:
    """Return the retained messages of a broker."""
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", "#", "-v", "-W", "1"]
    lines = subprocess.run(command, capture_output=True, check=False).stdout.splitlines()
    return [(line.split(b" ", 1)[0].decode(), line.split(b" ", 1)[1]) for line in lines]


def publish(port: int, topic: str, payload: str, *more: str) -> None:
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", topic, "-m", payload, *more]
    subprocess.run(command, check=True)


def append_events(outbox: Outbox, count: int = 1) -> None:
    """Append events of the pipeline `driveway`."""
    draft = EventDraft(
        type=EventType.DETECTED, device="porch", pipeline="driveway", watch="dog", label="dog", confidence=0.8, top=(),
        time=SystemClock().utc(), clock_synchronised=True, inference_ms=5.0,
        model=ModelIdentity("efficientnet_lite0_int8", "0" * 64, "ai-edge-litert 2.3.0", "cpu"),
    )  # fmt: skip
    for _ in range(count):
        outbox.append([draft])
