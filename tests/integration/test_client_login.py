"""Attempts to connect that fail, each with one sentence: network, login, protocol, TLS."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from client_scene import failure_sentence, wait_until

from edge_classifierd.mqtt.broker_choice import default_client_id

if TYPE_CHECKING:
    from pathlib import Path


def test_unreachable_broker_is_logged_once_and_retried(
    make_broker: Any, make_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker(start=False)
    client = make_client(broker.port)
    client.start()
    wait_until(lambda: "connection refused" in client.status_sentence)
    time.sleep(1.0)
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [f"127.0.0.1:{broker.port}: connection refused; does the broker run, and is mqtt.port right?"]
    broker.start()
    wait_until(lambda: client.connected)


def test_unknown_host_is_one_sentence(make_client: Any) -> None:
    assert "no-such-host.invalid:1883: the host name is unknown" in failure_sentence(
        make_client(1883, host="no-such-host.invalid")
    )


@pytest.mark.parametrize("host", ["x" * 70 + ".invalid", "a..b"])
def test_invalid_host_is_one_sentence(make_client: Any, host: str) -> None:
    assert "check mqtt.host" in failure_sentence(make_client(1883, host=host))


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
@pytest.mark.parametrize("password", ["wrong-word", None])
def test_refused_login_is_one_sentence_without_the_password_and_waits_longest(
    guarded: Any, make_client: Any, caplog: pytest.LogCaptureFixture, protocol: object, password: str | None
) -> None:
    login = {} if password is None else {"username": "edge", "password": password}
    client = make_client(guarded.port, protocol=protocol, longest_s=60.0, **login)
    with caplog.at_level(logging.DEBUG):
        sentence = failure_sentence(client)
        time.sleep(0.5)
    who = "user 'edge'" if password else "a login without user name"
    assert f"the broker refuses {who}" in sentence
    assert "check mqtt.username and mqtt.password" in sentence
    assert "wrong-word" not in caplog.text
    assert caplog.text.count("the broker refuses") == 1, "it is not tried again at once"


def test_correct_password_connects(guarded: Any, make_client: Any) -> None:
    client = make_client(guarded.port, username="edge", password="secret-word")
    client.start()
    wait_until(lambda: client.connected)


@pytest.mark.parametrize("protocol", [5, "3.1.1"])
def test_client_id_used_twice_is_named(
    broker: Any, make_client: Any, caplog: pytest.LogCaptureFixture, protocol: object
) -> None:
    first = make_client(broker.port, protocol=protocol, client_id="twin")
    second = make_client(broker.port, protocol=protocol, client_id="twin")
    first.start()
    wait_until(lambda: first.connected)
    second.start()
    wait_until(lambda: "client id 'twin'" in caplog.text.replace("(MQTT", ""), 20)
    warning = next(record.message for record in caplog.records if "'twin'" in record.message)
    assert "another client" in warning
    assert "device.id or mqtt.client_id" in warning


def test_silent_server_is_one_sentence(make_client: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = make_client(server.getsockname()[1], answer_timeout_s=0.5)
        assert "no answer to the login within" in failure_sentence(client)


NOT_MQTT_5 = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x20\x02\x00\x01",
    b"\x20\x03\x00\xf1\x00",
    b"\x20\xff\xff\xff\xff\x7f",
    b"\xff\x00",
    b"",
]


@pytest.mark.parametrize("answer", NOT_MQTT_5)
def test_server_without_mqtt_5_is_one_sentence(make_client: Any, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1000)
                    peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        client = make_client(server.getsockname()[1], answer_timeout_s=1.0, protocol=5)
        sentence = failure_sentence(client)
        expected = "set mqtt.protocol: 3.1.1" if answer == b"\x20\x02\x00\x01" else "MQTT"
        assert expected in sentence
        assert client.alive, "garbage from the network kills nothing"
        client.stop()
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
def test_each_tls_error_is_one_sentence(  # noqa: PLR0917 - fixtures
    make_broker: Any, make_client: Any, certificates: Path, server: str, section: dict[str, str], sentence: str
) -> None:
    broker = tls_broker(make_broker, certificates, server)
    tls = {key: str(certificates / name) for key, name in section.items()}
    assert sentence in failure_sentence(make_client(broker.port, tls=tls))


def test_server_name_is_the_name_that_the_certificate_must_have(
    make_broker: Any, make_client: Any, certificates: Path
) -> None:
    broker = tls_broker(make_broker, certificates, "elsewhere")
    client = make_client(broker.port, tls={"ca_file": str(certificates / "ca.crt"), "server_name": "elsewhere"})
    client.start()
    wait_until(lambda: client.connected)


@forgotten_socket
def test_tls_with_the_right_authority_and_client_certificate_connects(
    make_broker: Any, make_client: Any, certificates: Path
) -> None:
    broker = tls_broker(make_broker, certificates, "good", "require_certificate true")
    own = {"cert_file": str(certificates / "client.crt"), "key_file": str(certificates / "client.key")}
    client = make_client(broker.port, tls={"ca_file": str(certificates / "ca.crt"), **own})
    client.start()
    wait_until(lambda: client.connected)
    without = make_client(broker.port, tls={"ca_file": str(certificates / "ca.crt")}, client_id="other")
    assert "client certificate" in failure_sentence(without)


@forgotten_socket
def test_plain_and_tls_ports_mixed_up_is_one_sentence(
    broker: Any, make_broker: Any, make_client: Any, certificates: Path
) -> None:
    secured = tls_broker(make_broker, certificates, "good")
    assert "without TLS?" in failure_sentence(make_client(secured.port))
    tls = {"ca_file": str(certificates / "ca.crt")}
    assert "TLS" in failure_sentence(make_client(broker.port, tls=tls))


def test_client_id_is_derived_from_the_machine() -> None:
    one = default_client_id("porch")
    assert one.startswith("edge-classifierd-porch-")
    assert len(one.rsplit("-", 1)[1]) == 8
    assert one == default_client_id("porch")
