"""Subscribers for bench/fleet.py: one must receive every event, one counts all messages; and the comparison."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet_devices import Appended


@dataclass(frozen=True, slots=True)
class Received:
    """An event as it arrived, and when, in seconds of the monotonic clock."""

    device: str
    seq: int
    event_id: str
    digest: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of the events."""

    lost: int
    """Appended and never received."""
    unknown: int
    """Received and never appended."""
    disordered: int
    """Received for the first time after a later one of the same device."""
    repeated: int
    """Received again, with the same content."""
    altered: int
    """Received again with another content."""

    @property
    def holds(self) -> bool:
        return not (self.lost or self.unknown or self.disordered or self.altered)


def compare(appended: Iterable[Appended], received: Iterable[Received]) -> Comparison:
    """Compare what the devices have stored with what the subscriber has received, in order of arrival."""
    wanted = {(one.device, one.seq, one.event_id) for one in appended}
    newest: dict[str, int] = {}
    first: dict[tuple[str, int, str], bytes] = {}
    disordered = repeated = altered = 0
    for one in received:
        key = (one.device, one.seq, one.event_id)
        if key in first:
            repeated += 1
            altered += first[key] != one.digest
            continue
        first[key] = one.digest
        disordered += one.seq < newest.get(one.device, 0)
        newest[one.device] = max(one.seq, newest.get(one.device, 0))
    return Comparison(len(wanted - first.keys()), len(first.keys() - wanted), disordered, repeated, altered)


class Subscriber:
    """A subscriber that moves to the next node when a connection ends. `close` ends it."""

    def __init__(
        self, section: dict[str, Any], password: str, client_id: str, filters: Sequence[str], qos: int
    ) -> None:
        """Connect. With QoS 1 the session outlives the connection.

        Args:
            section: the keys `host`, `port` and `tls` of the devices.
            password: of the account `home`.
            client_id: unique on the broker.
            filters: what to subscribe to.
            qos: 0 or 1.
        """
        self._section = section
        self._filters = filters
        self._qos = qos
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.username_pw_set("home", password)
        if section.get("tls"):
            self._client.tls_set(section["tls"]["ca_file"])
        self._client.on_message = self._on_message
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._subscribed, self._stopping = threading.Event(), threading.Event()
        self.connections = self.lost_sessions = 0
        self._thread = threading.Thread(target=self._run, name=client_id, daemon=True)
        self._thread.start()
        if not self._subscribed.wait(60):
            raise RuntimeError(f"{client_id} could not subscribe")

    def received(self, message: paho.MQTTMessage) -> None:
        """Record a message."""
        raise NotImplementedError

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(5)
        self._client.disconnect()

    def _run(self) -> None:
        properties = None
        if self._qos:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 3600
        for host in itertools.cycle(self._section["host"]):
            if self._stopping.is_set():
                return
            try:
                port = self._section["port"]
                self._client.connect(host, port, 10, clean_start=not self._qos, properties=properties)
            except OSError:
                self._stopping.wait(0.2)
                continue
            while not self._stopping.is_set() and self._client.loop(0.2) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass

    def _on_connect(
        self, client: paho.Client, _data: Any, flags: paho.ConnectFlags, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            return
        self.connections += 1
        if not flags.session_present:
            self.lost_sessions += bool(self._qos and self.connections > 1)
            client.subscribe([(one, SubscribeOptions(qos=self._qos)) for one in self._filters])

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.received(message)


class EventSubscriber(Subscriber):
    """Receives every event; its queue on the broker is a quorum queue."""

    def __init__(self, section: dict[str, Any], password: str) -> None:
        self.events: list[Received] = []
        super().__init__(section, password, "fleet-events", ["edge-classifierd/+/+/event"], 1)

    def received(self, message: paho.MQTTMessage) -> None:
        document = json.loads(message.payload)
        digest = hashlib.blake2b(message.payload, digest_size=8).digest()
        device = message.topic.split("/")[1]
        self.events.append(Received(device, document["seq"], document["event_id"], digest, time.monotonic()))


class TrafficSubscriber(Subscriber):
    """Counts all messages of the devices and their bytes, by the last level of the topic."""

    def __init__(self, section: dict[str, Any], password: str) -> None:
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        super().__init__(section, password, "fleet-traffic", ["edge-classifierd/#", "homeassistant/device/#"], 0)

    def received(self, message: paho.MQTTMessage) -> None:
        levels = message.topic.split("/")
        kind = "watch state" if levels[-1] == "state" and len(levels) == 5 else levels[-1]
        self.messages[kind] += 1
        self.bytes[kind] += len(message.payload) + len(message.topic)
