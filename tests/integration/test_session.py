"""The session against a real mosquitto: status and last will, refusals in one sentence each, reconnection, stopping."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from edge_classifierd.backoff import Backoff
from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, decode
from edge_classifierd.mqtt.client import MqttClient, default_client_id
from edge_classifierd.mqtt.message import JSON, Incoming, Message, PublishOutcome
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.retained_topics import RetainedTopics
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STATUS = "edge-classifierd/porch/status"
TOPICS = Topics("edge-classifierd", "porch")


def wait_until(condition: Callable[[], Any], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


@pytest.fixture
def make_session() -> Iterator[Callable[..., MqttClient]]:
    """Makes a session, not started: `make_session(port, key=value of the section …)`."""
    made: list[MqttClient] = []

    def make(port: int, *, answer_timeout_s: float = 20.0, longest_s: float = 0.5, **section: Any) -> MqttClient:
        settings = {"host": "127.0.0.1", "port": port, **section}
        session = MqttClient(
            MqttSection.model_validate(settings),
            topics=TOPICS,
            clock=SystemClock(),
            backoff=Backoff(0.05, longest_s),
            answer_timeout_s=answer_timeout_s,
        )
        made.append(session)
        return session

    yield make
    for session in made:
        session.stop(1.0)


def sentence_of(session: MqttClient) -> str:
    """Why the session does not connect."""
    session.start()
    wait_until(lambda: session.status_sentence.startswith("reconnecting"))
    assert not session.connected
    return session.status_sentence


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_online_while_connected_and_offline_after_a_stop(
    broker: Any, subscribe: Any, make_session: Any, protocol: object
) -> None:
    subscriber = subscribe(broker.port)
    session = make_session(broker.port, protocol=protocol)
    assert session.status_sentence == "not started"
    session.start()
    wait_until(lambda: subscriber.last(STATUS) == b"online")
    wait_until(lambda: session.connected)
    assert session.status_sentence == f"connected to 127.0.0.1:{broker.port}"
    started = time.monotonic()
    assert session.stop(2.0)
    assert time.monotonic() - started < 1.0
    wait_until(lambda: subscriber.last(STATUS) == b"offline")
    assert not session.alive
    late = subscribe_late(broker.port)
    assert late == [(STATUS, b"offline")]


def subscribe_late(port: int) -> list[tuple[str, bytes]]:
    """The retained messages, as `mosquitto_sub` sees them."""
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", "#", "-v", "-W", "1"]
    lines = subprocess.run(command, capture_output=True, check=False).stdout.splitlines()
    return [(line.split(b" ", 1)[0].decode(), line.split(b" ", 1)[1]) for line in lines]


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_the_last_will_says_offline_when_the_connection_is_cut(
    broker: Any, subscribe: Any, make_proxy: Any, make_session: Any, protocol: object
) -> None:
    subscriber = subscribe(broker.port)
    proxy = make_proxy(broker.port)
    session = make_session(proxy.port, protocol=protocol)
    session.start()
    wait_until(lambda: subscriber.last(STATUS) == b"online")
    proxy.admitting = False
    proxy.cut("reset")
    wait_until(lambda: subscriber.last(STATUS) == b"offline")
    assert subscribe_late(broker.port) == [(STATUS, b"offline")]
    wait_until(lambda: session.status_sentence.startswith("reconnecting: "))
    proxy.admitting = True
    wait_until(lambda: subscriber.last(STATUS) == b"online")
    assert session.connections == 2


def test_a_broker_that_is_down_is_said_once_and_waited_for(
    make_broker: Any, make_session: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker(start=False)
    session = make_session(broker.port)
    before = time.monotonic()
    session.start()
    assert time.monotonic() - before < 0.2
    wait_until(lambda: "connection refused" in session.status_sentence)
    time.sleep(1.0)
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [f"127.0.0.1:{broker.port}: connection refused; does the broker run, and is mqtt.port right?"]
    broker.start()
    wait_until(lambda: session.connected)


def test_an_unknown_host_is_one_sentence(make_session: Any) -> None:
    assert "no-such-host.invalid:1883: the host name is unknown" in sentence_of(
        make_session(1883, host="no-such-host.invalid")
    )


@pytest.mark.parametrize("host", ["x" * 70 + ".invalid", "a..b"])
def test_an_impossible_host_is_one_sentence(make_session: Any, host: str) -> None:
    assert "check mqtt.host" in sentence_of(make_session(1883, host=host))


@pytest.fixture
def guarded(make_broker: Any, tmp_path: Path) -> Any:
    """A broker with one account, `edge` / `secret-word`, that may write everything but `forbidden/#`."""
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    command = ["mosquitto_passwd", "-b", "-c", str(passwords), "edge", "secret-word"]
    subprocess.run(command, check=True, capture_output=True)
    acl.write_text("user edge\ntopic readwrite edge-classifierd/#\n")
    passwords.chmod(0o644)
    return make_broker(f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}")


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
@pytest.mark.parametrize("password", ["wrong-word", None])
def test_a_refused_login_is_one_sentence_without_the_password_and_waits_longest(
    guarded: Any, make_session: Any, caplog: pytest.LogCaptureFixture, protocol: object, password: str | None
) -> None:
    login = {} if password is None else {"username": "edge", "password": password}
    session = make_session(guarded.port, protocol=protocol, longest_s=60.0, **login)
    with caplog.at_level(logging.DEBUG):
        sentence = sentence_of(session)
        time.sleep(0.5)
    who = "user 'edge'" if password else "a login without user name"
    assert f"the broker refuses {who}" in sentence
    assert "check mqtt.username and mqtt.password" in sentence
    assert "wrong-word" not in caplog.text
    assert caplog.text.count("the broker refuses") == 1, "it is not tried again at once"


def test_the_right_password_lets_in(guarded: Any, make_session: Any) -> None:
    session = make_session(guarded.port, username="edge", password="secret-word")
    session.start()
    wait_until(lambda: session.connected)


def test_what_the_acl_refuses_is_told_and_an_event_refused_stays(
    guarded: Any, make_session: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SystemClock()
    topic = ["forbidden/event"]
    outbox = Outbox(tmp_path / "outbox.sqlite3", topic=lambda _: topic[0], clock=clock)
    session = make_session(guarded.port, username="edge", password="secret-word")
    publisher = Publisher(outbox, session, clock, refused_pause_s=0.3)
    states = RetainedTopics(session, clock)
    states.set("forbidden/state", "ON")
    append(outbox)
    publisher.start()
    session.start()
    wait_until(lambda: publisher.trouble is not None)
    time.sleep(1.0)
    assert outbox.depth == 1
    assert "refuses events on forbidden/event (not authorized)" in str(publisher.trouble)
    assert caplog.text.count("refuses events") == 1
    assert caplog.text.count("forbidden/state: the broker refuses this state") == 1
    acl = guarded.directory.parent / "acl"
    acl.write_text("user edge\ntopic readwrite #\n")
    guarded.restart()
    wait_until(lambda: outbox.depth == 0)
    wait_until(lambda: publisher.trouble is None)
    assert publisher.stop()
    outbox.close()


def test_a_refused_event_is_not_tried_again_at_once(guarded: Any, make_session: Any, tmp_path: Path) -> None:
    clock = SystemClock()
    outbox = Outbox(tmp_path / "outbox.sqlite3", topic=lambda _: "forbidden/event", clock=clock)
    session = make_session(guarded.port, username="edge", password="secret-word")
    publisher = Publisher(outbox, session, clock)
    append(outbox)
    publisher.start()
    session.start()
    wait_until(lambda: publisher.trouble is not None)
    append(outbox)
    time.sleep(2.0)
    assert guarded.log.read_text().count("Denied PUBLISH") == 1
    assert outbox.depth == 2
    assert publisher.stop()
    outbox.close()


def test_a_refused_topic_holds_up_no_other_and_follows_in_order_once_it_is_allowed(
    guarded: Any, make_session: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SystemClock()
    outbox = Outbox(
        tmp_path / "outbox.sqlite3", clock=clock,
        topic=lambda event: ("edge-classifierd/a/event", "forbidden/b", "forbidden/c")[event.seq % 3],
    )  # fmt: skip
    session = make_session(guarded.port, username="edge", password="secret-word")
    publisher = Publisher(outbox, session, clock, refused_pause_s=0.3)
    heard: dict[str, list[int]] = {"edge-classifierd/a/event": [], "forbidden/b": [], "forbidden/c": []}
    reader = make_session(guarded.port, username="edge", password="secret-word", client_id="reader")
    for topic in heard:
        reader.subscribe(topic, lambda one: heard[one.topic].append(decode(one.payload).seq))
    reader.start()
    wait_until(lambda: reader.connected)
    append(outbox, 900)
    publisher.start()
    session.start()
    wait_until(lambda: outbox.depth == 600)
    append(outbox, 3)
    wait_until(lambda: outbox.depth == 602)
    denied = guarded.log.read_text().count("Denied PUBLISH")
    assert "refuses events on forbidden/b (not authorized)" in str(publisher.trouble)
    assert "1 more of its topics" in str(publisher.trouble)
    time.sleep(1.5)
    assert guarded.log.read_text().count("Denied PUBLISH") - denied < 16, "one event is tried, not all"
    assert caplog.text.count("refuses events on") == 2
    (guarded.directory.parent / "acl").write_text("user edge\ntopic readwrite #\n")
    guarded.process.send_signal(signal.SIGHUP)
    wait_until(lambda: outbox.depth == 0)
    wait_until(lambda: publisher.trouble is None)
    assert publisher.stop()
    outbox.close()
    assert heard["edge-classifierd/a/event"] == list(range(3, 904, 3))
    wait_until(lambda: sum(len(one) for one in heard.values()) >= 903)
    assert heard["forbidden/b"] == list(range(1, 904, 3))
    assert heard["forbidden/c"] == list(range(2, 904, 3))


def append(outbox: Outbox, count: int = 1) -> None:
    clock = SystemClock()
    draft = EventDraft(
        type=EventType.DETECTED, device="porch", pipeline="driveway", watch="dog", label="dog", confidence=0.8, top=(),
        time=clock.utc(), clock_synchronised=True, inference_ms=5.0,
        model=ModelIdentity("efficientnet_lite0_int8", "0" * 64, "ai-edge-litert 2.3.0", "cpu"),
    )  # fmt: skip
    for _ in range(count):
        outbox.append([draft])


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_a_stolen_client_id_is_named(
    broker: Any, make_session: Any, caplog: pytest.LogCaptureFixture, protocol: object
) -> None:
    first = make_session(broker.port, protocol=protocol, client_id="twin")
    second = make_session(broker.port, protocol=protocol, client_id="twin")
    first.start()
    wait_until(lambda: first.connected)
    second.start()
    wait_until(lambda: "client id 'twin'" in caplog.text.replace("(MQTT", ""), 20)
    warning = next(record.message for record in caplog.records if "'twin'" in record.message)
    assert "another client" in warning
    assert "device.id or mqtt.client_id" in warning


def test_a_server_that_says_nothing_is_one_sentence(make_session: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        session = make_session(server.getsockname()[1], answer_timeout_s=0.5)
        assert "no answer to the login within" in sentence_of(session)


NOT_MQTT_5 = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x20\x02\x00\x01",
    b"\x20\x03\x00\xf1\x00",
    b"\x20\xff\xff\xff\xff\x7f",
    b"\xff\x00",
    b"",
]


@pytest.mark.parametrize("answer", NOT_MQTT_5)
def test_a_server_that_does_not_speak_mqtt_5_is_one_sentence(make_session: Any, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        session = make_session(server.getsockname()[1], answer_timeout_s=1.0)
        sentence = sentence_of(session)
        expected = "set mqtt.protocol: 3.1.1" if answer == b"\x20\x02\x00\x01" else "MQTT"
        assert expected in sentence
        assert session.alive, "garbage from the network kills nothing"
        session.stop()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority `ca`, servers `good`, `expired`, `elsewhere`, a `client`; and another authority `other`."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "other"):
        openssl(folder, "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")
    # Only its command `ca` lets OpenSSL 3.0 and 3.5 alike issue a certificate that has expired.
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=ca\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\npolicy=policy\n"
        "[policy]\ncommonName=supplied\n"
    )
    (folder / "index").touch()
    hosts = {"good": "IP:127.0.0.1", "expired": "IP:127.0.0.1", "elsewhere": "DNS:elsewhere", "client": "DNS:x"}
    for name, host in hosts.items():
        (folder / f"{name}.ext").write_text(f"subjectAltName={host}\n")
        openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        end = "20200102000000Z" if name == "expired" else "20991231000000Z"
        openssl(
            folder, "ca", "-batch", "-notext", "-config", "ca.conf", "-cert", "ca.crt", "-keyfile", "ca.key",
            "-in", f"{name}.csr", "-out", f"{name}.crt", "-extfile", f"{name}.ext",
            "-startdate", "20200101000000Z", "-enddate", end,
        )  # fmt: skip
    (folder / "garbage.crt").write_text("not a certificate")
    return folder


def tls_broker(make_broker: Any, certificates: Path, name: str, more: str = "") -> Any:
    return make_broker(
        f"allow_anonymous true\ncafile {certificates}/ca.crt\ncertfile {certificates}/{name}.crt\n"
        f"keyfile {certificates}/{name}.key\n{more}"
    )


# paho leaves the socket of a failed handshake to the garbage collector, which closes it.
forgotten_socket = pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")


@forgotten_socket
@pytest.mark.parametrize(
    ("server", "section", "sentence"),
    [
        ("good", {"ca_file": "other.crt"}, "not signed by a trusted authority"),
        ("good", {}, "not signed by a trusted authority"),
        ("elsewhere", {"ca_file": "ca.crt"}, "is for another host name"),
        ("expired", {"ca_file": "ca.crt"}, "has expired"),
        ("good", {"ca_file": "absent.crt"}, "absent.crt: No such file"),
        ("good", {"ca_file": "garbage.crt"}, "garbage.crt: no usable PEM file"),
        ("good", {"ca_file": "ca.crt", "cert_file": "client.crt", "key_file": "good.key"}, "do not match"),
    ],
)
def test_each_tls_mistake_is_one_sentence(  # noqa: PLR0917 - fixtures
    make_broker: Any, make_session: Any, certificates: Path, server: str, section: dict[str, str], sentence: str
) -> None:
    broker = tls_broker(make_broker, certificates, server)
    tls = {key: str(certificates / name) for key, name in section.items()}
    assert sentence in sentence_of(make_session(broker.port, tls=tls))


@forgotten_socket
def test_tls_with_the_right_authority_and_client_certificate_lets_in(
    make_broker: Any, make_session: Any, certificates: Path
) -> None:
    broker = tls_broker(make_broker, certificates, "good", "require_certificate true")
    own = {"cert_file": str(certificates / "client.crt"), "key_file": str(certificates / "client.key")}
    session = make_session(broker.port, tls={"ca_file": str(certificates / "ca.crt"), **own})
    session.start()
    wait_until(lambda: session.connected)
    without = make_session(broker.port, tls={"ca_file": str(certificates / "ca.crt")}, client_id="other")
    assert "client certificate" in sentence_of(without)


@forgotten_socket
def test_plain_and_tls_mixed_up_is_one_sentence(
    broker: Any, make_broker: Any, make_session: Any, certificates: Path
) -> None:
    secured = tls_broker(make_broker, certificates, "good")
    assert "without TLS?" in sentence_of(make_session(secured.port))
    tls = {"ca_file": str(certificates / "ca.crt")}
    assert "TLS" in sentence_of(make_session(broker.port, tls=tls))


def test_states_and_subscriptions_come_back_when_the_broker_has_forgotten_all(
    make_broker: Any, make_session: Any
) -> None:
    broker = make_broker(persistence=False)
    session = make_session(broker.port)
    states = RetainedTopics(session, SystemClock())
    states.set("edge-classifierd/porch/driveway/state", "cat", content_type=JSON, schema=1, expiry_s=86400)
    came: list[Incoming] = []
    session.subscribe("edge-classifierd/porch/+/enabled/set", came.append)
    session.start()
    wait_until(lambda: session.connected)
    broker.restart()
    wait_until(lambda: session.connections == 2)
    wait_until(lambda: len(subscribe_late(broker.port)) == 2)
    publish(broker.port, "edge-classifierd/porch/driveway/enabled/set", "ON")
    wait_until(lambda: came == [Incoming("edge-classifierd/porch/driveway/enabled/set", b"ON", retained=False)])
    publish(broker.port, "edge-classifierd/porch/garden/enabled/set", "OFF", "-r")
    broker_keeps = make_session(broker.port, client_id="late")
    late: list[Incoming] = []
    broker_keeps.subscribe("edge-classifierd/porch/+/enabled/set", late.append)
    broker_keeps.start()
    wait_until(lambda: [one.retained for one in late] == [True])


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_a_subscriber_learns_of_what_kind_a_message_is(broker: Any, make_session: Any, protocol: object) -> None:
    session = make_session(broker.port, protocol=protocol)
    states = RetainedTopics(session, SystemClock())
    states.set("t/json", "{}", content_type=JSON, schema=1, expiry_s=86400)
    states.set("t/jpeg", b"\xff\xd8", content_type="image/jpeg", qos=0)
    session.start()
    wait_until(lambda: session.connected)
    wait_until(lambda: len(subscribe_late(broker.port)) == 3)
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


def publish(port: int, topic: str, payload: str, *more: str) -> None:
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", topic, "-m", payload, *more]
    subprocess.run(command, check=True)


def test_a_large_flood_of_incoming_messages_stops_nothing(broker: Any, make_session: Any, tmp_path: Path) -> None:
    session = make_session(broker.port)
    sizes: list[int] = []
    session.subscribe("edge-classifierd/porch/reload/set", lambda incoming: sizes.append(len(incoming.payload)))
    session.start()
    wait_until(lambda: session.connected)
    (tmp_path / "large").write_bytes(bytes(10_000_000))
    large = ["-t", TOPICS.reload_command, "-f", str(tmp_path / "large")]
    subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), *large], check=True)
    publish(broker.port, "edge-classifierd/porch/reload/set", "x")
    wait_until(lambda: sizes[-1:] == [1])
    assert max(sizes) == 1, "the broker was told not to send 10 MB"


def test_the_whole_queue_goes_before_the_goodbye(broker: Any, subscribe: Any, make_session: Any) -> None:
    subscriber = subscribe(broker.port)
    session = make_session(broker.port)
    session.start()
    wait_until(lambda: session.connected)
    outcomes: list[PublishOutcome] = []
    for count in range(500):
        message = Message("t", str(count).encode(), qos=1, on_outcome=lambda outcome, _: outcomes.append(outcome))
        assert session.publish(message)
    assert session.stop(2.0)
    assert outcomes == [PublishOutcome.DELIVERED] * 500
    assert not session.publish(Message("t", b"late"))
    wait_until(lambda: subscriber.last(STATUS) == b"offline")
    assert [int(payload) for topic, payload, _ in subscriber.messages if topic == "t"] == list(range(500))


def test_stopping_takes_two_seconds_at_most_when_the_broker_swallows_everything(
    broker: Any, make_proxy: Any, make_session: Any
) -> None:
    proxy = make_proxy(broker.port)
    session = make_session(proxy.port)
    session.start()
    wait_until(lambda: session.connected)
    proxy.cut("swallow")
    time.sleep(0.1)
    outcomes: list[PublishOutcome] = []
    session.publish(Message("t", b"x", qos=1, on_outcome=lambda outcome, _: outcomes.append(outcome)))
    started = time.monotonic()
    assert session.stop(1.5)
    assert time.monotonic() - started < 2.0
    assert outcomes == [PublishOutcome.LOST]


def test_a_connection_that_swallows_everything_is_given_up_long_before_the_keepalive(
    broker: Any, make_proxy: Any, make_session: Any
) -> None:
    proxy = make_proxy(broker.port)
    session = make_session(proxy.port, answer_timeout_s=0.5, keepalive=60.0)
    session.start()
    wait_until(lambda: session.connected)
    time.sleep(0.2)
    proxy.cut("swallow")
    time.sleep(0.1)
    assert session.publish(Message("t", b"x", qos=1))
    wait_until(lambda: session.connections == 2, 4)


def test_a_removal_that_a_dying_connection_swallowed_reaches_the_broker_with_the_next(
    broker: Any, make_proxy: Any, make_session: Any
) -> None:
    proxy = make_proxy(broker.port)
    session = make_session(proxy.port, answer_timeout_s=0.5)
    states = RetainedTopics(session, SystemClock())
    states.set("edge-classifierd/porch/driveway/dog/threshold", "0.5")
    session.start()
    wait_until(lambda: len(subscribe_late(broker.port)) == 2)
    proxy.cut("swallow")
    time.sleep(0.1)
    states.remove("edge-classifierd/porch/driveway/dog/threshold")
    wait_until(lambda: session.connections == 2)
    wait_until(lambda: subscribe_late(broker.port) == [(STATUS, b"online")], 5)


class Bottleneck:
    """A link to the broker that takes so many bytes a second upwards; answers come back at once."""

    def __init__(self, target: int, bytes_a_second: int) -> None:
        self._server = socket.socket()
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        self.port = int(self._server.getsockname()[1])
        self._target = target
        self._rate = bytes_a_second
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(10)

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
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                one.close()


def test_a_slow_link_that_is_busy_with_a_picture_is_no_silence(
    broker: Any, subscribe: Any, make_session: Any, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = subscribe(broker.port)
    link = Bottleneck(broker.port, 40_000)
    session = make_session(link.port, answer_timeout_s=1.0)
    states = RetainedTopics(session, SystemClock())
    states.set("edge-classifierd/porch/driveway/image", bytes(120_000), qos=0)
    states.set("edge-classifierd/porch/driveway/state", "cat")
    session.start()
    wait_until(lambda: subscriber.last("edge-classifierd/porch/driveway/state") == b"cat")
    assert session.connections == 1, caplog.text
    assert session.stop(2.0)
    link.close()


def test_a_link_that_takes_nothing_any_more_is_given_up_although_much_waits_to_leave(make_session: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        session = make_session(server.getsockname()[1], answer_timeout_s=1.0)
        session.start()
        client, _ = server.accept()
        with client:
            client.recv(1000)
            client.sendall(b"\x20\x03\x00\x00\x00")
            wait_until(lambda: session.connected)
            assert session.publish(Message("t", bytes(6_000_000), qos=1))
            wait_until(lambda: "has not answered for 1 s" in session.status_sentence, 5)


def test_no_more_is_in_flight_than_the_broker_allows_and_one_when_it_keeps_hanging_up(make_session: Any) -> None:
    came: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(4):
                client, _ = server.accept()
                with client:
                    client.recv(1000)
                    client.sendall(b"\x20\x06\x00\x00\x03\x21\x00\x03")  # CONNACK, receive maximum 3
                    time.sleep(0.4)
                    came.append(client.recv(10000).count(b"edge-classifierd/porch/"))

        thread = threading.Thread(target=serve)
        thread.start()
        session = make_session(server.getsockname()[1])
        states = RetainedTopics(session, SystemClock())
        for name in "abcdefgh":
            states.set(f"edge-classifierd/porch/{name}/state", "ON")
        session.start()
        thread.join(20)
    assert came[:2] == [3, 3], "the broker's receive maximum"
    assert came[2:] == [1, 1], "so that its last word can be heard"


def test_a_subscription_that_is_refused_is_said_once_over_all_reconnections(
    make_session: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(3):
                client, _ = server.accept()
                with client:
                    client.recv(1000)
                    client.sendall(b"\x20\x03\x00\x00\x00")
                    mid = client.recv(1000)[2:4]
                    client.sendall(b"\x90\x04" + mid + b"\x00\x87")  # SUBACK: not authorized
                    time.sleep(0.2)

        thread = threading.Thread(target=serve)
        thread.start()
        session = make_session(server.getsockname()[1])
        session.subscribe("homeassistant/status", lambda _: None)
        session.start()
        thread.join(20)
    assert session.connections == 3
    assert caplog.text.count("subscribing to homeassistant/status is refused (not authorized)") == 1


@pytest.mark.parametrize(("size", "most"), [(1, 2002), (1_000_000, 11)])
def test_what_waits_for_a_slow_broker_is_bounded_in_number_and_in_bytes(
    make_session: Any, size: int, most: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        session = make_session(server.getsockname()[1])
        session.start()
        client, _ = server.accept()
        with client:
            client.recv(1000)
            client.sendall(b"\x20\x06\x00\x00\x03\x21\x00\x01")  # CONNACK, receive maximum 1
            wait_until(lambda: session.connected)
            taken = 0
            while session.publish(Message("t", bytes(size), qos=1)):
                taken += 1
                assert taken <= most
            assert taken > most * 0.7
            session.stop(0.5)


def test_what_was_sent_makes_room_again(broker: Any, make_session: Any) -> None:
    session = make_session(broker.port)
    session.start()
    wait_until(lambda: session.connected)
    sent = threading.Semaphore(0)
    for _ in range(12):
        assert session.publish(Message("t", bytes(1_000_000), qos=1, on_outcome=lambda *_: sent.release()))
        assert sent.acquire(timeout=10)


def test_what_is_too_large_for_the_broker_is_refused_and_nothing_else_suffers(
    make_broker: Any, make_session: Any
) -> None:
    narrow = make_broker("allow_anonymous true\nmax_packet_size 1000")
    session = make_session(narrow.port)
    outcomes: list[tuple[PublishOutcome, str]] = []
    session.start()
    wait_until(lambda: session.connected)
    for size in (2000, 100):
        session.publish(Message("t", bytes(size), qos=1, on_outcome=lambda *outcome: outcomes.append(outcome)))
    wait_until(lambda: len(outcomes) == 2)
    assert outcomes == [
        (PublishOutcome.REFUSED, "larger than the broker's maximum packet size"),
        (PublishOutcome.DELIVERED, ""),
    ]
    assert session.connections == 1


def test_a_broker_without_retained_messages_or_qos_1_is_sent_neither(make_session: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        session = make_session(server.getsockname()[1])
        session.start()
        client, _ = server.accept()
        with client:
            client.recv(1000)
            client.sendall(b"\x20\x07\x00\x00\x04\x24\x00\x25\x00")  # CONNACK, QoS 0 at most, no retain
            wait_until(lambda: session.connected)
            said = client.recv(1000)
            assert b"online" in said
            assert said[0] == 0x30, "PUBLISH, QoS 0, not retained"
            session.stop(0.5)


def test_what_was_meant_for_another_connection_is_not_taken(broker: Any, make_session: Any) -> None:
    session = make_session(broker.port)
    session.start()
    wait_until(lambda: session.connected)
    assert not session.publish(Message("t", b"x"), connection=2)
    assert session.publish(Message("t", b"x"), connection=session.connection)


def test_stopping_is_quick_while_waiting_for_the_next_attempt(make_broker: Any, make_session: Any) -> None:
    session = make_session(make_broker(start=False).port, longest_s=60.0)
    sentence_of(session)
    started = time.monotonic()
    assert session.stop()
    assert time.monotonic() - started < 0.5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_handler_does_not_go_unnoticed(broker: Any, subscribe: Any, make_session: Any) -> None:
    subscriber = subscribe(broker.port)
    session = make_session(broker.port)

    def broken(_: Incoming) -> None:
        raise ZeroDivisionError

    session.subscribe("bug", broken)
    session.start()
    wait_until(lambda: session.connected)
    assert session.alive
    publish(broker.port, "bug", "1")
    wait_until(lambda: not session.alive)
    assert not session.connected
    assert not session.publish(Message("t", b"x"))
    wait_until(lambda: subscriber.last(STATUS) == b"offline")


def test_the_client_id_is_the_machines_own() -> None:
    one = default_client_id("porch")
    assert one.startswith("edge-classifierd-porch-")
    assert len(one.rsplit("-", 1)[1]) == 8
    assert one == default_client_id("porch")
