"""The page's thread: binds the port, serves the application, and tries again when the port is taken."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Final

import uvicorn

from edge_classifierd.config.sections.web import split_listen
from edge_classifierd.errors import EdgeClassifierError, failure_sentence
from edge_classifierd.health.metrics import Reason
from edge_classifierd.web.app import MOST_HEADER_BYTES
from edge_classifierd.web.connections import IDLE_S, Connections

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.config.sections.web import WebSection
    from edge_classifierd.web.page import WebPage

_log = logging.getLogger(__name__)

_RETRY_S: Final = 30.0
_BLOCKING_THREADS: Final = 2
_MOST_STRANGERS: Final = 128
_ACCEPTED_AT_ONCE: Final = 8
"""Few, so that a request is read before a flood of other connections can replace its connection."""
_BACKLOG: Final = 1024


class PageServer:
    """Runs a page in its own thread. `start`, `stop` and `reason` may be called from any thread."""

    def __init__(self, section: WebSection, make_page: Callable[[], WebPage]) -> None:
        """`make_page` makes the page of one attempt; called in the thread."""
        self._section = section
        self._make_page = make_page
        self._stopping = threading.Event()
        self._server: _QuietServer | None = None
        self._reason: Reason | None = None
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    @property
    def reason(self) -> Reason | None:
        """Return why the page cannot be reached; None when it can."""
        return self._reason

    def start(self) -> None:
        """Start the thread. Raises RuntimeError when the system has no more threads."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the connections and the thread; waits at most `timeout_s`."""
        self.request_stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def request_stop(self) -> None:
        """Begin to stop, without waiting."""
        self._stopping.set()
        server = self._server
        if server is not None:
            server.request_exit()

    def reload_certificate(self) -> None:
        """Read the files of `web.tls` again, for new connections; any thread."""
        server, tls = self._server, self._section.tls
        if server is not None and tls is not None:
            server.reload_certificate(tls.certificate, tls.key)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve()
            except (OSError, EdgeClassifierError) as error:
                self._fail(failure_sentence(error))
            except Exception as error:  # noqa: BLE001 - a failure of the page never ends the daemon
                self._fail(failure_sentence(error))
                _log.exception("the page failed; the daemon goes on without it")
            self._stopping.wait(_RETRY_S)

    def _serve(self) -> None:
        listen, tls = self._section.listen, self._section.tls
        page = self._make_page()
        config = uvicorn.Config(
            page.application,
            http=Connections(_MOST_STRANGERS + 4 * self._section.viewers).factory(),  # type: ignore[arg-type] # it calls what it gets
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=int(IDLE_S),
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            backlog=_ACCEPTED_AT_ONCE,
            ssl_certfile=tls.certificate if tls is not None else None,
            ssl_keyfile=tls.key if tls is not None else None,
        )
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it logs a line for each malformed request
        with _bound(listen) as bound:
            if self._reason is not None:
                _log.info("the page can be reached now")
            self._reason = None
            self._server = server = _QuietServer(config, page, bound)
            if self._stopping.is_set():
                return
            _log.info("the page listens on %s://%s/", "http" if tls is None else "https", listen)
            server.run(sockets=[bound])

    def _fail(self, sentence: str) -> None:
        if self._stopping.is_set():
            return
        message = f"the page cannot be reached: {self._section.listen}: {sentence}"
        if self._reason is None:
            _log.warning("%s (trying again every %g s)", message, _RETRY_S)
        self._reason = Reason("web", message)


class _QuietServer(uvicorn.Server):
    """Waits for the end without waking up meanwhile; uvicorn's own loop looks ten times a second."""

    def __init__(self, config: uvicorn.Config, page: WebPage, bound: socket.socket) -> None:
        super().__init__(config)
        self._page = page
        self._bound = bound
        self._exit: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requested = threading.Event()

    def request_exit(self) -> None:
        """End the server; any thread."""
        self._requested.set()
        loop, event = self._loop, self._exit
        if loop is not None and event is not None and not loop.is_closed():
            loop.call_soon_threadsafe(event.set)

    def reload_certificate(self, certificate: Path, key: Path) -> None:
        """Use the contents of these files for new connections; any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._load_certificate, certificate, key)

    def _load_certificate(self, certificate: Path, key: Path) -> None:
        if self.config.ssl is None:
            return
        try:
            # First another context: one that has failed to load a pair has lost the previous one.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            self.config.ssl.load_cert_chain(certificate, key)
        except OSError as error:
            _log.error("web.tls: cannot be used (%s); the previous certificate stays in use", error)

    async def main_loop(self) -> None:
        """Serve until `request_exit`."""
        self._bound.listen(_BACKLOG)  # of the kernel; asyncio has taken the smaller number for its own loop
        self._exit = asyncio.Event()
        self._loop = loop = asyncio.get_running_loop()
        executor = concurrent.futures.ThreadPoolExecutor(_BLOCKING_THREADS, thread_name_prefix="page work")
        loop.set_default_executor(executor)
        self._page.start(loop)
        if not self._requested.is_set():
            await self._exit.wait()
        self._page.stop()


def _bound(listen: str) -> socket.socket:
    """Return a socket bound to `web.listen`. Raises OSError."""
    address, port = split_listen(listen)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # `[::]` also takes IPv4
        made.bind((address, port))
    except BaseException:
        made.close()
        raise
    return made
