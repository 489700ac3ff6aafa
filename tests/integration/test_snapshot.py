"""A camera that sends one picture per request, from a real server."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from moving_pictures import encoded, level, picture
from stream_servers import EndlessServer, HttpServer, RtspServer, Server, SnapshotServer

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.camera import Camera, CaptureStatus
from edge_classifierd.frames.capture import Capture
from edge_classifierd.frames.network.snapshot import SnapshotSource
from edge_classifierd.frames.network.stream_source import NetworkSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PICTURES = [encoded(picture(value)) for value in (40, 120, 200)]


@pytest.fixture
def serve() -> Iterator[Callable[[Server], Server]]:
    servers: list[Server] = []

    def keep(server: Server) -> Server:
        servers.append(server)
        return server

    yield keep
    for server in servers:
        server.stop()


def source(
    server: Server, *, interval_s: float = 0.05, verify: bool = False, ca_file: Path | None = None
) -> SnapshotSource:
    made = SnapshotSource(
        server.url, interval_s=interval_s, verify=verify, ca_file=ca_file, stall_timeout_s=3, clock=SystemClock()
    )
    made.open()
    return made


def levels(made: SnapshotSource, count: int) -> list[int]:
    return [round(level(made.read().picture) / 40) * 40 for _ in range(count)]


def test_pictures_come_at_the_interval(serve: Callable[[Server], Server]) -> None:
    server = SnapshotServer(PICTURES)
    began_s = time.monotonic()
    made = source(serve(server), interval_s=0.2)
    assert made.live
    assert levels(made, 3) == [40, 120, 200]
    assert 0.35 < time.monotonic() - began_s < 5
    assert server.connections == 3


def test_an_unchanged_picture_is_not_sent_again_and_is_no_frame(serve: Callable[[Server], Server]) -> None:
    server = SnapshotServer(PICTURES, etag=True)
    assert levels(source(serve(server)), 3) == [40, 120, 200]
    assert ["If-None-Match" in request for request in server.requests] == [False, True, True, True, True]


@pytest.mark.parametrize(
    "login",
    [
        'Basic realm="cam"',
        'Digest realm="cam", nonce="1", qop="auth"',
        'Digest realm="cam", nonce="1", algorithm=SHA-256, qop="auth"',
    ],
)
def test_a_login_is_answered(serve: Callable[[Server], Server], login: str) -> None:
    server = SnapshotServer(PICTURES, login=login)
    assert levels(source(serve(server)), 1) == [40]
    assert f"Authorization: {login.split(maxsplit=1)[0]} " in server.requests[1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HttpServer("404 Not Found"), "404 not found; check the path"),
        (HttpServer, "sends a video; use `type: stream`"),
        (lambda: SnapshotServer([b"<html>"]), "answers with a web page (text/html); give the address"),
        (
            lambda: SnapshotServer([b"Busy"], kind="text/html; charset=utf-8"),
            "answers with a web page (text/html); give",
        ),
        (lambda: SnapshotServer([b"{}"], kind="application/json"), "something that is not a JPEG (application/json); "),
        (lambda: SnapshotServer([b"\x89PNG\r\n\x1a\n"]), "answers with a PNG picture; give the address"),
        (lambda: SnapshotServer([b"\0\0\0\x1cftypheic"]), "answers with a HEIC picture; give the address"),
        (lambda: SnapshotServer([b"\0\0\0\x1cftypavif"]), "answers with an AVIF picture; give the address"),
        (lambda: SnapshotServer([b""]), "answers with an empty body; check the address and the camera"),
        (lambda: SnapshotServer([b"\r\n"]), "answers with an empty body; check the address and the camera"),
        (lambda: HttpServer("304 Not Modified"), "304 not modified, although it has sent no picture; check the camera"),
        (lambda: SnapshotServer([PICTURES[0][:300]]), "10 damaged or incomplete pictures in a row; check the camera"),
        (lambda: EndlessServer(b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 60_000), "larger than 16 MB; check"),
    ],
)
def test_a_failure_is_one_sentence_without_secrets(
    serve: Callable[[Server], Server], make: Callable[[], Server], words: str
) -> None:
    made = source(serve(make()))
    with pytest.raises(SourceError, match=r"^http://\*\*\*@127\.0\.0\.1:\d+/live: ") as caught:
        made.read()
    assert words in str(caught.value)
    made.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SnapshotServer([PICTURES[0], PICTURES[1][:-200], PICTURES[1], PICTURES[2][:-200], PICTURES[2]]),
        lambda: SnapshotServer([PICTURES[0], PICTURES[1], PICTURES[1], PICTURES[2]], stalls=frozenset({2, 5})),
    ],
)
def test_a_damaged_or_incomplete_picture_is_skipped_with_one_warning(
    serve: Callable[[Server], Server], caplog: pytest.LogCaptureFixture, make: Callable[[], Server]
) -> None:
    made = source(serve(make()))
    assert levels(made, 3) == [40, 120, 200]
    assert made.skipped >= 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "skipped a damaged or incomplete picture" in caplog.text


def test_white_space_before_the_picture_is_accepted(serve: Callable[[Server], Server]) -> None:
    assert levels(source(serve(SnapshotServer([b"\r\n " + PICTURES[0]]))), 1) == [40]


def test_a_camera_that_answers_304_for_ever_stays_delivering(serve: Callable[[Server], Server]) -> None:
    server = SnapshotServer(PICTURES[:1], etag=True)
    clock = SystemClock()
    made = SnapshotSource(serve(server).url, interval_s=0.05, stall_timeout_s=1, clock=clock)
    reader = Camera(made, name="porch", clock=clock, stall_timeout_s=1)
    statuses: list[CaptureStatus] = []
    capture = Capture(
        reader, lambda frame: level(frame.picture), name="porch", on_status=lambda status, _: statuses.append(status)
    )
    reader.attach(capture)
    capture.start()
    until_s = time.monotonic() + 4
    while time.monotonic() < until_s or len(server.requests) < 10:
        capture.take(0.1)
        reader.check_stall()
    assert capture.stop(10.0)
    assert statuses[0] is CaptureStatus.DELIVERING
    assert CaptureStatus.RETRYING not in statuses


def test_a_wait_and_a_request_can_be_cancelled(serve: Callable[[Server], Server]) -> None:
    made = source(serve(SnapshotServer(PICTURES)), interval_s=60)
    made.read()
    threading.Timer(0.2, made.cancel).start()
    began_s = time.monotonic()
    with pytest.raises(SourceError, match="cancelled"):
        made.read()
    assert time.monotonic() - began_s < 2
    assert made.pauses_until_s <= time.monotonic()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, file = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=camera", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", file],
        check=True, capture_output=True,
    )  # fmt: skip
    return file, key


@pytest.mark.parametrize("kind", ["snapshot", "https", "rtsps"])
def test_a_certificate_is_checked_when_asked_for(
    serve: Callable[[Server], Server], certificate: tuple[Path, Path], kind: str
) -> None:
    file, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    server = serve(RtspServer() if kind == "rtsps" else SnapshotServer(PICTURES, tls=context))
    server.tls, server.scheme = context, "rtsps" if kind == "rtsps" else "https"

    def look(*, verify: bool, ca_file: Path | None = None) -> None:
        if kind == "snapshot":
            source(server, verify=verify, ca_file=ca_file).read()
            return
        made = NetworkSource(server.url, verify=verify, ca_file=ca_file, stall_timeout_s=3, clock=SystemClock())
        made.open()
        made.read()
        made.close()

    look(verify=False)
    look(verify=True, ca_file=file)
    with pytest.raises(SourceError, match=r"`ca_file` \S*absent\.pem: no such file; check the path"):
        look(verify=True, ca_file=file.with_name("absent.pem"))
    with pytest.raises(SourceError, match=r"(https|rtsps)://\*\*\*@.*its certificate is not trusted .*; set `ca_file`"):
        look(verify=True)


def test_a_refusal_of_rtsps_is_named(serve: Callable[[Server], Server], certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = serve(RtspServer(statuses={"SETUP": "453 Not Enough Bandwidth"}, login='Basic realm="x"'))
    server.tls, server.scheme = context, "rtsps"
    made = NetworkSource(server.url, verify=True, ca_file=certificate[0], stall_timeout_s=5, clock=SystemClock())
    with pytest.raises(SourceError, match="453 Not Enough Bandwidth; too many may be watching it"):
        made.open()
    made.close()
