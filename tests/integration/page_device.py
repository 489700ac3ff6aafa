"""A daemon with the page: two cameras that look at photographs and one whose folder is missing."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import re
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from broker_process import free_port, wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config

if TYPE_CHECKING:
    from playwright.sync_api import FrameLocator, Page

PASSWORD = "open the page for tests"
CHECKS = Path(__file__).parent / "web" / "page_checks.js"
DOG = {"name": "dog", "labels": ["*terrier*", "beagle"], "threshold": 0.6, "release": 0.4}


class PageDevice:
    """The device `porch`; its page listens at `url`."""

    def __init__(self, folder: Path, broker_port: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.password = PASSWORD
        self.door = photographs(folder / "door", "coffee")
        # An event every two and a half seconds. The two photographs have the same shape.
        pictures = photographs(folder / "driveway", *["cat"] * 25, *["coffee"] * 25)
        source = {"type": "folder", "path": str(pictures), "fps": 10, "loop": True}
        self.config = write_config(
            folder / "config.yaml",
            broker_port,
            a_pipeline(pictures, CAT, DOG, name="driveway", source=source),
            a_pipeline(folder / "garden", CAT, name="garden"),
            a_pipeline(self.door, CAT, name="door"),
            web={"listen": f"127.0.0.1:{self.port}", "password": PASSWORD},
        )
        self.daemon = Daemon(self.config)

    def __enter__(self) -> Self:
        self.daemon.__enter__()
        wait_until(self.answers, 40, f"the page at {self.url}: {self.daemon.log}")
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.__exit__()

    def restart(self) -> None:
        """End the daemon and start it again, on the same port."""
        self.daemon.end()
        self.daemon.__exit__()
        self.daemon = Daemon(self.config)

    def answers(self) -> bool:
        """Return whether the page can be asked for."""
        assert self.daemon.process.poll() is None, self.daemon.said[-2000:]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def wait_for_picture(page: Page | FrameLocator, camera: str = "driveway") -> None:
    """Wait until Live shows a picture."""
    from playwright.sync_api import expect

    name = re.compile(rf"^{camera}, \d\d:\d\d:\d\d$")
    expect(page.locator(".stage canvas")).to_have_attribute("aria-label", name, timeout=15_000)


def faults(page: Page, check: str) -> list[str]:
    """Run one of the functions of page_checks.js in a page."""
    checks = CHECKS.read_text().partition("\n")[2]
    found: list[str] = page.evaluate(f"{checks.strip()}.{check}()")
    return found


class PrefixProxy:
    """A proxy that serves a device below `/porch/`, and beside it a page that frames it."""

    def __init__(self, port: int) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Forwarding, port))
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}/"
        self.url = f"{self.origin}porch/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Forwarding(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, port: int, *arguments: Any) -> None:
        self._port = port
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.close_connection = True
        if self.path == "/framed":
            self._begin(200, [("Content-Type", "text/html")])
            self.wfile.write(
                b'<!doctype html><link rel=icon href=data:,><title>framed</title><iframe src="porch/"></iframe>'
            )
        elif self.path.startswith("/porch/"):
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._forward(self.path.removeprefix("/porch"))
        else:
            self.send_error(404)

    do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - names of http.server

    def _forward(self, path: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with contextlib.closing(upstream):
            upstream.request(self.command, path, body or None, dict(self.headers))
            answer = upstream.getresponse()
            self._begin(answer.status, answer.getheaders())
            while chunk := answer.read1(65536):
                self.wfile.write(chunk)

    def _begin(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
