"""1,500 events to a quorum queue of a three-node RabbitMQ cluster, while nodes are killed and frozen in turn."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from pathlib import Path

from client_scene import TOPICS, append_events, wait_until
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from rabbitmq_node import PORT, Node

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
from edge_classifierd.mqtt.publisher import Publisher

EVENTS = 1500
KILL_S, FREEZE_S = 5.0, 15.0
EVENT = TOPICS.event("driveway")


class Consumer:
    """A persistent session, whose queue on the broker is a quorum queue; it is away while events are published."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._subscribed = False
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="consumer", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe

    def subscribe(self, host: str) -> None:
        """Create the session and leave it."""
        self.connect(host)
        self._client.subscribe(EVENT, 1)
        wait_until(lambda: self._subscribed)
        self.disconnect()

    def connect(self, host: str) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        self._client.connect(host, PORT, clean_start=False, properties=properties)
        self._client.loop_start()

    def disconnect(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        self.numbers.append(json.loads(message.payload)["seq"])

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed = True


def fail_and_return(node: Node, how: str, client: MqttClient, outbox: Outbox) -> None:
    """Kill or freeze the node that the client uses, and let it return once the client has left it."""
    before, start_s = client.connections, time.monotonic()
    node.kill() if how == "kill" else node.signal(signal.SIGSTOP)
    limit_s = KILL_S if how == "kill" else FREEZE_S
    while not (client.connected and client.connections > before and client.endpoint.host != node.host):
        append_events(outbox)
        assert time.monotonic() - start_s < limit_s, f"{how} of {node.name}: {client.status_sentence}"
        time.sleep(0.05)
    elapsed_s = time.monotonic() - start_s
    print(f"  {how} of {node.name}: connected to {client.endpoint} after {elapsed_s:.1f} s", flush=True)
    if how == "kill":
        node.start()
    else:
        time.sleep(3.0)
        node.signal(signal.SIGCONT)
    time.sleep(5.0)


def check(nodes: list[Node], work: Path) -> None:
    clock = SystemClock()
    consumer = Consumer()
    consumer.subscribe(nodes[0].host)
    print("  " + nodes[0].control("list_queues", "name", "type").strip().replace("\n", " "))
    section = MqttSection.model_validate({"host": [node.host for node in nodes], "port": PORT})
    client = MqttClient(section, topics=TOPICS, clock=clock)
    monitor = OwnTopicMonitor(client, TOPICS, clock)
    outbox = Outbox(work / "outbox.sqlite3", topic=lambda _: EVENT, clock=clock)
    publisher = Publisher(outbox, client, clock, monitor=monitor)
    publisher.start()
    client.start()
    wait_until(lambda: client.connected)
    append_events(outbox, 100)
    for how in ("kill", "freeze", "kill", "freeze", "kill", "freeze"):
        time.sleep(4.0)
        used = next(node for node in nodes if node.host == client.endpoint.host)
        fail_and_return(used, how, client, outbox)
        append_events(outbox, 100)
    append_events(outbox, max(0, EVENTS - outbox.last_position))
    total = outbox.last_position
    wait_until(lambda: outbox.depth == 0, 120)
    assert client.refusals.sentences == (), client.refusals.sentences
    consumer.connect(client.endpoint.host)
    wait_until(lambda: len(set(consumer.numbers)) >= total, 60)
    first = list(dict.fromkeys(consumer.numbers))
    assert first == sorted(first), "in order"
    assert first == list(range(1, total + 1)), "nothing missing"
    repeated = len(consumer.numbers) - total
    print(f"  {total} events, none missing, in order; {repeated} repeated; {client.connections} connections")
    consumer.disconnect()
    publisher.stop()
    client.stop()
    outbox.close()


def main() -> None:
    root, work = Path(sys.argv[1]), Path(sys.argv[2])
    logging.basicConfig(level=logging.WARNING, format="  %(message)s")
    nodes = [Node(root, work, number, "mqtt.durable_queue_type = quorum\n") for number in (1, 2, 3)]
    try:
        for node in nodes:
            node.start()
        for node in nodes[1:]:
            for command in (["stop_app"], ["join_cluster", nodes[0].name], ["start_app"]):
                node.control(*command)
        nodes[0].control("enable_feature_flag", "all")
        check(nodes, work)
    finally:
        for node in nodes:
            node.kill()
    print("RabbitMQ cluster: nodes killed and frozen in turn, nothing lost")


if __name__ == "__main__":
    main()
