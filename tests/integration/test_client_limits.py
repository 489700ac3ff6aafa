"""What the broker refuses or limits: topics, sizes, messages in flight."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from client_scene import ShiftedClock, append_events, publish, wait_until

from edge_classifierd.clock import SystemClock
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import decode
from edge_classifierd.mqtt.message import Message, PublishOutcome
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.retained_topics import RetainedTopics


def test_refused_topics_are_logged_and_refused_events_stay_in_the_outbox(
    guarded: Any, make_client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ShiftedClock()
    topic = ["forbidden/event"]
    outbox = Outbox(tmp_path / "outbox.sqlite3", topic=lambda _: topic[0], clock=clock)
    client = make_client(guarded.port, username="edge", password="secret-word", clock=clock)
    publisher = Publisher(outbox, client, clock, refused_pause_s=0.3)
    states = RetainedTopics(client, clock)
    states.set("forbidden/state", "ON")
    append_events(outbox)
    publisher.start()
    client.start()
    wait_until(lambda: len(client.refusals.sentences) == 2)
    time.sleep(1.0)
    assert outbox.depth == 1
    assert caplog.text.count("the broker refuses messages on forbidden/event (not authorized") == 1
    assert caplog.text.count("the broker refuses messages on forbidden/state (not authorized") == 1
    assert "1 more" in client.reasons[-1].sentence
    acl = guarded.directory.parent / "acl"
    acl.write_text("user edge\ntopic readwrite #\n")
    guarded.restart()
    clock.ahead_s = 600.0
    wait_until(lambda: outbox.depth == 0)
    wait_until(lambda: "forbidden/event" not in str(client.reasons))
    assert publisher.stop()
    outbox.close()


def test_refused_event_is_not_retried_at_once(guarded: Any, make_client: Any, tmp_path: Path) -> None:
    clock = SystemClock()
    outbox = Outbox(tmp_path / "outbox.sqlite3", topic=lambda _: "forbidden/event", clock=clock)
    client = make_client(guarded.port, username="edge", password="secret-word")
    publisher = Publisher(outbox, client, clock)
    append_events(outbox)
    publisher.start()
    client.start()
    wait_until(lambda: client.reasons)
    append_events(outbox)
    time.sleep(2.0)
    assert guarded.log.read_text().count("Denied PUBLISH") == 1
    assert outbox.depth == 2
    assert publisher.stop()
    outbox.close()


def test_refused_topic_delays_no_other_and_is_delivered_in_order_once_allowed(
    guarded: Any, make_client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ShiftedClock()
    outbox = Outbox(
        tmp_path / "outbox.sqlite3", clock=clock,
        topic=lambda event: ("edge-classifierd/a/event", "forbidden/b", "forbidden/c")[event.seq % 3],
    )  # fmt: skip
    client = make_client(guarded.port, username="edge", password="secret-word", clock=clock)
    publisher = Publisher(outbox, client, clock, refused_pause_s=0.3)
    heard: dict[str, list[int]] = {"edge-classifierd/a/event": [], "forbidden/b": [], "forbidden/c": []}
    reader = make_client(guarded.port, username="edge", password="secret-word", client_id="reader")
    for topic in heard:
        reader.subscribe(topic, lambda one: heard[one.topic].append(decode(one.payload).seq))
    reader.start()
    wait_until(lambda: reader.connected)
    append_events(outbox, 900)
    publisher.start()
    client.start()
    wait_until(lambda: outbox.depth == 600)
    append_events(outbox, 3)
    wait_until(lambda: outbox.depth == 602)
    denied = guarded.log.read_text().count("Denied PUBLISH")
    assert "refuses messages on forbidden/" in client.reasons[0].sentence
    assert "1 more" in client.reasons[0].sentence
    time.sleep(1.5)
    assert guarded.log.read_text().count("Denied PUBLISH") - denied < 16, "one event is tried, not all"
    assert caplog.text.count("refuses messages on") == 2
    (guarded.directory.parent / "acl").write_text("user edge\ntopic readwrite #\n")
    guarded.process.send_signal(signal.SIGHUP)
    clock.ahead_s = 600.0
    wait_until(lambda: outbox.depth == 0)
    wait_until(lambda: not client.reasons)
    assert publisher.stop()
    outbox.close()
    assert heard["edge-classifierd/a/event"] == list(range(3, 904, 3))
    wait_until(lambda: sum(len(one) for one in heard.values()) >= 903)
    assert heard["forbidden/b"] == list(range(1, 904, 3))
    assert heard["forbidden/c"] == list(range(2, 904, 3))


def test_receive_maximum_is_respected_and_one_message_is_in_flight_after_a_drop(make_client: Any) -> None:
    came: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(3):
                peer, _ = server.accept()
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"\x20\x06\x00\x00\x03\x21\x00\x03")  # CONNACK, receive maximum 3
                    time.sleep(0.4)
                    came.append(peer.recv(10000).count(b"edge-classifierd/porch/"))

        thread = threading.Thread(target=serve)
        thread.start()
        client = make_client(server.getsockname()[1])
        states = RetainedTopics(client, SystemClock())
        for name in "abcdefgh":
            states.set(f"edge-classifierd/porch/{name}/state", "ON")
        client.start()
        thread.join(20)
    assert came == [3, 1, 1], "the broker's receive maximum, then one at a time"


def test_refused_subscription_is_logged_once_over_reconnections(
    make_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(3):
                peer, _ = server.accept()
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"\x20\x03\x00\x00\x00")
                    mid = peer.recv(1000)[2:4]
                    peer.sendall(b"\x90\x04" + mid + b"\x00\x87")  # SUBACK: not authorized
                    time.sleep(0.2)

        thread = threading.Thread(target=serve)
        thread.start()
        client = make_client(server.getsockname()[1])
        client.subscribe("homeassistant/status", lambda _: None)
        client.start()
        thread.join(20)
    assert client.connections == 3
    assert caplog.text.count("refuses the subscription to homeassistant/status (not authorized)") == 1


@pytest.mark.parametrize(("size", "most"), [(1, 2002), (1_000_000, 11)])
def test_queue_is_bounded_in_messages_and_bytes(make_client: Any, size: int, most: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = make_client(server.getsockname()[1])
        client.start()
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"\x20\x06\x00\x00\x03\x21\x00\x01")  # CONNACK, receive maximum 1
            wait_until(lambda: client.connected)
            taken = 0
            while client.publish(Message("t", bytes(size), qos=1)):
                taken += 1
                assert taken <= most
            assert taken > most * 0.7
            client.stop(0.5)


def test_sent_messages_free_the_queue(broker: Any, make_client: Any) -> None:
    client = make_client(broker.port)
    client.start()
    wait_until(lambda: client.connected)
    sent = threading.Semaphore(0)
    for _ in range(12):
        assert client.publish(Message("t", bytes(1_000_000), qos=1, on_outcome=lambda *_: sent.release()))
        assert sent.acquire(timeout=10)


def test_message_above_the_packet_limit_is_refused_without_disconnecting(make_broker: Any, make_client: Any) -> None:
    narrow = make_broker("allow_anonymous true\nmax_packet_size 1000")
    client = make_client(narrow.port)
    outcomes: list[tuple[PublishOutcome, str]] = []
    client.start()
    wait_until(lambda: client.connected)
    for size in (2000, 100):
        client.publish(Message("t", bytes(size), qos=1, on_outcome=lambda *outcome: outcomes.append(outcome)))
    wait_until(lambda: len(outcomes) == 2)
    assert outcomes == [
        (PublishOutcome.REFUSED, "larger than the broker's maximum packet size"),
        (PublishOutcome.DELIVERED, ""),
    ]
    assert client.connections == 1


def test_broker_without_retain_and_qos_1_receives_neither(make_client: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = make_client(server.getsockname()[1])
        client.start()
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"\x20\x07\x00\x00\x04\x24\x00\x25\x00")  # CONNACK, QoS 0 at most, no retain
            wait_until(lambda: client.connected)
            said = peer.recv(1000)
            assert b"online" in said
            assert said[0] == 0x30, "PUBLISH, QoS 0, not retained"
            client.stop(0.5)


@pytest.mark.parametrize("protocol", ["3.1.1", 5])
def test_a_huge_message_is_not_read_into_memory(
    make_broker: Any, make_client: Any, protocol: object, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker()
    client = make_client(broker.port, protocol=protocol)
    topic, received = "edge-classifierd/porch/reload/set", []
    client.subscribe(topic, received.append)
    client.start()
    wait_until(lambda: client.connected)
    publish(broker.port, topic, "before")
    wait_until(lambda: received)
    before = resident_bytes()
    huge = subprocess.Popen(
        ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic, "-s"], stdin=subprocess.PIPE
    )
    assert huge.stdin is not None
    for _ in range(100):
        huge.stdin.write(bytes(1_000_000))
    huge.stdin.close()
    most = before
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        most = max(most, resident_bytes())
        time.sleep(0.01)
    assert huge.wait(10) == 0
    assert most - before < 20_000_000
    if protocol == "3.1.1":
        assert "sent a packet of 100,000,0" in caplog.text
        assert "publish nothing so large" in caplog.text
    wait_until(lambda: client.connected)
    publish(broker.port, topic, "after")
    wait_until(lambda: received[-1].payload == b"after")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
