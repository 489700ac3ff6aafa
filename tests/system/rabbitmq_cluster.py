"""The cluster of docs/fleet/rabbitmq: rights of devices, and no loss while nodes are killed, frozen and restarted."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from client_scene import TOPICS, append_events, wait_until
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from rabbitmq_fleet import Cluster
from rabbitmq_node import PORT

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
from edge_classifierd.mqtt.publisher import Publisher

if TYPE_CHECKING:
    from rabbitmq_node import Node

ACCOUNTS = {"porch": "of porch", "garden": "of garden", "home": "of home"}
EVENTS = 1500
KILL_S, FREEZE_S = 5.0, 15.0
EVENT = TOPICS.event("driveway")
DISCOVERY = "homeassistant/device/edge-classifierd_porch/config"


def account(cluster: Cluster, name: str, client_id: str) -> paho.Client:
    """Return a client with the account `name` that is not connected yet."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(name, ACCOUNTS[name])
    client.tls_set(str(cluster.ca_file))
    return client


class Consumer:
    """A persistent session, whose queue on the broker is a quorum queue; it is away while events are published."""

    def __init__(self, cluster: Cluster) -> None:
        self.numbers: list[int] = []
        self.topics: set[str] = set()
        self._subscribed = False
        self._client = account(cluster, "home", "consumer")
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe

    def subscribe(self, host: str) -> None:
        """Create the session and leave it."""
        self.connect(host)
        self._client.subscribe("edge-classifierd/#", 1)
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
        self.topics.add(message.topic)
        if message.topic == EVENT and message.payload.startswith(b'{"schema"'):
            self.numbers.append(json.loads(message.payload)["seq"])

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed = True


class Intruder:
    """The device `garden`, which tries to act as `porch`."""

    def __init__(self, cluster: Cluster, client_id: str = "edge-classifierd-garden-0a1b2c3d") -> None:
        self.acknowledged = self.closed = self.subscribed = False
        self.client = account(cluster, "garden", client_id)
        self.client.on_publish = lambda *_: setattr(self, "acknowledged", True)
        self.client.on_subscribe = self._on_subscribe
        self.client.on_disconnect = lambda *_: setattr(self, "closed", True)

    def connect(self, host: str) -> None:
        self.client.connect(host, PORT)
        self.client.loop_start()
        wait_until(self.client.is_connected)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_subscribe(
        self, _client: object, _userdata: object, _mid: int, reasons: list[object], _props: object
    ) -> None:
        self.subscribed = not any(getattr(one, "is_failure", False) for one in reasons)


def may_publish(cluster: Cluster, topic: str) -> bool:
    intruder = Intruder(cluster)
    intruder.connect(cluster.nodes[0].host)
    intruder.client.publish(topic, b"{}", 1)
    wait_until(lambda: intruder.acknowledged or intruder.closed)
    intruder.close()
    return intruder.acknowledged


def may_subscribe(cluster: Cluster, topic_filter: str) -> bool:
    intruder = Intruder(cluster)
    intruder.connect(cluster.nodes[0].host)
    intruder.client.subscribe(topic_filter, 1)
    wait_until(lambda: intruder.subscribed or intruder.closed)
    intruder.close()
    return intruder.subscribed


def check_rights(cluster: Cluster, consumer: Consumer) -> None:
    """A device may neither publish nor read as another one."""
    others = (EVENT, TOPICS.status, TOPICS.state("driveway"), TOPICS.reload_command, DISCOVERY)
    assert [one for one in others if may_publish(cluster, one)] == []
    own = [one.replace("porch", "garden") for one in others]
    assert [one for one in own if not may_publish(cluster, one)] == []
    filters = (EVENT, "edge-classifierd/+/+/event", "edge-classifierd/#", "#", TOPICS.status)
    assert [one for one in filters if may_subscribe(cluster, one)] == []
    assert may_subscribe(cluster, "edge-classifierd/garden/+/event")
    assert may_subscribe(cluster, "homeassistant/status")
    dying = Intruder(cluster)
    dying.client.will_set(TOPICS.status, b"offline", 1)
    dying.connect(cluster.nodes[0].host)
    dying.client.socket().close()  # type: ignore[union-attr]  # without DISCONNECT, so that the will is published
    dying.client.loop_stop()
    borrowed = Intruder(cluster, "edge-classifierd-porch-0a1b2c3d")  # the client id of another device
    borrowed.connect(cluster.nodes[0].host)
    borrowed.client.subscribe("homeassistant/status", 1)
    wait_until(lambda: borrowed.subscribed or borrowed.closed)
    assert not borrowed.subscribed, "the queue of another client id"
    borrowed.close()
    consumer.connect(cluster.nodes[0].host)
    wait_until(lambda: own[0] in consumer.topics)
    consumer.disconnect()
    assert not consumer.topics & set(others), consumer.topics
    print("  a device publishes and reads as itself only")


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


def restart_one_by_one(cluster: Cluster, outbox: Outbox) -> None:
    """What an upgrade does, as documented: each node waits until the others hold a majority of every queue."""
    for node in cluster.nodes:
        node.control("await_online_quorum_plus_one", "-t", "120", program="rabbitmq-upgrade")
        append_events(outbox, 50)
        node.stop()
        append_events(outbox, 50)
        node.start()
        append_events(outbox, 50)
    print("  all nodes restarted, one by one", flush=True)


def check_delivery(cluster: Cluster, consumer: Consumer, work: Path) -> None:
    clock = SystemClock()
    section = MqttSection.model_validate({**cluster.section, "username": "porch", "password": ACCOUNTS["porch"]})
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
        used = next(node for node in cluster.nodes if node.host == client.endpoint.host)
        fail_and_return(used, how, client, outbox)
        append_events(outbox, 100)
    restart_one_by_one(cluster, outbox)
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
    cluster = Cluster(root, work, Path(__file__).resolve().parents[2], ACCOUNTS)
    try:
        cluster.start()
        consumer = Consumer(cluster)
        consumer.subscribe(cluster.nodes[0].host)
        queues = cluster.nodes[0].control("list_queues", "name", "type").split()
        assert queues[queues.index("mqtt-subscription-consumerqos1") + 1] == "quorum", queues
        users = cluster.nodes[0].control("list_users")
        assert "guest" not in users, users
        check_rights(cluster, consumer)
        check_delivery(cluster, consumer, work)
    finally:
        cluster.close()
    print("RabbitMQ cluster: rights held; nodes killed, frozen and restarted in turn, nothing lost")


if __name__ == "__main__":
    main()
