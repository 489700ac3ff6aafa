"""The page over HTTPS and IPv6, on real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from pipelines_scene import until
from web_scene import BASIC, PASSWORD, free_port, listens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.web.server import PageServer

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")


def make_certificate(folder: Path, name: str) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
    about = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,IP:::1", "-days", "2"]
    command = ["openssl", "req", "-x509", *key, "-out", f"{name}.crt", *about]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificates `first` and `second` with their keys."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("first", "second"):
        make_certificate(folder, name)
    return folder


def put_in_use(certificates: Path, certificate: str, key: str) -> None:
    shutil.copy(certificates / f"{certificate}.crt", certificates / "used.crt")
    shutil.copy(certificates / f"{key}.key", certificates / "used.key")


def presented(port: int, *trusted: Path) -> str | None:
    """Return the name of the server's certificate; None when no connection can be made."""
    context = ssl.create_default_context()
    for certificate in trusted:
        context.load_verify_locations(certificate)
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=10) as one,
        context.wrap_socket(one, server_hostname="127.0.0.1") as secured,
    ):
        (((_, name),),) = secured.getpeercert()["subject"]  # type: ignore[index,misc]
        return str(name)
    return None


def test_a_page_with_a_certificate_speaks_https_and_takes_a_new_one_at_a_reload(
    serve: Callable[..., PageServer], certificates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, trusted = free_port(), [certificates / "first.crt", certificates / "second.crt"]
    put_in_use(certificates, "first", "first")
    used = {"certificate": str(certificates / "used.crt"), "key": str(certificates / "used.key")}
    server = serve(listen=f"127.0.0.1:{port}", tls=used)
    until(lambda: presented(port, *trusted) == "first")
    context = ssl.create_default_context(cafile=str(trusted[0]))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    origin = {"Origin": f"https://127.0.0.1:{port}", "Content-Type": "application/json"}
    connection.request("POST", "/api/session", json.dumps({"password": PASSWORD}), origin)
    answer = connection.getresponse()
    assert answer.status == 204
    assert "; Secure" in str(answer.getheader("Set-Cookie"))
    answer.read()

    put_in_use(certificates, "second", "first")
    server.reload_certificate()
    until(lambda: "the previous certificate stays in use" in caplog.text)
    assert presented(port, *trusted) == "first"
    put_in_use(certificates, "second", "second")
    server.reload_certificate()
    until(lambda: presented(port, *trusted) == "second")
    connection.request("GET", "/healthz")  # the connection with the former certificate goes on
    assert connection.getresponse().status == 200
    connection.close()


def test_a_certificate_that_cannot_be_read_is_a_reason(serve: Callable[..., PageServer], certificates: Path) -> None:
    put_in_use(certificates, "first", "second")
    used = {"certificate": str(certificates / "used.crt"), "key": str(certificates / "used.key")}
    server = serve(listen=f"127.0.0.1:{free_port()}", tls=used)
    until(lambda: server.reason is not None)
    assert server.reason is not None
    assert "key" in server.reason.sentence.lower()


def test_an_ipv6_address_also_takes_ipv4(serve: Callable[..., PageServer]) -> None:
    port = free_port()
    serve(listen=f"[::]:{port}")
    addresses = {"127.0.0.1": "127.0.0.1"}
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))  # where the machine has IPv6
        addresses["::1"] = "[::1]"
    for address, host in addresses.items():
        until(lambda address=address: listens(port, address))
        connection = http.client.HTTPConnection(address, port, timeout=10)
        origin = {"Origin": f"http://{host}:{port}", "Content-Type": "application/json", "Authorization": BASIC}
        connection.request("DELETE", "/api/session", headers=origin)
        assert connection.getresponse().status == 204
        connection.close()
