"""A page over real pipelines with a fake camera, on a free port of this machine, and a client for it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pipelines_scene import Scene, pipeline, until

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.configuration import DeviceSection
from edge_classifierd.config.sections.web import WebSection
from edge_classifierd.daemon.page_control import PageControl
from edge_classifierd.health.board import Board
from edge_classifierd.health.report import Health
from edge_classifierd.log import RecentWarnings
from edge_classifierd.mqtt.commands import Reload, SetModel
from edge_classifierd.pipeline.event_pictures import EventPictures
from edge_classifierd.pipeline.observation.control import CommandOutcome
from edge_classifierd.pipeline.observation.observer import GuardedObserver
from edge_classifierd.pipeline.observation.tap import FrameTap
from edge_classifierd.web.device.records import Records
from edge_classifierd.web.live.results import NewestResults
from edge_classifierd.web.page import WebPage
from edge_classifierd.web.parts import Parts
from edge_classifierd.web.server import PageServer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")
PASSWORD = "correct horse battery"
BASIC = "Basic " + base64.b64encode(f":{PASSWORD}".encode()).decode()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.document["error"]["code"])


class Stream:
    """An open event stream."""

    def __init__(self, page: PageScene, path: str, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
        self.connection.request("GET", path, headers={"Authorization": BASIC, **headers})
        self.answer = self.connection.getresponse()

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        kind = ""
        while line := self.answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)

    def next(self, wanted: str) -> dict[str, Any]:
        return next(document for kind, document in self.events() if kind == wanted)

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


class HealthNow:
    """Implements HealthSource without a broker."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._board = Board(scene.clock, state=scene.folder)
        self.is_alive = True

    def document(self) -> Health:
        return Health(
            version="1",
            time=self._scene.clock.utc(),
            uptime_s=1.0,
            clock_synchronised=True,
            pipelines=(),
            outbox=None,
            board=self._board.read(),
            mqtt=None,
        )

    def alive(self) -> bool:
        return self.is_alive


class PageScene:
    """The page of the device `porch` with the pipeline `driveway` and its watch `cat`."""

    token = "a token for the metrics"
    repository = Path(__file__).resolve().parents[3]

    def __init__(self, folder: Path, *, static: Path, camera: dict[str, Any] | None = None, **section: Any) -> None:
        section.setdefault("password", PASSWORD)
        section.setdefault("metrics_token", self.token)
        self.port = free_port()
        self.tap = FrameTap()
        self.results = NewestResults(SystemClock())
        watched = pipeline("driveway", "cat", **camera or {})
        self.scene = Scene(folder, watched, tap=self.tap, observer=GuardedObserver(self.results))
        self.health = HealthNow(self.scene)
        self.control = PageControl(self.scene.pipelines, self.scene.around, lambda: None)
        self.parts = Parts(
            device=DeviceSection(id="porch", name="Porch"),
            section=WebSection.model_validate({"listen": f"127.0.0.1:{self.port}", **section}),
            control=self.control,
            health=self.health,
            tap=self.tap,
            results=self.results,
            clock=self.scene.clock,
            state=folder,
            records=Records(
                folder / "config.yaml",
                folder / "outbox.sqlite3",
                self.scene.outbox,
                EventPictures(folder / "event-pictures", folder / "outbox.sqlite3", self.scene.clock, most=500),
                RecentWarnings(),
            ),
        )
        self.pages: list[WebPage] = []
        self.server = PageServer(self.parts.section, self._make)
        self.reloads = self.switched = CommandOutcome()
        self._static = static
        self._stopping = threading.Event()
        self._main = threading.Thread(target=self._run_main)

    @property
    def page(self) -> WebPage:
        return self.pages[-1]

    def __enter__(self) -> Self:
        self.scene.__enter__()
        self._main.start()
        self.server.start()
        until(self.listens)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(5)
        self._stopping.set()
        self._main.join(5)
        self.scene.__exit__()

    def listens(self) -> bool:
        return listens(self.port)

    def request(self, method: str, path: str, body: Any = None, *, basic: bool = True, **headers: str | None) -> Answer:
        """Send a request and read the whole answer. Headers are given as `content_type="…"`; None leaves one out."""
        content = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        sent: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}"}
        if basic:
            sent["Authorization"] = BASIC
        if content is not None:
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if content is not None and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def _make(self) -> WebPage:
        self.pages.append(WebPage(self.parts, self._static))
        return self.pages[-1]

    def _run_main(self) -> None:
        """Execute commands as the daemon's main thread does."""
        while not self._stopping.wait(0.01):
            self.scene.pipelines.tick()
            self.control.record_rests(self.results.history)
            while (ordered := self.control.take()) is not None:
                command, future = ordered
                if isinstance(command, Reload):
                    future.set_result(self.reloads)
                elif isinstance(command, SetModel):
                    future.set_result(self.switched)
                else:
                    self.scene.execute(command)
                    future.set_result(CommandOutcome())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int, address: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5):
        return True
    return False


def completed(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread of its own: in this one Playwright's loop may run."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
