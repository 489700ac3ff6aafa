"""A real mosquitto on a free loopback port, a proxy that breaks connections, and a subscriber that keeps count."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def free_port() -> int:
    """A port below those that Linux gives to outgoing connections: a client that waits for a broker would take it."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], Any], timeout_s: float = 40.0, what: str = "") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what or condition}"
        time.sleep(0.01)


class Broker:
    """mosquitto in a directory of its own; its port stays the same over restarts."""

    def __init__(self, directory: Path, settings: str = "allow_anonymous true", *, persistence: bool = True) -> None:
        self.binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if self.binary is None:
            pytest.skip("mosquitto is not installed")
        self.directory = directory
        self.port = free_port()
        self.log = directory / "mosquitto.log"
        kept = "autosave_interval 1\nautosave_on_changes false\n" if persistence else ""
        self.configuration = directory / "mosquitto.conf"
        self.configuration.write_text(
            f"listener {self.port} 127.0.0.1\n{settings}\npersistence {str(persistence).lower()}\n"
            f"persistence_location {directory}/\n{kept}max_queued_messages 0\nuser root\nlog_type all\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        assert self.binary is not None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([self.binary, "-c", str(self.configuration)], stdout=log, stderr=log)
        wait_until(self._listens, 10, f"mosquitto on {self.port}: {self.log}")
        return self

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-500:]
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True


_NUMBERS = itertools.count(1)


class Subscriber:
    """Counts events on `#` with a session of its own that survives restarts of the broker."""

    def __init__(self, port: int, topic: str = "#") -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self.first: dict[int, str] = {}
        """event_id by seq, in order of first arrival."""
        self.unnumbered: list[str] = []
        """event_id of the events without a seq, in order of first arrival."""
        self.repeats = 0
        self.clashes: list[tuple[int, str, str]] = []
        self.payloads: dict[int, bytes] = {}
        self.differing = 0
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"counter-{next(_NUMBERS)}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        self.subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self.subscribed.wait(10)

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload), message.retain))
        if not message.topic.endswith("/event"):
            return
        event = json.loads(message.payload)
        seq, event_id = event["seq"], event["event_id"]
        if seq is None:
            self.unnumbered += [event_id] if event_id not in self.unnumbered else []
            return
        if seq not in self.first:
            self.first[seq], self.payloads[seq] = event_id, bytes(message.payload)
            return
        self.repeats += 1
        if self.first[seq] != event_id:
            self.clashes.append((seq, self.first[seq], event_id))
        elif self.payloads[seq] != message.payload:
            self.differing += 1

    def last(self, topic: str) -> bytes | None:
        return next((payload for one, payload, _ in reversed(self.messages) if one == topic), None)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Proxy:
    """Stands between a client and the broker; reads along which seq the broker has acknowledged."""

    def __init__(self, target: int) -> None:
        self.acknowledged: set[int] = set()
        self.acknowledged_s: dict[str, float] = {}
        """Monotonic time of the first PUBACK of an event, by event_id."""
        self.admitting = True
        """While False, whoever connects is turned away."""
        self._target = target
        self._pairs: list[_Pair] = []
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def cut(self, how: str) -> None:
        """`reset`: RST to both; `half-close`: FIN to the client only; `swallow`: stands, but nothing comes through."""
        self._orders.put(how)

    def close(self) -> None:
        self._orders.put("end")
        self._thread.join(5)

    def _run(self) -> None:
        while True:
            open_sockets = [sock for pair in self._pairs for sock in pair.open]
            readable, _, _ = select.select([self._server, *open_sockets], [], [], 0.01)
            if self._server in readable:
                self._accept()
            for pair in self._pairs:
                pair.pump(readable)
            while not self._orders.empty():
                order = self._orders.get()
                for pair in self._pairs:
                    pair.cut("reset" if order == "end" else order)
                if order == "end":
                    self._server.close()
                    return

    def _accept(self) -> None:
        client, _ = self._server.accept()
        if not self.admitting:
            client.close()
            return
        try:
            upstream = socket.create_connection(("127.0.0.1", self._target), 2)
        except OSError:
            client.close()
        else:
            self._pairs.append(_Pair(client, upstream, self))


class _Pair:
    """A client's connection and the one to the broker behind it."""

    def __init__(self, client: socket.socket, upstream: socket.socket, proxy: Proxy) -> None:
        mids: dict[int, dict[str, Any]] = {}
        self._client, self._upstream = client, upstream
        self._readers = {client: _PublishReader(mids), upstream: _AcknowledgementReader(mids, proxy)}
        self.open = [client, upstream]
        self._swallowing = False

    def pump(self, readable: list[socket.socket]) -> None:
        for source in [sock for sock in self.open if sock in readable]:
            sink = self._upstream if source is self._client else self._client
            try:
                data = source.recv(65536)
                if data and not self._swallowing:
                    sink.sendall(data)
                    self._readers[source].feed(data)
            except OSError:
                data = b""
            if not data:
                self._end()
                return

    def cut(self, how: str) -> None:
        if how == "reset":
            for sock in self.open:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._end()
        elif self.open:
            self._swallowing = True
            if self._upstream in self.open:
                self.open.remove(self._upstream)
                self._upstream.close()
            if how == "half-close":
                self._client.shutdown(socket.SHUT_WR)

    def _end(self) -> None:
        for sock in self.open:
            sock.close()
        self.open = []


class _PacketReader:
    """Splits a byte stream into MQTT packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2:
            length = shift = 0
            place = 1
            while True:
                if place >= len(self._buffer):
                    return
                byte = self._buffer[place]
                length |= (byte & 127) << shift
                shift += 7
                place += 1
                if not byte & 128:
                    break
            if len(self._buffer) < place + length:
                return
            self.packet(self._buffer[0], bytes(self._buffer[place : place + length]))
            del self._buffer[: place + length]

    def packet(self, head: int, body: bytes) -> None:
        raise NotImplementedError


class _PublishReader(_PacketReader):
    def __init__(self, mids: dict[int, dict[str, Any]]) -> None:
        super().__init__()
        self._mids = mids

    def packet(self, head: int, body: bytes) -> None:
        if head & 0xF6 == 0x32:  # PUBLISH, QoS 1
            size = int.from_bytes(body[:2])
            if body[2 : 2 + size].endswith(b"/event"):
                event = json.loads(body[body.index(b'{"schema"') :])
                self._mids[int.from_bytes(body[2 + size : 4 + size])] = event


class _AcknowledgementReader(_PacketReader):
    def __init__(self, mids: dict[int, dict[str, Any]], proxy: Proxy) -> None:
        super().__init__()
        self._mids = mids
        self._proxy = proxy

    def packet(self, head: int, body: bytes) -> None:
        if head == 0x40:
            event = self._mids.pop(int.from_bytes(body[:2]), None)
            if event is not None:
                self._proxy.acknowledged_s.setdefault(event["event_id"], time.monotonic())
                if event["seq"] is not None:
                    self._proxy.acknowledged.add(event["seq"])
