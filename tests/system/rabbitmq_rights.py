"""Rights refused one by one, a size limit, a restart in mid-stream and retained messages, with RabbitMQ 4."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from client_scene import TOPICS, append_events, wait_until
from rabbitmq_node import PORT, single_node

from edge_classifierd.backoff import Backoff
from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.command_queue import CommandQueue
from edge_classifierd.mqtt.message import Message
from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.retained_topics import RetainedTopics

if TYPE_CHECKING:
    from rabbitmq_node import Node

    from edge_classifierd.mqtt.message import Incoming

DISCOVERY = "homeassistant/device/edge-classifierd_porch/config"
EVENT, IMAGE, STATE = TOPICS.event("driveway"), TOPICS.image("driveway"), TOPICS.state("driveway")
COMMANDS = [TOPICS.reload_command, *(f"{TOPICS.base}/{one}" for one in ("+/+/set", "+/+/threshold/set"))]


class Device:
    """The delivery part of the daemon."""

    def __init__(self, folder: Path, protocol: object) -> None:
        clock = SystemClock()
        section = {"host": "127.0.0.1", "port": PORT, "username": "porch", "password": "secret", "protocol": protocol}
        self.client = MqttClient(
            MqttSection.model_validate(section), topics=TOPICS, clock=clock, backoff=Backoff(0.2, 2.0)
        )
        self.monitor = OwnTopicMonitor(self.client, TOPICS, clock)
        self.states = RetainedTopics(self.client, clock)
        self.commands = CommandQueue(self.client, TOPICS, {"driveway": frozenset({"cat"})}, clock)
        self.outbox = Outbox(folder / f"{time.monotonic_ns()}.sqlite3", topic=lambda _: EVENT, clock=clock)
        self.publisher = Publisher(self.outbox, self.client, clock, monitor=self.monitor)
        self.states.set(DISCOVERY, bytes(9000))
        self.states.set(STATE, "{}")
        self.publisher.start()
        self.client.start()

    def close(self) -> None:
        self.publisher.stop()
        self.client.stop()
        self.outbox.close()


class Observer:
    """A client with all rights that records messages."""

    def __init__(self) -> None:
        section = MqttSection.model_validate({"host": "127.0.0.1", "port": PORT, "client_id": "observer"})
        self.received: list[Incoming] = []
        self.client = MqttClient(section, topics=TOPICS, clock=SystemClock(), announce=False)
        self.client.subscribe("#", self.received.append)
        self.client.start()
        wait_until(lambda: self.client.publish(Message("ready", b"")) and (time.sleep(0.1) or self.received))


def rights(node: Node, write: str = ".*", read: str = ".*") -> None:
    node.control("set_topic_permissions", "-p", "/", "porch", "amq.topic", write, read)


def without(topic: str) -> str:
    """Return a pattern for all topics but one, as RabbitMQ writes them."""
    return "^(?!" + topic.replace("/", r"\.").replace("+", r"\*") + "$).*"


def check_refused(node: Node, folder: Path, protocol: object, topic: str, *, reading: bool) -> None:
    """Refuse one topic: it is named, at most three connections are lost, everything else is delivered."""
    if reading:
        rights(node, read=without(topic))
    else:
        rights(node, write=without(topic))
    observer = Observer()
    device = Device(folder, protocol)
    wait_until(lambda: device.client.connected)
    append_events(device.outbox, 3)
    device.states.set(IMAGE, bytes(12_000), qos=0)
    wait_until(lambda: any(f" {topic} " in f"{one} ".replace(";", " ") for one in device.client.refusals.sentences), 40)
    if topic != EVENT:
        wait_until(lambda: device.outbox.depth == 0, 40)
    delivered = {DISCOVERY, EVENT, IMAGE, STATE} - {topic}
    refused = device.client.refusals.sentences
    wait_until(lambda: delivered <= {one.topic for one in observer.received}, 40)
    assert len(refused) == 1, refused
    assert device.client.connections <= 4, device.client.connections
    if topic not in COMMANDS:
        command = Message(f"{TOPICS.base}/driveway/enabled/set", b"OFF", qos=1)
        wait_until(lambda: observer.client.publish(command) and (time.sleep(0.1) or device.commands.take()))
    if topic == EVENT:
        assert device.outbox.depth == 3, "nothing is lost"
    print(f"  {protocol}: {topic} refused; {device.client.connections - 1} connections lost; {refused[0]}")
    device.close()
    observer.client.stop()
    rights(node)


def check_restart(node: Node, folder: Path, protocol: object) -> None:
    """300 events while the broker's application restarts: nothing is missing."""
    device = Device(folder, protocol)
    observer = Observer()
    for number in range(300):
        append_events(device.outbox)
        time.sleep(0.01)
        if number == 100:
            node.control("stop_app")
        if number == 200:
            node.control("start_app")
    wait_until(lambda: device.outbox.depth == 0, 60)
    assert device.client.refusals.sentences == (), device.client.refusals.sentences
    print(f"  {protocol}: restart in mid-stream; {device.client.connections} connections")
    device.close()
    observer.client.stop()


def check_limit(folder: Path, protocol: object) -> None:
    """A picture above the broker's limit is left out, and events continue."""
    device = Device(folder, protocol)
    wait_until(lambda: device.client.connected)
    append_events(device.outbox)
    wait_until(lambda: device.outbox.depth == 0)
    device.states.set(IMAGE, bytes(100_000), qos=0)
    wait_until(lambda: device.client.refusals.sentences)
    append_events(device.outbox)
    wait_until(lambda: device.outbox.depth == 0)
    (sentence,) = device.client.refusals.sentences
    assert IMAGE in sentence
    assert "100,000 bytes" in sentence
    print(f"  {protocol}: picture above the limit; {device.client.connections - 1} connections lost; {sentence}")
    device.close()


def main() -> None:
    root, work = Path(sys.argv[1]), Path(sys.argv[2])
    logging.basicConfig(level=logging.ERROR)
    node = single_node(root, work, "mqtt.max_packet_size_authenticated = 65536\n")
    try:
        node.start()
        node.control("add_user", "porch", "secret")
        node.control("set_permissions", "-p", "/", "porch", ".*", ".*", ".*")
        for protocol in ("auto", "3.1.1"):
            for topic in (EVENT, IMAGE, DISCOVERY):
                check_refused(node, work, protocol, topic, reading=False)
            for topic in COMMANDS:
                check_refused(node, work, protocol, topic, reading=True)
            check_restart(node, work, protocol)
            check_limit(work, protocol)
    finally:
        node.kill()
    print("RabbitMQ: all rights, one by one, and a restart")


if __name__ == "__main__":
    main()
