"""Small network cameras for tests: MJPEG over HTTP, and H.264 over RTSP with RTP inside its TCP connection."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
import zlib
from typing import TYPE_CHECKING

from moving_pictures import encoded, h264_access_units, picture, sound_that_goes_on

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

FRAME_S = 0.02
LEVELS = (40, 80, 120, 160, 200)


class Server:
    """Answers every connection in a thread of its own until it is stopped."""

    scheme = "http"
    tls: ssl.SSLContext | None = None

    def __init__(self, port: int = 0) -> None:
        self.stopping = threading.Event()
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="server")]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://me:secret@127.0.0.1:{self._socket.getsockname()[1]}/live"

    def stop(self) -> None:
        self.stopping.set()
        for connection in (self._socket, *self._open):
            with contextlib.suppress(OSError):  # the other side was quicker
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(5)

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name="server")
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:  # readers leave when they like
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                self.serve(connection)


class HttpServer(Server):
    """Answers with a status line, and MJPEG after 200; `then` happens after `frames` frames."""

    def __init__(
        self,
        status: str = "200 OK",
        *,
        frames: int | None = None,
        then: str = "close",
        damaged: frozenset[int] = frozenset(),
        bare: bool = False,
        kind: str = "",
        frame_s: float = FRAME_S,
        port: int = 0,
    ) -> None:
        self._status = status
        self._kind = kind
        self._frames = frames
        self._then = then
        self._damaged = damaged
        self._bare = bare
        self._frame_s = frame_s
        super().__init__(port)

    def serve(self, connection: socket.socket) -> None:
        while b"\r\n\r\n" not in connection.recv(65536):
            pass
        kind = self._kind or ("application/octet-stream" if self._bare else "multipart/x-mixed-replace; boundary=next")
        head = f"HTTP/1.0 {self._status}\r\nContent-Type: {kind}\r\n\r\n"
        connection.sendall(head.encode())
        if not self._status.startswith("200"):
            return
        pictures = [encoded(picture(value)) for value in LEVELS]
        for number in itertools.count() if self._frames is None else range(self._frames):
            data = pictures[number % len(pictures)]
            if number in self._damaged:
                data = data[:2] + bytes(len(data) - 4) + data[-2:]
            part = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)
            connection.sendall(data if self._bare else part)
            if self.stopping.wait(self._frame_s):
                return
        if self._then == "stall":
            self.stopping.wait(60)


class EndlessServer(Server):
    """Sends a head, and then the same data for ever."""

    def __init__(self, head: bytes, data: bytes) -> None:
        self._head = head
        self._data = data
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(self._head)
        while not self.stopping.is_set():
            connection.sendall(self._data)


class SnapshotServer(Server):
    """One JPEG per HTTP request, as cameras give it at another address than their video's.

    `login` is the header `WWW-Authenticate` of the answer to a request without a login. With `etag` an unchanged
    picture is answered with 304. `pictures` are sent one after the other, the last one for ever. `kind` is their type.
    The answers of the numbers in `stalls` stop in the middle.
    """

    def __init__(
        self,
        pictures: Sequence[bytes] = (),
        *,
        login: str = "",
        etag: bool = False,
        tls: ssl.SSLContext | None = None,
        kind: str = "image/jpeg",
        stalls: frozenset[int] = frozenset(),
    ) -> None:
        self._pictures = list(pictures) or [encoded(picture(LEVELS[0]))]
        self._login = login
        self._etag = etag
        self._kind = kind
        self._stalls = stalls
        self.tls = tls
        self.scheme = "https" if tls else "http"
        self.requests: list[str] = []
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        self.requests.append(request.decode())
        answer = self._answer(request.decode())
        if len(self.requests) in self._stalls:
            connection.sendall(answer[: len(answer) // 2])
            self.stopping.wait(60)
        else:
            connection.sendall(answer)

    def _answer(self, request: str) -> bytes:
        if self._login and "\nAuthorization: " not in request:
            return f"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {self._login}\r\nContent-Length: 0\r\n\r\n".encode()
        data = self._pictures[0]
        tag = f'"{zlib.crc32(data)}"'
        if self._etag and f"If-None-Match: {tag}" in request:
            self._pictures = self._pictures[1:] or self._pictures
            return f"HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n".encode()
        if not self._etag:
            self._pictures = self._pictures[1:] or self._pictures
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {self._kind}\r\nETag: {tag}\r\nContent-Length: {len(data)}\r\n\r\n"
        return head.encode() + data


class SoundServer(Server):
    """MPEG-TS over HTTP: pictures and sound for half a second, then only the sound goes on."""

    def __init__(self) -> None:
        self._data = sound_that_goes_on(pictures=10, seconds=10)
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        while b"\r\n\r\n" not in connection.recv(65536):
            pass
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        piece = len(self._data) // 500
        for at in range(0, len(self._data), piece):
            connection.sendall(self._data[at : at + piece])
            if self.stopping.wait(FRAME_S):
                return


class SilentServer(Server):
    """Accepts and says nothing."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        super().__init__()

    def serve(self, connection: socket.socket) -> None:  # noqa: ARG002
        self.stopping.wait(60)


