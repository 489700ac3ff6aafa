"""A real HTTP or HTTPS server of model files on the loopback, which misbehaves when told to."""

from __future__ import annotations

import contextlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from pathlib import Path

Fault = Literal["", "endless", "drip", "mute", "cut", "moved", "plain", "large redirect", "error"]


class ModelServer(ThreadingHTTPServer):
    """Serves `files` by path. A context manager; `requested` are the paths with the header `Range`."""

    daemon_threads = True

    def __init__(self, certificate: Path | None = None, port: int = 0) -> None:
        """`certificate` is a PEM file with key and certificate; None: plain HTTP."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.files: dict[str, bytes] = {}
        self.fault: Fault = ""
        self.cut_after = 0
        """With the fault `cut`: the bytes after which each connection ends."""
        self.requested: list[tuple[str, str | None]] = []
        self.closing = threading.Event()
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        # A minimal Debian has no /etc/hosts, so that it does not know the name `localhost`.
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()
        self._thread.join(5)

    def handle_error(self, *_: object) -> None:
        """Print nothing: clients go away on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        server.requested.append((self.path, self.headers.get("Range")))
        content = server.files.get(self.path)
        with contextlib.suppress(OSError):
            if server.fault == "mute":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                self._drip()
            elif server.fault == "error":
                self.send_error(503)
            elif server.fault in {"moved", "plain", "large redirect"}:
                self._redirect()
            elif content is None:
                self.send_error(404)
            else:
                self._send(content)

    def _redirect(self) -> None:
        plain = self.server.fault == "plain"
        self.send_response(302)
        self.send_header("Location", "http://models.example.org/m.tflite" if plain else self.path)
        self.end_headers()
        while self.server.fault == "large redirect" and not self.server.closing.is_set():
            self.wfile.write(bytes(1 << 16))

    def _send(self, content: bytes) -> None:
        fault, wanted = self.server.fault, self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if fault != "endless":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if fault == "drip":
            self._drip()
        self.wfile.write(content[start : start + self.server.cut_after] if fault == "cut" else content[start:])
        while fault == "endless" and not self.server.closing.is_set():
            self.wfile.write(bytes(1 << 16))

    def _drip(self) -> None:
        """Send a byte at a time until the client goes away."""
        while not self.server.closing.wait(0.02):
            self.wfile.write(b"x")
