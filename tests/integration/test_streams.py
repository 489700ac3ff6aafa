"""Network cameras, read through real FFmpeg from real sockets."""

from __future__ import annotations

import logging
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Literal

import pytest
from moving_pictures import encoded, level, picture
from stream_servers import (
    LEVELS,
    EndlessServer,
    HttpServer,
    RtspServer,
    Server,
    SilentServer,
    SnapshotServer,
    SoundServer,
    until,
)

from edge_classifierd.backoff import Backoff
from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.camera import Camera, CaptureStatus
from edge_classifierd.frames.capture import Capture
from edge_classifierd.frames.network.stream_source import NetworkSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_classifierd.frames.base import Frame


@pytest.fixture
def serve() -> Iterator[Callable[[Server], Server]]:
    servers: list[Server] = []

    def keep(server: Server) -> Server:
        servers.append(server)
        return server

    yield keep
    for server in servers:
        server.stop()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    until(no_threads)


def no_threads() -> bool:
    return not any(thread.name.startswith(("stream", "capture")) for thread in threading.enumerate())


def camera(server: Server, stall_timeout_s: float = 5.0) -> NetworkSource:
    return NetworkSource(server.url, stall_timeout_s=stall_timeout_s, clock=SystemClock())


def opened(server: Server) -> NetworkSource:
    source = camera(server)
    source.open()
    return source


def drain(source: NetworkSource, arrived_s: list[float] | None = None) -> None:
    """Read until it fails."""
    while True:
        source.read()
        if arrived_s is not None:
            arrived_s.append(time.monotonic())


def grey(frame: Frame) -> int:
    return min(LEVELS, key=lambda value: abs(value - level(frame.picture)))


@pytest.mark.parametrize("make", [HttpServer, RtspServer])
def test_a_network_camera_delivers_its_frames_in_order(
    serve: Callable[[Server], Server], make: Callable[[], Server], capfd: pytest.CaptureFixture[str]
) -> None:
    source = camera(serve(make()))
    assert source.live
    source.open()
    frames = [source.read() for _ in range(15)]
    source.close()
    until(no_threads, 1.0)  # while the camera goes on sending
    greys = [grey(frame) for frame in frames]
    start = LEVELS.index(greys[0])
    assert greys == [LEVELS[(start + at) % 5] for at in range(15)]
    assert [frame.sequence for frame in frames] == list(range(15))
    assert frames == sorted(frames, key=lambda frame: frame.captured_s)
    assert source.skipped < 5, "at most those before the first key frame, which is every fifth"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("make", [HttpServer, RtspServer])
def test_a_network_camera_is_open_within_a_second_and_its_frames_are_fresh(
    serve: Callable[[Server], Server], make: Callable[[], Server]
) -> None:
    source = camera(serve(make()))
    began_s = time.monotonic()
    source.open()
    source.read()
    assert time.monotonic() - began_s < 2.0
    for _ in range(30):
        frame = source.read()
    assert time.monotonic() - frame.captured_s < 0.5
    source.close()


@pytest.mark.parametrize(
    "server",
    [
        lambda: HttpServer("200 OK\r\nContent-Length: 0"),
        lambda: HttpServer("200 OK\r\nContent-Length: 900"),
        lambda: HttpServer(kind="text/html"),
        lambda: HttpServer(kind="text/html", bare=True),
    ],
    ids=["length 0", "short length", "text/html", "bare text/html"],
)
def test_motion_jpeg_is_found_whatever_its_head_says(
    serve: Callable[[Server], Server], server: Callable[[], Server]
) -> None:
    source = camera(serve(server()))
    source.open()
    assert [source.read().sequence for _ in range(15)] == list(range(15))
    source.close()


@pytest.mark.parametrize("make", [HttpServer, RtspServer])
def test_the_end_of_a_live_stream_is_a_failure(serve: Callable[[Server], Server], make: Callable[..., Server]) -> None:
    source = camera(serve(make(frames=60)))
    source.open()
    with pytest.raises(SourceError, match=r"^(rtsp|http)://\*\*\*@127\.0\.0\.1:\d+/live: .*(ended|closed|reset).*; "):
        drain(source)
    source.close()


