"""The client and a real mosquitto: status, last will, silent connections, stopping."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from client_scene import STATUS, TOPICS, failure_sentence, publish, retained, wait_until

from edge_classifierd.clock import SystemClock
from edge_classifierd.mqtt.message import JSON, Incoming, Message, PublishOutcome
from edge_classifierd.mqtt.retained_topics import RetainedTopics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_online_while_connected_and_offline_after_stop(
    broker: Any, subscribe: Any, make_client: Any, protocol: object
) -> None:
    subscriber = subscribe(broker.port)
    client = make_client(broker.port, protocol=protocol)
    assert client.status_sentence == "not started"
    client.start()
    wait_until(lambda: subscriber.last(STATUS) == b"online")
    wait_until(lambda: client.connected)
    assert client.status_sentence == f"connected to 127.0.0.1:{broker.port}"
    started = time.monotonic()
    assert client.stop(2.0)
    assert time.monotonic() - started < 1.0
    wait_until(lambda: subscriber.last(STATUS) == b"offline")
    assert not client.alive
    late = retained(broker.port)
    assert late == [(STATUS, b"offline")]


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_last_will_publishes_offline_when_the_connection_is_cut(
    broker: Any, subscribe: Any, make_proxy: Any, make_client: Any, protocol: object
) -> None:
    subscriber = subscribe(broker.port)
    proxy = make_proxy(broker.port)
    client = make_client(proxy.port, protocol=protocol)
    client.start()
    wait_until(lambda: subscriber.last(STATUS) == b"online")
    proxy.admitting = False
    proxy.cut("reset")
    wait_until(lambda: subscriber.last(STATUS) == b"offline")
    assert retained(broker.port) == [(STATUS, b"offline")]
    wait_until(lambda: client.status_sentence.startswith("reconnecting: "))
    proxy.admitting = True
    wait_until(lambda: subscriber.last(STATUS) == b"online")
    assert client.connections == 2


def test_states_and_subscriptions_are_restored_on_a_broker_that_lost_them(make_broker: Any, make_client: Any) -> None:
    broker = make_broker(persistence=False)
    client = make_client(broker.port)
    states = RetainedTopics(client, SystemClock())
    states.set("edge-classifierd/porch/driveway/state", "cat", content_type=JSON, schema=1, expiry_s=86400)
    came: list[Incoming] = []
    client.subscribe("edge-classifierd/porch/+/enabled/set", came.append)
    client.start()
    wait_until(lambda: client.connected)
    broker.restart()
    wait_until(lambda: client.connections == 2)
    wait_until(lambda: len(retained(broker.port)) == 2)
    publish(broker.port, "edge-classifierd/porch/driveway/enabled/set", "ON")
    wait_until(lambda: came == [Incoming("edge-classifierd/porch/driveway/enabled/set", b"ON", retained=False)])
    publish(broker.port, "edge-classifierd/porch/garden/enabled/set", "OFF", "-r")
    broker_keeps = make_client(broker.port, client_id="late")
    late: list[Incoming] = []
    broker_keeps.subscribe("edge-classifierd/porch/+/enabled/set", late.append)
    broker_keeps.start()
    wait_until(lambda: [one.retained for one in late] == [True])


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_messages_have_mqtt_5_properties(broker: Any, make_client: Any, protocol: object) -> None:
    client = make_client(broker.port, protocol=protocol)
    states = RetainedTopics(client, SystemClock())
    states.set("t/json", "{}", content_type=JSON, schema=1, expiry_s=86400)
    states.set("t/jpeg", b"\xff\xd8", content_type="image/jpeg", qos=0)
    client.start()
    wait_until(lambda: client.connected)
    wait_until(lambda: len(retained(broker.port)) == 3)
    command = ["mosquitto_sub", "-V", "5", "-h", "127.0.0.1", "-p", str(broker.port), "-t", "t/#", "-t", STATUS]
    more = ["-q", "1", "-W", "1", "-F", "%t|%C|%F|%P|%q%r|%E"]
    lines = subprocess.run([*command, *more], capture_output=True, check=False).stdout.decode()
    told = {line.split("|")[0]: line.split("|")[1:] for line in lines.splitlines()}
    if protocol == 5:
        assert told[STATUS][:4] == ["text/plain", "1", "", "11"]
        assert told["t/jpeg"][:4] == ["image/jpeg", "", "", "01"]
        assert told["t/json"][:4] == ["application/json", "1", "schema:1", "11"]
        assert 86300 < int(told["t/json"][4]) <= 86400
    else:
        manners = {STATUS: "11", "t/jpeg": "01", "t/json": "11"}
        assert told == {topic: ["", "", "", manner, ""] for topic, manner in manners.items()}


def test_large_incoming_message_is_not_received(broker: Any, make_client: Any, tmp_path: Path) -> None:
    client = make_client(broker.port)
    sizes: list[int] = []
    client.subscribe("edge-classifierd/porch/reload/set", lambda incoming: sizes.append(len(incoming.payload)))
    client.start()
    wait_until(lambda: client.connected)
    (tmp_path / "large").write_bytes(bytes(10_000_000))
    large = ["-t", TOPICS.reload_command, "-f", str(tmp_path / "large")]
    subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), *large], check=True)
    publish(broker.port, "edge-classifierd/porch/reload/set", "x")
    wait_until(lambda: sizes[-1:] == [1])
    assert max(sizes) == 1, "the broker was told not to send 10 MB"


def test_whole_queue_is_sent_before_offline(broker: Any, subscribe: Any, make_client: Any) -> None:
    subscriber = subscribe(broker.port)
    client = make_client(broker.port)
    client.start()
    wait_until(lambda: client.connected)
    outcomes: list[PublishOutcome] = []
    for count in range(500):
        message = Message("t", str(count).encode(), qos=1, on_outcome=lambda outcome, _: outcomes.append(outcome))
        assert client.publish(message)
    assert client.stop(2.0)
    assert outcomes == [PublishOutcome.DELIVERED] * 500
    assert not client.publish(Message("t", b"late"))
    wait_until(lambda: subscriber.last(STATUS) == b"offline")
    assert [int(payload) for topic, payload, _ in subscriber.messages if topic == "t"] == list(range(500))


def test_stop_takes_at_most_two_seconds_when_the_broker_does_not_answer(
    broker: Any, make_proxy: Any, make_client: Any
) -> None:
    proxy = make_proxy(broker.port)
    client = make_client(proxy.port)
    client.start()
    wait_until(lambda: client.connected)
    proxy.cut("swallow")
    time.sleep(0.1)
    outcomes: list[PublishOutcome] = []
    client.publish(Message("t", b"x", qos=1, on_outcome=lambda outcome, _: outcomes.append(outcome)))
    started = time.monotonic()
    assert client.stop(1.5)
    assert time.monotonic() - started < 2.0
    assert outcomes == [PublishOutcome.LOST]


def test_unanswered_connection_is_given_up_before_the_keepalive(broker: Any, make_proxy: Any, make_client: Any) -> None:
    proxy = make_proxy(broker.port)
    client = make_client(proxy.port, answer_timeout_s=0.5, keepalive=60.0)
    client.start()
    wait_until(lambda: client.connected)
    time.sleep(0.2)
    proxy.cut("swallow")
    time.sleep(0.1)
    assert client.publish(Message("t", b"x", qos=1))
    wait_until(lambda: client.connections == 2, 4)


def test_removal_lost_with_a_connection_is_published_with_the_next(
    broker: Any, make_proxy: Any, make_client: Any
) -> None:
    proxy = make_proxy(broker.port)
    client = make_client(proxy.port, answer_timeout_s=0.5)
    states = RetainedTopics(client, SystemClock())
    states.set("edge-classifierd/porch/driveway/dog/threshold", "0.5")
    client.start()
    wait_until(lambda: len(retained(broker.port)) == 2)
    proxy.cut("swallow")
    time.sleep(0.1)
    states.remove("edge-classifierd/porch/driveway/dog/threshold")
    wait_until(lambda: client.connections == 2)
    wait_until(lambda: retained(broker.port) == [(STATUS, b"online")], 5)


class Bottleneck:
    """A link with limited bandwidth to the broker, and unlimited bandwidth back."""

    def __init__(self, target: int, bytes_a_second: int) -> None:
        self._server = socket.socket()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        self.port = int(self._server.getsockname()[1])
        self._target = target
        self._rate = bytes_a_second
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self._run(self._accept)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(10)
        for connection in self._connections:
            connection.close()

    def _run(self, target: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            broker = socket.create_connection(("127.0.0.1", self._target))
            self._connections += [client, broker]
            self._run(self._pass_on, client, broker, self._rate)
            self._run(self._pass_on, broker, client, None)

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket, rate: int | None) -> None:
        try:
            while data := source.recv(65536 if rate is None else max(1, rate // 20)):
                sink.sendall(data)
                if rate is not None:
                    time.sleep(len(data) / rate)
        except OSError:
            pass
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def test_slow_link_that_sends_a_picture_is_not_given_up(
    broker: Any, subscribe: Any, make_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = subscribe(broker.port)
    link = Bottleneck(broker.port, 40_000)
    client = make_client(link.port, answer_timeout_s=1.0)
    states = RetainedTopics(client, SystemClock())
    states.set("edge-classifierd/porch/driveway/image", bytes(120_000), qos=0)
    states.set("edge-classifierd/porch/driveway/state", "cat")
    client.start()
    wait_until(lambda: subscriber.last("edge-classifierd/porch/driveway/state") == b"cat")
    assert client.connections == 1, caplog.text
    assert client.stop(2.0)
    link.close()


def test_blocked_link_is_given_up_although_data_waits_in_its_buffer(make_client: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = make_client(server.getsockname()[1], answer_timeout_s=1.0)
        client.start()
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"\x20\x03\x00\x00\x00")
            wait_until(lambda: client.connected)
            assert client.publish(Message("t", bytes(6_000_000), qos=1))
            wait_until(lambda: "has not answered for 1 s" in client.status_sentence, 5)


def test_message_for_another_connection_is_not_accepted(broker: Any, make_client: Any) -> None:
    client = make_client(broker.port)
    client.start()
    wait_until(lambda: client.connected)
    assert not client.publish(Message("t", b"x"), connection=2)
    assert client.publish(Message("t", b"x"), connection=client.connection)


def test_stop_is_quick_while_waiting_for_the_next_attempt(make_broker: Any, make_client: Any) -> None:
    client = make_client(make_broker(start=False).port, longest_s=60.0)
    failure_sentence(client)
    assert client.stop(10.0)  # False, had it waited for the attempt


def test_start_does_not_wait_for_the_broker(make_client: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = make_client(silent.getsockname()[1], answer_timeout_s=60.0)
        started = time.monotonic()
        client.start()
        peer, _ = silent.accept()
        assert time.monotonic() - started < 30
        assert client.stop(10.0)
        peer.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_bug_in_a_handler_ends_the_thread(broker: Any, subscribe: Any, make_client: Any) -> None:
    subscriber = subscribe(broker.port)
    client = make_client(broker.port)

    def broken(_: Incoming) -> None:
        raise ZeroDivisionError

    client.subscribe("bug", broken)
    client.start()
    wait_until(lambda: client.connected)
    assert client.alive
    publish(broker.port, "bug", "1")
    wait_until(lambda: not client.alive)
    assert not client.connected
    assert not client.publish(Message("t", b"x"))
    wait_until(lambda: subscriber.last(STATUS) == b"offline")
