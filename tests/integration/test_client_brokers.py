"""Choice of the broker: protocol, several hosts, transport, and what MQTT 3.1.1 brokers do without a reason."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from broker_process import free_port
from client_scene import STATUS, TOPICS, ShiftedClock, append_events, failure_sentence, publish, retained, wait_until

from edge_classifierd.clock import SystemClock
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.mqtt.message import Incoming, Message, PublishOutcome
from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.retained_topics import RetainedTopics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MQTT_5 = b"\x00\x04MQTT\x05"
IMAGE = TOPICS.image("driveway")


class ScriptedServer:
    """Accepts connections on 127.0.0.1 and calls a function with each; counts them."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.server.getsockname()[1])
        self.accepted = 0
        self._serve = serve
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            self.accepted += 1
            with peer, contextlib.suppress(OSError):
                self._serve(peer)

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self._thread.join(10)


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedServer]]:
    made: list[ScriptedServer] = []

    def make(serve: Callable[[socket.socket], None]) -> ScriptedServer:
        made.append(ScriptedServer(serve))
        return made[-1]

    yield make
    for one in made:
        one.close()


def old_broker(target: int, refusal: bytes | None) -> Callable[[socket.socket], None]:
    """Refuse MQTT 5 with these bytes (empty: close; None: stay silent), and pass 3.1.1 on to a real broker."""

    def serve(peer: socket.socket) -> None:
        login = peer.recv(4096)
        if MQTT_5 in login:
            if refusal is None:
                peer.recv(1)  # until the client gives up
            else:
                peer.sendall(refusal)
            return
        with socket.create_connection(("127.0.0.1", target)) as broker:
            broker.sendall(login)
            back = threading.Thread(target=pump, args=(broker, peer))
            back.start()
            pump(peer, broker)
            back.join(10)

    return serve


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("refusal", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b"", None])
def test_auto_uses_mqtt_3_1_1_if_5_is_refused_closed_or_unanswered(
    broker: Any, make_client: Any, scripted: Any, caplog: pytest.LogCaptureFixture, refusal: bytes | None
) -> None:
    server = scripted(old_broker(broker.port, refusal))
    client = make_client(server.port, answer_timeout_s=0.5)
    with caplog.at_level(logging.INFO):
        client.start()
        wait_until(lambda: client.connected)
        assert client.endpoint.protocol == "3.1.1"
        broker.restart()
        wait_until(lambda: client.connections == 2)
    assert caplog.text.count("the broker supports MQTT 3.1.1") == 1
    assert "set mqtt.protocol" not in caplog.text
    client.stop()


def test_protocol_5_names_the_remedy_on_a_broker_that_closes(broker: Any, make_client: Any, scripted: Any) -> None:
    server = scripted(old_broker(broker.port, b""))
    client = make_client(server.port, protocol=5)
    assert "needs mqtt.protocol: 3.1.1 or auto" in failure_sentence(client)
    client.stop()


def test_a_broker_that_does_not_answer_in_time_is_given_more_time_and_rest(make_client: Any, scripted: Any) -> None:
    begun_s: list[float] = []
    ended_s: list[float] = []

    def serve(peer: socket.socket) -> None:
        begun_s.append(time.monotonic())
        peer.recv(4096)
        peer.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK; subscriptions and messages are never acknowledged
        while peer.recv(4096):
            pass
        ended_s.append(time.monotonic())

    server = scripted(serve)
    client = make_client(server.port, host=["127.0.0.1", "127.0.0.1"], protocol=5, answer_timeout_s=0.2, longest_s=8.0)
    client.start()
    wait_until(lambda: len(begun_s) == 5, 30)
    client.stop()
    lasted_s = [end - begin for begin, end in zip(begun_s, ended_s, strict=False)]
    assert lasted_s[1] > 0.4
    assert lasted_s[2] > 0.8
    assert lasted_s[3] > 1.6
    waited_s = [begin - end for begin, end in zip(begun_s[1:], ended_s, strict=False)]
    assert waited_s[3] > 0.06, "the wait doubles from 50 ms, of which at most half is left out"


def test_silent_and_unreachable_nodes_are_left_for_the_next(broker: Any, make_client: Any) -> None:
    silent = socket.create_server(("127.0.0.2", broker.port))
    with silent:
        client = make_client(broker.port, host=["127.0.0.3", "127.0.0.2", "127.0.0.1"], answer_timeout_s=0.5)
        start = time.monotonic()
        client.start()
        wait_until(lambda: client.connected)
    assert time.monotonic() - start < 5
    assert client.endpoint.host == "127.0.0.1"