class RtspServer(Server):
    """H.264 in RTP (RFC 6184), interleaved in the RTSP connection (RFC 2326, 10.12), as cameras do over TCP."""

    scheme = "rtsp"

    def __init__(
        self,
        *,
        frames: int | None = None,
        then: str = "close",
        refuse: str = "",
        first: int = 0,
        key_frame_every: int = 5,
        login: str = "",
        statuses: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare the camera.

        Args:
            frames: How many it sends.
            then: What happens after them.
            refuse: Challenges (lines) of every login.
            first: The number of the first frame that is sent.
            key_frame_every: Distance of two key frames.
            login: The challenge of a request without a login.
            statuses: Answers to methods other than 200, after the login.
        """
        self._login = login
        self._statuses = statuses or {}
        self.requests: list[str] = []
        self._frames = frames
        self._then = then
        self._refuse = refuse
        self._first = first
        self._units = h264_access_units(
            [LEVELS[at % 5] for at in range(key_frame_every)], key_frame_every
        )  # begins with a key frame, so it can be repeated
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                more = connection.recv(65536)
                if not more:
                    return
                received += more
            head, _, received = received.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            method = lines[0].split()[0]
            sequence = next(line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq"))
            self.requests.append(head.decode())
            if self._login and b"\nAuthorization: " not in head:
                status = f"401 Unauthorized\r\nWWW-Authenticate: {self._login}"
            else:
                status = self._statuses.get(method, "")
            if status:
                connection.sendall(f"RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n\r\n".encode())
                continue
            connection.sendall(self._answer(method, sequence))
            if method == "PLAY":
                self._play(connection)
                return
            if method == "TEARDOWN":
                return

    def _answer(self, method: str, sequence: str) -> bytes:
        if self._refuse and method == "DESCRIBE":
            challenges = "".join(f"WWW-Authenticate: {one}\r\n" for one in self._refuse.splitlines())
            return f"RTSP/1.0 401 Unauthorized\r\nCSeq: {sequence}\r\n{challenges}\r\n".encode()
        extra, body = "", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n"
                "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
            )
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        else:
            extra = "Session: 1\r\n"
        return f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{extra}\r\n{body}".encode()

    def _play(self, connection: socket.socket) -> None:
        packet_number = 0
        for number in itertools.count() if self._frames is None else range(self._frames):
            unit = self._units[(self._first + number) % len(self._units)]
            payloads = [part for nal in unit for part in _fragments(nal)]
            for at, payload in enumerate(payloads):
                marker = 0x80 if at == len(payloads) - 1 else 0
                stamp = number * int(90000 * FRAME_S)
                packet = struct.pack(">BBHII", 0x80, 96 | marker, packet_number & 0xFFFF, stamp, 1) + payload
                connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                packet_number += 1
            if self.stopping.wait(FRAME_S):
                return
        if self._then == "stall":
            self.stopping.wait(60)


def _fragments(nal: bytes, most: int = 1200) -> list[bytes]:
    if len(nal) <= most:
        return [nal]
    indicator, kind, body = (nal[0] & 0xE0) | 28, nal[0] & 0x1F, nal[1:]
    pieces = [body[at : at + most] for at in range(0, len(body), most)]
    last = len(pieces) - 1
    return [
        bytes([indicator, kind | (0x80 if at == 0 else 0) | (0x40 if at == last else 0)]) + piece
        for at, piece in enumerate(pieces)
    ]


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for what another thread does."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited for {timeout_s:g} s"
        time.sleep(0.01)
