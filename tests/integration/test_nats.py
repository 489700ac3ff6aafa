"""The configuration that docs/fleet/nats.md prints, on a real nats-server."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from broker_process import free_port
from client_scene import TOPICS, append_events, wait_until
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_classifierd.backoff import Backoff
from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.message import Message, PublishOutcome
from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
from edge_classifierd.mqtt.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENT = TOPICS.event("driveway")
BINARY = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")

pytestmark = pytest.mark.skipif(BINARY is None, reason="nats-server is not installed")


class Nats:
    """The server, which can be killed and started again."""

    def __init__(self, folder: Path, documented: str) -> None:
        self.port = free_port()
        self.certificate = folder / "node.crt"
        self.section = {"host": "127.0.0.1", "port": self.port, "tls": {"ca_file": str(self.certificate)}}
        self._file = folder / "nats-server.conf"
        replaced = {
            "port: 4222": f"host: 127.0.0.1\nport: {free_port()}",
            "port: 8883": f"host: 127.0.0.1\nport: {self.port}",
            "/var/lib/nats": f"{folder}/store",
            "/etc/nats": str(folder),
            "…": "word",
        }
        for one, here in replaced.items():
            assert one in documented, one
            documented = documented.replace(one, here)
        self._file.write_text(documented)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        about = ("-subj", "/CN=fleet1", "-addext", "subjectAltName=IP:127.0.0.1")
        command = ["openssl", "req", "-x509", *key, "-keyout", "node.key", "-out", "node.crt", *about]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert BINARY is not None
        log = self._file.with_suffix(".log")
        with log.open("ab") as output:
            self.process = subprocess.Popen([BINARY, "-c", str(self._file)], stdout=output, stderr=output)
        wait_until(self._listens)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def consumer(self, topic_filter: str, client_id: str, name: str = "home") -> Consumer:
        return Consumer(self, topic_filter, client_id, name)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
            return True
        return False


class Consumer:
    """A client with a session that outlives its connection."""

    def __init__(self, nats: Nats, topic_filter: str, client_id: str, name: str) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.subscribed: list[bool] = []
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv311, clean_session=False
        )
        self._client.username_pw_set(name, "word")
        self._client.tls_set(str(nats.certificate))
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = lambda _client, _data, one: self.received.append((one.topic, bytes(one.payload)))
        self._client.on_subscribe = lambda *given: self.subscribed.append(not given[3][0].is_failure)
        self._client.on_connect = lambda client, *_: client.subscribe(topic_filter, 1)
        self._client.connect("127.0.0.1", nats.port)
        self._client.loop_start()
        wait_until(lambda: self.subscribed)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def nats(tmp_path: Path, repository: Path) -> Iterator[Nats]:
    listed = re.search(
        r"```\n(# /etc/nats-server.conf\n.*?)```", (repository / "docs/fleet/nats.md").read_text(), re.DOTALL
    )
    assert listed is not None
    server = Nats(tmp_path, listed[1])
    server.start()
    yield server
    server.kill()


def make_client(nats: Nats, **keys: Any) -> MqttClient:
    section = MqttSection.model_validate({**nats.section, "username": "porch", "password": "word", **keys})
    return MqttClient(section, topics=TOPICS, clock=SystemClock(), backoff=Backoff(0.1, 0.4), answer_timeout_s=3.0)


def test_every_event_reaches_a_consumer_although_nats_is_killed(nats: Nats, tmp_path: Path) -> None:
    consumer = nats.consumer("edge-classifierd/+/+/event", "events")
    client = make_client(nats)
    outbox = Outbox(tmp_path / "outbox.sqlite3", topic=lambda _: EVENT, clock=SystemClock())
    publisher = Publisher(outbox, client, SystemClock(), monitor=OwnTopicMonitor(client, TOPICS, SystemClock()))
    publisher.start()
    client.start()
    wait_until(lambda: client.connected)
    assert client.endpoint.protocol == "3.1.1"
    for _ in range(3):
        append_events(outbox, 40)
        nats.kill()
        append_events(outbox, 20)
        nats.start()
        wait_until(lambda: client.connected, 30)
    wait_until(lambda: outbox.depth == 0, 30)
    total = outbox.last_position
    # What was on its way to the consumer at a kill comes again after 30 s (`ack_wait`), behind newer events.
    wait_until(lambda: len({payload for _, payload in consumer.received}) == total, 90)
    numbers = list(dict.fromkeys(json.loads(payload)["seq"] for _, payload in consumer.received))
    assert sorted(numbers) == list(range(1, total + 1))
    assert sum(later < earlier for earlier, later in pairwise(numbers)) <= 3, "in order, but for once after each kill"
    consumer.close()
    publisher.stop()
    client.stop()
    outbox.close()


def test_a_device_writes_and_reads_its_own_topics_only(nats: Nats) -> None:
    other = EVENT.replace("porch", "garden")
    client = make_client(nats)
    client.start()
    wait_until(lambda: client.connected)
    outcomes: list[PublishOutcome] = []
    for topic in (other, EVENT):
        message = Message(topic, b"{}", qos=1, retain=True, on_outcome=lambda outcome, _: outcomes.append(outcome))
        assert client.publish(message)
    wait_until(lambda: len(outcomes) == 2)
    assert outcomes == [PublishOutcome.DELIVERED] * 2, "NATS acknowledges what it discards"
    home = nats.consumer("edge-classifierd/#", "reader")
    wait_until(lambda: len(home.received) >= 2)
    assert {topic for topic, _ in home.received} == {EVENT, TOPICS.status}, (
        "retained, although subscribed with a wildcard"
    )
    stranger = nats.consumer("edge-classifierd/#", "stranger", "porch")
    assert stranger.subscribed == [False]
    for one in (home, stranger):
        one.close()
    client.stop()


def test_mqtt_5_alone_does_not_connect(nats: Nats) -> None:
    client = make_client(nats, protocol=5)
    client.start()
    wait_until(lambda: client.status_sentence.startswith("reconnecting"))
    assert not client.connected
    client.stop()