def test_lost_node_is_replaced_by_the_next_without_a_wait(broker: Any, make_broker: Any, make_client: Any) -> None:
    other = make_broker(start=False)
    text = other.configuration.read_text().replace(f"{other.port} 127.0.0.1", f"{broker.port} 127.0.0.2")
    other.configuration.write_text(text)
    binary = str(other.binary)
    with subprocess.Popen([binary, "-c", str(other.configuration)], stderr=subprocess.DEVNULL) as second:
        try:
            client = make_client(broker.port, host=["127.0.0.1", "127.0.0.2"], longest_s=60.0)
            client.start()
            wait_until(lambda: client.connected)
            time.sleep(3.2)
            broker.kill()
            wait_until(lambda: client.connections == 2, 2)
            assert client.endpoint.host == "127.0.0.2"
            client.stop()
        finally:
            second.terminate()


def test_websockets_with_a_path(make_broker: Any, make_client: Any) -> None:
    port = free_port()
    broker = make_broker(f"allow_anonymous true\nlistener {port} 127.0.0.1\nprotocol websockets")
    client = make_client(port, transport="websockets", websocket_path="/mqtt")
    came: list[Incoming] = []
    client.subscribe("t/in", came.append)
    client.start()
    wait_until(lambda: (STATUS, b"online") in retained(broker.port))
    publish(broker.port, "t/in", "x")
    wait_until(lambda: came)
    outcomes: list[PublishOutcome] = []
    client.publish(Message("t/out", bytes(300_000), qos=1, retain=True, on_outcome=lambda one, _: outcomes.append(one)))
    wait_until(lambda: outcomes == [PublishOutcome.DELIVERED])
    assert client.stop(2.0)
    assert (STATUS, b"offline") in retained(broker.port)


# paho leaves the socket of a failed handshake to the garbage collector, which closes it.
@pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")
def test_plain_port_instead_of_websockets_is_one_sentence(broker: Any, make_client: Any) -> None:
    client = make_client(broker.port, transport="websockets", answer_timeout_s=1.0)
    assert "mqtt.websocket_path" in failure_sentence(client)


def test_empty_user_name_is_anonymous(broker: Any, make_client: Any) -> None:
    client = make_client(broker.port, username="")
    client.start()
    wait_until(lambda: client.connected)


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_oversized_image_costs_at_most_one_connection_and_events_continue(
    make_broker: Any, make_client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: object
) -> None:
    broker = make_broker("allow_anonymous true\nmax_packet_size 65536")
    clock = ShiftedClock()
    client = make_client(broker.port, protocol=protocol, clock=clock)
    states = RetainedTopics(client, clock)
    outbox = Outbox(tmp_path / "outbox.sqlite3", topic=lambda _: TOPICS.event("driveway"), clock=clock)
    publisher = Publisher(outbox, client, clock)
    publisher.start()
    client.start()
    wait_until(lambda: client.connected)
    append_events(outbox, 3)
    wait_until(lambda: outbox.depth == 0)
    states.set(IMAGE, bytes(100_000), qos=0)
    wait_until(lambda: client.refusals.sentences)
    append_events(outbox, 3)
    wait_until(lambda: outbox.depth == 0)
    assert client.connections == (1 if protocol == 5 else 2)
    (reason,) = client.reasons
    assert IMAGE in reason.sentence
    assert "100,000 bytes" in reason.sentence
    assert caplog.text.count(f"{IMAGE} (") == 1
    clock.ahead_s = 601.0
    states.set(IMAGE, bytes(1000), qos=0)
    wait_until(lambda: client.reasons == ())
    publisher.stop()
    outbox.close()


