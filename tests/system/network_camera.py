"""network_camera.py PORT PICTURE…: a network camera (Motion JPEG over HTTP) that shows the pictures in turn, 10 fps."""

from __future__ import annotations

import itertools
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Camera(BaseHTTPRequestHandler):
    pictures: tuple[bytes, ...] = ()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        with suppress(OSError):  # nobody looks any more
            for number in itertools.count():
                picture = self.pictures[number // 10 % len(self.pictures)]
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
                time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        """Nothing."""


Camera.pictures = tuple(Path(name).read_bytes() for name in sys.argv[2:])
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Camera).serve_forever()
