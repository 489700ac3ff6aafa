"""Logins of cameras, over real sockets: any user name and password, redirects, and nonces that grow old."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from stream_servers import Server

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.network.http_client import HttpRequest
from edge_classifierd.frames.network.stream_source import NetworkSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BASIC = 'Basic realm="cam"'
DIGEST = 'Digest realm="cam", nonce="1", qop="auth"'
PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "/?#")
"""What a password may hold without percent form."""


class LoginServer(Server):
    """Answers 200 to the right login, else 401; `/away` is redirected to `location`."""

    def __init__(self, login: bytes, *challenges: str, location: str = "", tls: ssl.SSLContext | None = None) -> None:
        self._login = login
        self._challenges = challenges
        self.location = location
        self.tls = tls
        self.requests: list[bytes] = []
        super().__init__()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def serve(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                return
            head += data
        self.requests.append(head)
        if head.startswith(b"GET /away "):
            answer = f"HTTP/1.1 302 Found\r\nLocation: {self.location}\r\n"
        elif self._is_right(head):
            answer = "HTTP/1.1 200 OK\r\n"
        else:
            lines = "".join(f"WWW-Authenticate: {one}\r\n" for one in self._challenges)
            answer = f"HTTP/1.1 401 Unauthorized\r\n{lines}"
        connection.sendall(f"{answer}Content-Length: 0\r\n\r\n".encode())

    def _is_right(self, head: bytes) -> bool:
        found = re.search(rb"\r\nAuthorization: (\w+) (.*?)\r\n", head)
        if found is None:
            return False
        if found[1] == b"Basic":
            return base64.b64decode(found[2]) == self._login
        found_fields = re.findall(rb'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))', found[2])
        fields = {name: quoted or plain for name, quoted, plain in found_fields}
        user, _, password = self._login.partition(b":")
        realm = self._challenges[0].partition('realm="')[2].partition('"')[0].encode()

        def hashed(*texts: bytes) -> bytes:
            return hashlib.md5(b":".join(texts)).hexdigest().encode()

        right = hashed(
            hashed(user, realm, password), fields[b"nonce"], fields[b"nc"], fields[b"cnonce"], b"auth",
            hashed(b"GET", fields[b"uri"]),
        )  # fmt: skip
        return re.sub(rb"\\(.)", rb"\1", fields[b"username"]) == user and fields[b"response"] == right


class StaleServer(LoginServer):
    """Refuses the first `stale` right logins, each with a new nonce."""

    def __init__(self, stale: int) -> None:
        self._stale = stale
        super().__init__(b"me:secret", DIGEST)

    def _is_right(self, head: bytes) -> bool:
        right = super()._is_right(head)
        if right and self._stale:
            self._stale -= 1
            self._challenges = (f'Digest realm="cam", nonce="{self._stale + 10}", stale=TRUE, qop="auth"',)
            return False
        return right


class RtspLogins(Server):
    """Refuses every login, and keeps it."""

    scheme = "rtsp"

    def __init__(self) -> None:
        self.logins: list[bytes] = []
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        while data := connection.recv(65536):
            self.logins += map(base64.b64decode, re.findall(rb"Authorization: Basic (\S+)", data))
            sequence = re.search(rb"CSeq: (\d+)", data)
            number = sequence[1].decode() if sequence else "1"
            connection.sendall(
                f"RTSP/1.0 401 Unauthorized\r\nCSeq: {number}\r\nWWW-Authenticate: {BASIC}\r\n\r\n".encode()
            )


@pytest.fixture
def started() -> Iterator[Callable[[LoginServer], LoginServer]]:
    servers: list[Server] = []

    def keep(server: LoginServer) -> LoginServer:
        servers.append(server)
        return server

    yield keep
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder: Path = tmp_path_factory.mktemp("tls")
    key, file = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=camera", "-keyout", key, "-out", file],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context


def fetch(url: str) -> None:
    request = HttpRequest(url, timeout_s=60)
    try:
        request.open()
    finally:
        request.close()
    assert request.status == 200


@pytest.mark.parametrize("challenge", [BASIC, DIGEST, f"{DIGEST}, charset=UTF-8"])
@pytest.mark.parametrize(
    ("user", "password"),
    [("me", PLAIN), ("a[b]c@home.de", "s3cr[et"), ("dom\\ain", "a[s3cr]et"), ('a"b', "12@34"), ("müller", "½"),
     ("żółw", "ж猫🐈"), ("me", "")],
)  # fmt: skip
def test_any_login_reaches_the_camera(
    started: Callable[[LoginServer], LoginServer], challenge: str, user: str, password: str
) -> None:
    server = started(LoginServer(f"{user}:{password}".encode(), challenge))
    for login in (f"{user}:{password}", f"{quote(user, safe='')}:{quote(password, safe='')}"):
        fetch(f"http://{login}@127.0.0.1:{server.port}/live")


@pytest.mark.parametrize("challenge", [BASIC, DIGEST])
def test_a_login_may_be_in_another_encoding(started: Callable[[LoginServer], LoginServer], challenge: str) -> None:
    server = started(LoginServer("müller:ß".encode("latin-1"), challenge))
    fetch(f"http://m%FCller:%DF@127.0.0.1:{server.port}/live")


def test_a_realm_may_be_in_any_encoding(started: Callable[[LoginServer], LoginServer]) -> None:
    server = started(LoginServer(b"me:secret", DIGEST.replace("cam", "Büro, Basic 猫")))
    fetch(f"http://me:secret@127.0.0.1:{server.port}/live")


@pytest.mark.parametrize("login", [f"me:{PLAIN}", "a[b]c@home.de:s3cr[et", "żółw:a[s3cr]et", "müller:½"])
def test_any_login_reaches_a_camera_with_rtsp(login: str) -> None:
    server = RtspLogins()
    source = NetworkSource(server.url.replace("me:secret", login), stall_timeout_s=60, clock=SystemClock())
    with pytest.raises(
        SourceError, match=r"^rtsp://\*\*\*@127\.0\.0\.1:\d+/live: 401 unauthorised; check the user name"
    ):
        source.open()
    source.close()
    server.stop()
    assert set(server.logins) == {login.encode()}


@pytest.mark.parametrize("password", ["12@34/56", "s3cr/et", "12?34", "12#34"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_ambiguous_address_is_an_expected_failure_without_the_password(scheme: str, password: str) -> None:
    with pytest.raises(SourceError, match=r"^https?://\*\*\*@camera/live: has .*write / as %2F, \? as %3F") as caught:
        fetch(f"{scheme}://admin:{password}@camera/live")
    assert not re.search(r"s3cr|et\b|12|34|56", str(caught.value))


@pytest.mark.parametrize(
    ("host", "location"),
    [
        ("LocalHost", "http://localhost:PORT/live"),
        ("localhost", "http://LOCALHOST.:PORT/live"),
        ("localhost", "//localhost:PORT/live"),
        ("localhost", "live"),
        ("localhost", "/büro 猫"),
        ("localhost", "http://other:wrong@localhost:PORT/live"),
        ("127.0.0.1", "http://me:s%5Bcret@localhost:PORT/live"),
    ],
)
def test_a_redirect_to_the_same_camera_takes_the_login_along(
    started: Callable[[LoginServer], LoginServer], monkeypatch: pytest.MonkeyPatch, host: str, location: str
) -> None:
    resolve = socket.getaddrinfo  # the hosts file has no names with a dot at the end
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, *rest: resolve(name.removesuffix("."), *rest))
    server = started(LoginServer(b"me:s[cret", DIGEST))
    server.location = location.replace("PORT", str(server.port))
    fetch(f"http://me:s[cret@{host}:{server.port}/away")


def test_a_redirect_to_tls_takes_the_login_along(
    started: Callable[[LoginServer], LoginServer], tls: ssl.SSLContext
) -> None:
    safe = started(LoginServer(b"me:secret", BASIC, tls=tls))
    plain = started(LoginServer(b"me:secret", BASIC, location=f"https://localhost:{safe.port}/live"))
    fetch(f"http://me:secret@localhost:{plain.port}/away")


@pytest.mark.parametrize("away", ["another host", "no TLS"])
def test_a_login_stays_on_its_host_and_in_tls(
    started: Callable[[LoginServer], LoginServer], tls: ssl.SSLContext, away: str
) -> None:
    target = started(LoginServer(b"me:secret", BASIC))
    host, scheme = ("127.0.0.1", "http") if away == "another host" else ("localhost", "https")
    server = started(LoginServer(b"me:secret", BASIC, tls=tls if scheme == "https" else None))
    server.location = f"http://{host}:{target.port}/live?token=hunter2"
    with pytest.raises(SourceError) as caught:
        fetch(f"{scheme}://me:secret@localhost:{server.port}/away")
    assert str(caught.value) == (
        f"{scheme}://***@localhost:{server.port}/away: redirects to http://{host}:{target.port}/live?***, which asks "
        "for a login; give that address, with the user name and password"
    )
    assert len(target.requests) == 1
    assert b"Authorization" not in target.requests[0]


@pytest.mark.parametrize("location", ["http://[bad/", "http://a:secret/", "ftp://camera/", "mailto:me", "http://½[/"])
def test_a_wrong_redirect_is_an_expected_failure(started: Callable[[LoginServer], LoginServer], location: str) -> None:
    server = started(LoginServer(b"me:secret", BASIC, location=location))
    with pytest.raises(SourceError, match=r"redirects to something that is not HTTP; check the address$"):
        fetch(f"http://me:secret@127.0.0.1:{server.port}/away")


def test_a_nonce_that_grew_old_is_replaced_once(started: Callable[[LoginServer], LoginServer]) -> None:
    server = started(StaleServer(1))
    fetch(f"http://me:secret@127.0.0.1:{server.port}/live")
    assert len(server.requests) == 3
    server = started(StaleServer(100))
    with pytest.raises(SourceError, match="401 unauthorised; check the user name and password"):
        fetch(f"http://me:secret@127.0.0.1:{server.port}/live")
    assert len(server.requests) == 3


def test_a_wrong_password_is_sent_once(started: Callable[[LoginServer], LoginServer]) -> None:
    server = started(LoginServer(b"me:secret", DIGEST))
    with pytest.raises(SourceError, match="401 unauthorised; check the user name and password"):
        fetch(f"http://me:wrong@127.0.0.1:{server.port}/live")
    assert len(server.requests) == 2
