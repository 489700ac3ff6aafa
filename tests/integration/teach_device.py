"""A daemon with the page, whose camera shows drawn shapes, and a client that teaches it over HTTP."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, Self

from broker_process import free_port, wait_until
from daemon_process import CAT, Daemon, a_pipeline, write_config
from drawn_pictures import SHAPES, drawn, write

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "/api/taught/shapes"


class TeachDevice:
    """The device `porch` with the pipeline `driveway`, whose folder shows discs, ten a second."""

    def __init__(self, folder: Path, broker_port: int) -> None:
        self.folder = folder
        self.port = free_port()
        for number in range(12):
            write(folder / "seen" / f"{number:02}.jpg", drawn("disc", number))
        source = {"type": "folder", "path": str(folder / "seen"), "fps": 10, "loop": True}
        watched = a_pipeline(folder / "seen", CAT, source=source)
        web = {"listen": f"127.0.0.1:{self.port}"}
        self.config = write_config(folder / "config.yaml", broker_port, watched, web=web)
        self.daemon = Daemon(self.config)
        self.classes: dict[str, str] = {}
        """Identifiers by name."""

    @property
    def state(self) -> Path:
        return self.daemon.state

    def __enter__(self) -> Self:
        try:
            wait_until(self.answers, 60, f"the page at port {self.port}: {self.daemon.log}")
        except BaseException:
            self.daemon.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.__exit__()

    def start_again(self) -> None:
        """Start the daemon that has ended."""
        self.daemon.__exit__()
        self.daemon = Daemon(self.config)
        self.__enter__()

    def answers(self) -> bool:
        """Return whether the page can be asked and the camera delivers."""
        assert self.daemon.process.poll() is None, self.daemon.said[-2000:]
        try:
            pipelines = self.get("/api/overview")["pipelines"]
        except OSError:
            return False
        return bool(pipelines and pipelines[0]["online"])

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Origin": f"http://127.0.0.1:{self.port}"} | ({} if content is None else {"Content-Type": kind})
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def send(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """Send a request that succeeds; return the document."""
        status, content = self.request(method, path, body, kind)
        assert 200 <= status < 300, (method, path, status, content)
        return json.loads(content) if content else None

    def get(self, path: str) -> Any:
        return self.send("GET", path)

    def upload(self, class_name: str, shape: str, number: int) -> str:
        """Upload a drawn picture and return its id."""
        file = self.folder / "upload.jpg"
        write(file, drawn(shape, number))
        path = f"{MODEL}/pictures?class={self.classes[class_name]}"
        return str(self.send("POST", path, file.read_bytes(), "image/jpeg")["id"])

    def prepare(self, count: int = 8) -> None:
        """Make the model `shapes` with `count` pictures of each class; crosses are nothing of these."""
        made = self.send("POST", "/api/taught", {"name": "shapes", "pipeline": "driveway"})
        self.classes = {"unknown": made["classes"][0]["id"]}
        for name in ("disc", "stripes"):
            self.classes[name] = self.send("POST", f"{MODEL}/classes", {"name": name})["id"]
        for shape in SHAPES:
            for number in range(count):
                self.upload("unknown" if shape == "cross" else shape, shape, 100 + number)

    def train(self) -> dict[str, Any]:
        """Train, and return the last state of the training."""
        training = self.send("POST", f"{MODEL}/trainings", {})["id"]
        wait_until(lambda: self.training(training)["stage"] in {"finished", "failed", "cancelled"}, 120)
        return self.training(training)

    def training(self, training: str) -> dict[str, Any]:
        document: dict[str, Any] = self.get(f"{MODEL}/trainings/{training}")
        return document

    @property
    def driveway(self) -> dict[str, Any]:
        document: dict[str, Any] = self.get("/api/overview")["pipelines"][0]
        return document