@pytest.mark.parametrize("make", [HttpServer, RtspServer])
def test_a_stream_that_stalls_is_a_failure_after_the_stall_timeout(
    serve: Callable[[Server], Server], make: Callable[..., Server]
) -> None:
    source = camera(serve(make(frames=60, then="stall")), stall_timeout_s=1.0)
    source.open()
    arrived_s: list[float] = []
    with pytest.raises(SourceError, match=r"no (picture|data)( for| within) 1 s; check"):
        drain(source, arrived_s)
    assert 0.5 <= time.monotonic() - arrived_s[-1] < 10
    source.close()


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_server_that_says_nothing_is_a_failure_after_the_stall_timeout(
    serve: Callable[[Server], Server], scheme: str
) -> None:
    source = camera(serve(SilentServer(scheme)), stall_timeout_s=0.5)
    began_s = time.monotonic()
    with pytest.raises(SourceError, match=r": no answer within 0\.5 s; check the camera and the network"):
        source.open()
    assert 0.4 <= time.monotonic() - began_s < 10
    source.close()


DIGEST = 'Digest realm="x", nonce="1", algorithm='


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HttpServer("404 Not Found"), "404 not found; check the path in the address"),
        (lambda: HttpServer("401 Unauthorized"), "401 unauthorised; check the user name and password"),
        (lambda: HttpServer("403 Forbidden"), "403 forbidden; check the account"),
        (lambda: HttpServer("503 Service Unavailable"), "503 Service Unavailable; check the camera"),
        (lambda: HttpServer(frames=0), "; check"),
        (lambda: RtspServer(refuse='Basic realm="x"'), "401 unauthorised; check the user name and password"),
        (
            lambda: RtspServer(refuse='Digest realm="x", nonce="1", algorithm="SHA-256"'),
            "401 unauthorised; the camera asks for Digest with SHA-256, which works only for JPEG over HTTP; set the ",
        ),
        (
            lambda: RtspServer(refuse=f"{DIGEST}MD5\n{DIGEST}SHA-256"),
            "401 unauthorised; the camera asks for Digest with SHA-256, which works only for JPEG over HTTP; set the ",
        ),
        (
            lambda: RtspServer(refuse=f"{DIGEST}SHA-256\n{DIGEST}MD5"),
            "401 unauthorised; check the user name and password",
        ),
        (
            lambda: SnapshotServer(login=f"{DIGEST}SHA-256", kind="video/mp2t"),
            "401 unauthorised; the camera asks for Digest with SHA-256, which works only for JPEG over HTTP; set the ",
        ),
        (lambda: RtspServer(statuses={"SETUP": "453 Not Enough Bandwidth"}), "453 Not Enough Bandwidth; too many may"),
        (
            lambda: RtspServer(statuses={"PLAY": "454 Session Not Found"}),
            "454 Session Not Found; its limit of",
        ),
        (lambda: RtspServer(statuses={"OPTIONS": "503 Busy"}), "503 Busy; too many may be watching it, or it is still"),
        (
            lambda: RtspServer(statuses={"DESCRIBE": "551 Option not supported"}),
            "551 Option not supported; the camera does not support this request: set another `transport`",
        ),
        (
            lambda: RtspServer(statuses={"PLAY": "455 Method Not Valid in This State"}, login='Basic realm="x"'),
            "455 Method Not Valid in This State; the camera does not support this request",
        ),
        (
            lambda: RtspServer(statuses={"PLAY": "404 Not Found"}, login=f"{DIGEST}MD5"),
            "404 Not Found; check the path in the address",
        ),
        (lambda: RtspServer(statuses={"DESCRIBE": "499 Odd"}), "499 Odd; check the address and the camera"),
        (
            lambda: SnapshotServer(login='Digest realm="x", nonce="1", algorithm=SHA-512'),
            "offers only Digest SHA-512; set it",
        ),
    ],
)
def test_a_refusal_is_one_sentence_without_secrets(
    serve: Callable[[Server], Server],
    make: Callable[[], Server],
    words: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(make())
    source = camera(server)
    with pytest.raises(SourceError) as caught:
        source.open()
    source.close()
    assert words in str(caught.value)
    assert f"{server.scheme}://***@127.0.0.1:" in str(caught.value)
    chain, error = "", caught.value
    while error is not None:
        chain += repr(error)
        error = error.__cause__  # type: ignore[assignment]
    assert "secret" not in chain + caplog.text + capfd.readouterr().err


def test_a_refused_login_is_not_sent_again_to_be_explained(serve: Callable[[Server], Server]) -> None:
    server = RtspServer(statuses={"DESCRIBE": "401 Unauthorized"})
    source = camera(serve(server))
    with pytest.raises(SourceError, match="401 unauthorised; check the user name"):
        source.open()
    source.close()
    assert [one.split()[0] for one in server.requests] == ["OPTIONS", "DESCRIBE"] * 2
    assert "Authorization" not in "".join(server.requests[2:])


class RefusesOtherwise(RtspServer):
    """Refuses the second connection's login."""

    def serve(self, connection: socket.socket) -> None:
        if self.connections > 1:
            self._statuses = {"OPTIONS": "401 Unauthorized"}
        super().serve(connection)


def test_a_refusal_that_cannot_be_repeated_is_one_sentence(serve: Callable[[Server], Server]) -> None:
    source = camera(serve(RefusesOtherwise(statuses={"SETUP": "453 Not Enough Bandwidth"})))
    with pytest.raises(SourceError, match="refused; check the address, and whether the camera serves too many viewers"):
        source.open()
    source.close()


@pytest.mark.parametrize(
    ("transport", "refused", "asked"),
    [("tcp", "PLAY", "RTP/AVP/TCP;unicast;interleaved=0-1"), ("udp", "SETUP", "RTP/AVP;unicast;client_port=")],
)
def test_a_refusal_is_looked_for_as_ffmpeg_asked_and_leaves_no_session(
    serve: Callable[[Server], Server], transport: Literal["tcp", "udp"], refused: str, asked: str
) -> None:
    server = RtspServer(statuses={refused: "453 Not Enough Bandwidth"})
    source = NetworkSource(serve(server).url, transport=transport, stall_timeout_s=5, clock=SystemClock())
    with pytest.raises(SourceError, match="453 Not Enough Bandwidth; too many may be watching it"):
        source.open()
    source.close()
    setup = next(one for one in reversed(server.requests) if one.startswith("SETUP"))
    assert re.search(rf"^SETUP rtsp://127\.0\.0\.1:\d+/live/track1 RTSP/1\.0\r\n(?s:.*)Transport: {asked}", setup)
    until(lambda: server.requests[-1].startswith("TEARDOWN" if refused == "PLAY" else "SETUP"))


def test_a_closed_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    source = NetworkSource(f"rtsp://127.0.0.1:{port}/live", stall_timeout_s=5, clock=SystemClock())
    with pytest.raises(SourceError, match="connection refused; check that the camera is on"):
        source.open()


def test_the_address_of_a_snapshot_is_called_so(serve: Callable[[Server], Server]) -> None:
    source = camera(serve(SnapshotServer()))

    def look() -> None:
        source.open()
        drain(source)

    with pytest.raises(SourceError, match="sends single pictures; use `type: snapshot`, or give the address"):
        look()
    source.close()


ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n"
MULTIPART = b"multipart/x-mixed-replace; boundary=b"
PART = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000000\r\n\r\n"


def huge() -> bytes:
    """A JPEG of a few kB whose header announces 16,000 x 16,000 pixels."""
    data = encoded(picture(LEVELS[0]))
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", 16_000, 16_000) + data[at + 9 :]


HOSTILE: dict[str, Callable[[], Server]] = {
    "a part of 2 GB": lambda: EndlessServer(ENDLESS % MULTIPART + PART + b"\xff\xd8\xff\xe0", bytes(62_500)),
    "a scan without end": lambda: EndlessServer(ENDLESS % MULTIPART + PART + b"\xff\xd8\xff\xda\0\2", b"\1" * 62_500),
    "part headers without end": lambda: EndlessServer(
        ENDLESS % MULTIPART + b"--b\r\n", b"X-a: yyyyyyyyyyyyyyy\r\n" * 3000
    ),
    "headers without end": lambda: EndlessServer(b"HTTP/1.1 200 OK\r\n", b"X-a: " + b"y" * 60_000 + b"\r\n"),
    "a line without end": lambda: EndlessServer(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 60_000),
    "a huge picture": lambda: EndlessServer(ENDLESS % MULTIPART, huge()),
    "a huge picture as video": lambda: EndlessServer(ENDLESS % b"video/x-motion-jpeg", huge()),
    "a huge picture without a type": lambda: EndlessServer(ENDLESS % b"application/octet-stream", huge()),
}

READ_TWICE = """
import resource, sys
from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.network.stream_source import NetworkSource
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(2):
    source = NetworkSource(sys.argv[1], stall_timeout_s=5, clock=SystemClock())
    try:
        source.open()
        print(source.read())
    except SourceError as error:
        print(error)
    source.close()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_server_costs_little_memory_and_is_one_sentence(serve: Callable[[Server], Server], kind: str) -> None:
    url = serve(HOSTILE[kind]()).url
    done = subprocess.run(
        [sys.executable, "-c", READ_TWICE, url], capture_output=True, text=True, check=True, timeout=60
    )
    *words, taken = done.stdout.splitlines()
    assert all(re.fullmatch(r"http://\*\*\*@127\.0\.0\.1:\d+/live: .*; [^;]*", one) for one in words), words
    assert int(taken) < 80_000_000


def test_a_camera_with_digest_login_by_sha_256_is_read(serve: Callable[[Server], Server]) -> None:
    server = SnapshotServer(login='Digest realm="x", nonce="1", algorithm=SHA-256, qop="auth"')
    with pytest.raises(SourceError, match="sends single pictures"):
        drain(opened(serve(server)))
    assert "Authorization: Digest " in server.requests[1]
    assert "secret" not in "".join(server.requests)


def test_a_slow_stream_of_bare_pictures_is_read(serve: Callable[[Server], Server]) -> None:
    source = opened(serve(HttpServer(frames=6, bare=True, frame_s=0.3)))
    assert [grey(source.read()) for _ in range(5)] == list(LEVELS)
    source.close()


def test_the_key_frame_is_awaited_beyond_the_stall_timeout_and_this_is_logged(
    serve: Callable[[Server], Server], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_classifierd.frames.network.stream_source._KEY_FRAME_NOTICE_S", 0.3)
    source = camera(serve(RtspServer(first=1, key_frame_every=150)), stall_timeout_s=1.0)
    began_s = time.monotonic()
    source.open()
    frame = source.read()
    assert time.monotonic() - began_s > 2.0
    assert frame.picture.key_frame
    assert source.skipped > 50
    assert caplog.text.count("waits for the camera's next key frame; a shorter key frame interval") == 1
    source.close()


def test_a_server_of_web_pages_is_one_sentence(serve: Callable[[Server], Server]) -> None:
    source = camera(serve(HttpServer(frames=0)))
    with pytest.raises(SourceError, match="sends no picture; check the address"):
        source.open()
    source.close()


@pytest.mark.parametrize("blocked", ["open", "read"])
@pytest.mark.parametrize("make", [HttpServer, RtspServer])
def test_cancelling_ends_a_blocked_call_at_once(
    serve: Callable[[Server], Server], make: Callable[..., Server], blocked: str
) -> None:
    server = serve(SilentServer(make.scheme) if blocked == "open" else make(frames=40, then="stall"))  # type: ignore[attr-defined]
    source = camera(server, stall_timeout_s=60.0)
    cancelled_s: list[float] = []
    if blocked == "read":
        source.open()

    def cancel() -> None:
        cancelled_s.append(time.monotonic())
        source.cancel()

    threading.Timer(1.2, cancel).start()
    with pytest.raises(SourceError, match="cancelled"):
        source.open() if blocked == "open" else [source.read() for _ in range(100)]
    source.close()
    assert time.monotonic() - cancelled_s[0] < 10


def test_a_cancelled_source_does_not_even_connect(serve: Callable[[Server], Server]) -> None:
    server = serve(HttpServer())
    source = camera(server)
    source.cancel()
    with pytest.raises(SourceError, match="cancelled"):
        source.open()
    source.close()
    source.open()  # cancelling holds only until `close`
    source.close()
    assert server.connections == 1


def test_damaged_pictures_of_a_stream_are_skipped_with_one_warning(
    serve: Callable[[Server], Server], caplog: pytest.LogCaptureFixture
) -> None:
    source = camera(serve(HttpServer(frames=100, damaged=frozenset({70, 71, 75}))))
    source.open()
    with pytest.raises(SourceError, match="ended"):
        drain(source)
    assert source.skipped == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    source.close()
    assert source.skipped == 3


def test_a_warning_about_damage_is_not_repeated_at_every_connection(
    serve: Callable[[Server], Server], caplog: pytest.LogCaptureFixture
) -> None:
    source = camera(serve(HttpServer(frames=10, damaged=frozenset({3, 7}))))
    for connection in range(1, 4):
        source.open()
        with pytest.raises(SourceError, match="ended"):
            drain(source)
        source.close()
        assert source.skipped == 2 * connection
    assert len(caplog.records) == 1


def test_a_camera_that_only_sounds_any_more_keeps_no_connection_of_a_reader_that_left(
    serve: Callable[[Server], Server],
) -> None:
    source = camera(serve(SoundServer()), stall_timeout_s=1.0)
    for _ in range(2):
        source.open()
        with pytest.raises(SourceError, match="no picture for 1 s"):
            drain(source)
        source.close()
    until(no_threads, 2.0)


def test_a_camera_that_goes_and_comes_back_is_captured_again(
    serve: Callable[[Server], Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = serve(HttpServer(frames=60))
    statuses: list[CaptureStatus] = []
    reader = Camera(camera(server), name="porch", clock=SystemClock(), stall_timeout_s=5, backoff=Backoff(0.05, 0.1))
    capture = Capture(reader, grey, name="porch", on_status=lambda status, _: statuses.append(status))
    reader.attach(capture)
    capture.start()
    while statuses.count(CaptureStatus.DELIVERING) < 3 or capture.status is not CaptureStatus.DELIVERING:
        capture.take(1.0)
    assert capture.stop(2.0)
    assert statuses[:5] == [
        CaptureStatus.DELIVERING, CaptureStatus.RETRYING, CaptureStatus.DELIVERING, CaptureStatus.RETRYING,
        CaptureStatus.DELIVERING,
    ]  # fmt: skip
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert server.connections == 3


def test_stopping_a_capture_of_a_stalled_camera_takes_no_time(serve: Callable[[Server], Server]) -> None:
    reader = Camera(camera(serve(SilentServer("rtsp")), 60.0), name="porch", clock=SystemClock(), stall_timeout_s=60.0)
    capture = Capture(reader, grey, name="porch")
    reader.attach(capture)
    capture.start()
    assert capture.take(0.3) is None
    assert capture.stop(10.0)  # False, had it waited for the camera


def test_a_process_ends_cleanly_while_ffmpeg_still_waits_for_a_silent_camera(
    serve: Callable[[Server], Server],
) -> None:
    code = (
        "import ctypes, sys, threading\n"
        "from edge_classifierd.cli.main import leave\n"
        "from edge_classifierd.clock import SystemClock\n"
        "from edge_classifierd.frames.network.stream_source import NetworkSource\n"
        "source = NetworkSource(sys.argv[1], stall_timeout_s=30, clock=SystemClock())\n"
        "threading.Timer(0.3, source.cancel).start()\n"
        "try:\n    source.open()\n"
        "except Exception as error:\n    print(error)\n"
        "source.close()\n"
        "ctypes.CDLL(None).on_exit(ctypes.CDLL(None).abort, None)\n"  # at worst, an exit handler crashes
        "leave(0)\n"
    )
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, serve(SilentServer("rtsp")).url],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cancelled" in done.stdout
    assert time.monotonic() - began_s < 10
