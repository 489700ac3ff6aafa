"""The publisher between a real outbox and a real mosquitto, when the disk or the broker refuses for a while."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from broker_process import wait_until

from edge_classifierd.backoff import Backoff
from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPICS = Topics("edge-classifierd", "porch")


class ShiftedClock(SystemClock):
    """The system's, ahead by what the test skips."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Delivery:
    """Outbox, client and publisher."""

    def __init__(self, folder: Path, port: int) -> None:
        self.clock = ShiftedClock()
        self.path = folder / "outbox.sqlite3"
        self.outbox = Outbox(self.path, topic=lambda event: TOPICS.event(event.pipeline), clock=self.clock)
        section = MqttSection.model_validate({"host": "127.0.0.1", "port": port})
        self.client = MqttClient(section, topics=TOPICS, clock=self.clock, backoff=Backoff(0.05, 0.5))
        self.publisher = Publisher(self.outbox, self.client, self.clock)

    def append(self, count: int) -> None:
        draft = EventDraft(
            type=EventType.DETECTED, device="porch", pipeline="driveway", watch="dog", label="dog", confidence=0.8,
            top=(), time=datetime.now(UTC), clock_synchronised=True, inference_ms=5.0,
            model=ModelIdentity("efficientnet_lite0_int8", "0" * 64, "ai-edge-litert 2.3.0", "cpu"),
        )  # fmt: skip
        self.outbox.append([draft] * count)

    def start(self) -> None:
        self.publisher.start()
        self.client.start()

    def stop(self) -> None:
        self.publisher.stop()
        self.client.stop(1.0)
        self.outbox.close()


@pytest.fixture
def delivery(tmp_path: Path, broker: Any) -> Iterator[Delivery]:
    made = Delivery(tmp_path, broker.port)
    yield made
    made.stop()


class DeadDisk:
    """Every read and write of the database's open files fails with an I/O error until `mend`."""

    def __init__(self, path: Path) -> None:
        self._kept: dict[int, int] = {}
        nowhere = os.open(path.parent, os.O_PATH)
        files = {str(path), f"{path}-wal"}
        links = list(Path("/proc/self/fd").iterdir())
        for descriptor in [int(link.name) for link in links if link.is_symlink() and str(link.readlink()) in files]:
            self._kept[descriptor] = os.dup(descriptor)
            os.dup2(nowhere, descriptor, inheritable=False)
        os.close(nowhere)
        assert len(self._kept) == 2

    def mend(self) -> None:
        for descriptor, kept in self._kept.items():
            os.dup2(kept, descriptor, inheritable=False)
            os.close(kept)


def test_events_on_a_failing_disk_are_delivered_when_it_works_again(
    delivery: Delivery, broker: Any, subscribe: Any
) -> None:
    subscriber = subscribe(broker.port)
    delivery.append(3000)  # more than SQLite keeps in memory
    disk = DeadDisk(delivery.path)
    delivery.append(5)
    delivery.start()
    wait_until(lambda: not delivery.outbox.readable)
    disk.mend()
    delivery.clock.ahead_s += 6
    wait_until(lambda: set(subscriber.first) == set(range(1, 3001)), 15, "what is on the disk")
    wait_until(lambda: len(subscriber.unnumbered) == 5, 15, "what was in memory")
    assert list(subscriber.first) == sorted(subscriber.first)
    wait_until(lambda: delivery.outbox.depth == 0)
    assert delivery.client.connections == 1


class StoppedClock(SystemClock):
    """Stands still, but for what the test skips."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return self.ahead_s


def test_what_follows_an_event_waits_for_its_acknowledgement(delivery: Delivery) -> None:
    delivery.publisher = Publisher(delivery.outbox, delivery.client, StoppedClock())
    delivery.client.start()
    wait_until(lambda: delivery.client.connected)
    delivered: list[int] = []
    delivery.append(1)
    for _ in range(2):
        delivery.publisher.after_events(lambda: delivered.append(delivery.publisher.delivered))
    delivery.publisher.start()
    wait_until(lambda: len(delivered) == 2)
    assert delivered == [1, 1]


def test_what_follows_an_event_does_not_wait_long_for_a_broker_that_does_not_answer(
    delivery: Delivery, broker: Any
) -> None:
    clock = StoppedClock()
    delivery.publisher = Publisher(delivery.outbox, delivery.client, clock)
    delivery.client.start()
    wait_until(lambda: delivery.client.connected)
    broker.process.send_signal(signal.SIGSTOP)
    try:
        made: list[tuple[int, bool]] = []
        delivery.append(1)
        delivery.publisher.after_events(lambda: made.append((delivery.publisher.delivered, delivery.client.connected)))
        clock.ahead_s = 0.1
        delivery.publisher.start()
        wait_until(lambda: made)
        assert made == [(0, True)]
    finally:
        broker.process.send_signal(signal.SIGCONT)