def test_event_that_the_broker_discards_is_noticed_under_3_1_1(
    make_broker: Any, make_client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic write edge-classifierd/+/status\ntopic read #\n")
    broker = make_broker(f"allow_anonymous true\nacl_file {acl}")
    clock = ShiftedClock()
    client_clock = ShiftedClock()
    client = make_client(broker.port, protocol="3.1.1", clock=client_clock)
    monitor = OwnTopicMonitor(client, TOPICS, clock)
    outbox = Outbox(tmp_path / "outbox.sqlite3", topic=lambda _: TOPICS.event("driveway"), clock=clock)
    publisher = Publisher(outbox, client, client_clock, monitor=monitor)
    publisher.start()
    client.start()
    wait_until(lambda: client.connected)

    def reported() -> bool:  # mosquitto 2.0.11 sometimes closes the connection after a denied event
        append_events(outbox)
        clock.ahead_s += 0.1
        time.sleep(0.02)
        return bool(monitor.reasons)

    wait_until(reported)
    assert "acknowledged an event on edge-classifierd/porch/driveway/event but did not return" in caplog.text
    acl.write_text("topic readwrite #\n")
    assert "another client" not in caplog.text
    broker.restart()
    append_events(outbox)
    client_clock.ahead_s = 601.0
    wait_until(lambda: monitor.reasons == ())
    publisher.stop()
    outbox.close()


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_events_that_come_back_are_no_trouble(broker: Any, make_client: Any, tmp_path: Path, protocol: object) -> None:
    clock = ShiftedClock()
    client = make_client(broker.port, protocol=protocol)
    monitor = OwnTopicMonitor(client, TOPICS, clock)
    outbox = Outbox(tmp_path / "outbox.sqlite3", topic=lambda _: TOPICS.event("driveway"), clock=clock)
    publisher = Publisher(outbox, client, SystemClock(), monitor=monitor)
    append_events(outbox, 300)
    publisher.start()
    client.start()
    wait_until(lambda: outbox.depth == 0)
    broker.restart()
    append_events(outbox, 300)
    wait_until(lambda: outbox.depth == 0)
    time.sleep(0.5)
    clock.ahead_s = 11.0
    time.sleep(1.0)
    assert monitor.reasons == ()
    publisher.stop()
    outbox.close()


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_second_device_with_the_same_id_is_noticed_by_both_and_its_offline_corrected(
    broker: Any, make_client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: object
) -> None:
    clock = SystemClock()
    monitors, clients, publishers, outboxes = [], [], [], []
    for name in ("e", "f"):
        client = make_client(broker.port, protocol=protocol, client_id=name)
        monitors.append(OwnTopicMonitor(client, TOPICS, clock))
        outboxes.append(Outbox(tmp_path / f"{name}.sqlite3", topic=lambda _: TOPICS.event("driveway"), clock=clock))
        publishers.append(Publisher(outboxes[-1], client, clock, monitor=monitors[-1]))
        publishers[-1].start()
        client.start()
        wait_until(lambda client=client: client.connected)
        clients.append(client)
        time.sleep(0.5)
    wait_until(lambda: append_events(outboxes[0]) or time.sleep(0.2) or all(monitor.reasons for monitor in monitors))
    sentence = "another device publishes under edge-classifierd/porch; give each device its own device.id"
    assert sentence in monitors[0].reasons[0].sentence
    assert caplog.text.count(sentence) == 2, "once each"
    publishers[1].stop()
    clients[1].stop()
    wait_until(lambda: dict(retained(broker.port))[STATUS] == b"online", 5)
    publishers[0].stop()
    for outbox in outboxes:
        outbox.close()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A NATS server with MQTT and JetStream; the account `edge` may not publish pictures. Yields port and log."""
    binary = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
    if binary is None:
        pytest.skip("nats-server is not installed")
    port, log = free_port(), tmp_path / "nats.log"
    (tmp_path / "nats.conf").write_text(
        f'port: {free_port()}\nhost: 127.0.0.1\nserver_name: one\nlog_file: "{log}"\n'
        f'jetstream {{store_dir: "{tmp_path}/js"}}\nmqtt {{port: {port}, host: 127.0.0.1}}\n'
        "authorization {users: [{user: edge, password: word, permissions: {publish: {deny: "
        '["edge-classifierd.porch.driveway.image"]}}}]}\n'
    )
    with subprocess.Popen([binary, "-c", str(tmp_path / "nats.conf")]) as process:
        wait_until(lambda: listens(port))
        yield port, log
        process.terminate()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 0.5).close()
        return True
    return False


def test_nats_is_used_with_mqtt_3_1_1_and_a_denied_topic_delays_no_other(
    nats: tuple[int, Path], make_client: Any, tmp_path: Path
) -> None:
    clock = ShiftedClock()
    client = make_client(nats[0], username="edge", password="word", answer_timeout_s=2.0)
    monitor = OwnTopicMonitor(client, TOPICS, clock)
    states = RetainedTopics(client, clock)
    outbox = Outbox(tmp_path / "outbox.sqlite3", topic=lambda _: TOPICS.event("driveway"), clock=clock)
    publisher = Publisher(outbox, client, SystemClock(), monitor=monitor)
    publisher.start()
    client.start()
    wait_until(lambda: client.connected)
    assert client.endpoint.protocol == "3.1.1"
    states.set(TOPICS.state("driveway"), "{}")
    states.set(IMAGE, bytes(1000), qos=1)
    append_events(outbox, 200)
    wait_until(lambda: outbox.depth == 0)
    time.sleep(0.5)
    clock.ahead_s = 11.0
    time.sleep(1.0)
    assert monitor.reasons == ()
    publisher.stop()
    outbox.close()
