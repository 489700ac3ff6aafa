"""Measures the CPU and the memory of the page, and whether it still answers under abuse.

usage: python bench/web.py [--seconds 20] [--json]

Runs the daemon on a folder of 640×480 pictures at 10 a second. CPU is that of the page's threads, as a share of one
core, from the kernel's accounting, so that other load on the machine hardly counts. Each viewer fetches five
pictures a second and reads the event stream. The inference rate is that of a camera faster than the model, in
alternating phases with and without ten viewers. Abuse: 1,000 connections that send a byte now and then, 10,000
malformed requests, an upload of 1 GB, and 100 event streams that are never read, one after the other, while a
signed-in user asks for the overview.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ROOT / "edge_classifierd" / "demo_photos"
PASSWORD = "bench bench bench"  # noqa: S105 - of a daemon that lives for minutes on this machine
BASIC = "Basic " + base64.b64encode(f":{PASSWORD}".encode()).decode()
_ROUNDS = 12
TICKS = os.sysconf("SC_CLK_TCK")


class Daemon:
    """A daemon with or without a page, over pictures of 640×480."""

    def __init__(self, folder: Path, *, page: bool, fps: float, viewers: int = 10) -> None:
        self.port = free_port()
        self.folder = folder
        pictures = folder / "pictures"
        pictures.mkdir(parents=True)
        for number, name in enumerate(("cat", "coffee")):
            with Image.open(PHOTOS / f"{name}.jpg") as photo:
                photo.resize((640, 480)).save(pictures / f"{number}.jpg")
        document: dict[str, Any] = {
            "device": {"id": "bench"},
            "mqtt": {"host": "127.0.0.1", "port": free_port()},
            "pipelines": [
                {
                    "name": "camera",
                    "source": {"type": "folder", "path": str(pictures), "fps": fps, "loop": True},
                    "model": {"threads": 1},
                    "watches": [{"name": "cat", "labels": ["*cat*"], "threshold": 0.5, "release": 0.3}],
                    "snapshot": {"enabled": False},
                }
            ],
        }
        if page:
            document["web"] = {"listen": f"127.0.0.1:{self.port}", "password": PASSWORD, "viewers": viewers}
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(document))
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_classifierd", "run", "--config", str(config)],
            env={**os.environ, "EDGE_CLASSIFIERD_STATE": str(folder / "state")},
            stdout=self.log,
            stderr=self.log,
        )

    def __enter__(self) -> Self:
        deadline_s = time.monotonic() + 120
        while b"first frame classified" not in (self.folder / "log").read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                sys.exit((self.folder / "log").read_text())
            time.sleep(0.1)
        time.sleep(5)  # the libraries' pages are released a second after the start
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()

    def page_cpu_s(self) -> float:
        """CPU time of the page's threads that exist now."""
        return sum(seconds for name, seconds in self._threads() if name.startswith("page"))

    def cpu_s(self) -> float:
        return sum(seconds for _, seconds in self._threads())

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Authorization": BASIC})
            return connection.getresponse().read()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        for line in self.get("/metrics").decode().splitlines():
            if line.startswith(f"edge_classifierd_{name}"):
                return float(line.split()[-1])
        return 0.0

    def inferences(self) -> float:
        return self.metric('frames_total{pipeline="camera",result="classified"}')

    def _threads(self) -> list[tuple[str, float]]:
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                head, _, rest = (task / "stat").read_text().rpartition(")")
                fields = rest.split()
                found.append((head.partition("(")[2], (int(fields[11]) + int(fields[12])) / TICKS))
        return found


class Viewers:
    """Browsers that look on: each with a session, five pictures a second, and the event stream."""

    def __init__(self, daemon: Daemon, count: int) -> None:
        self._daemon = daemon
        self._stopping = threading.Event()
        self.pictures = 0
        self._threads = [threading.Thread(target=self._look, daemon=True) for _ in range(count)]
        self._threads += [threading.Thread(target=self._listen, daemon=True) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        time.sleep(2)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(15)

    def _look(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._daemon.port, timeout=30)
        origin = {"Origin": f"http://127.0.0.1:{self._daemon.port}", "Content-Type": "application/json"}
        connection.request("POST", "/api/session", json.dumps({"password": PASSWORD}), origin)
        answer = connection.getresponse()
        answer.read()
        cookie = str(answer.getheader("Set-Cookie")).partition(";")[0]
        after = "0"
        while not self._stopping.is_set():
            began_s = time.monotonic()
            path = f"/api/pipelines/camera/frame.jpg?width=640&after={after}"
            connection.request("GET", path, headers={"Cookie": cookie})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                self.pictures += 1
                after = str(answer.getheader("X-Frame"))
            self._stopping.wait(max(0.0, 0.2 - (time.monotonic() - began_s)))
        connection.close()

    def _listen(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._daemon.port, timeout=30)
        connection.request("GET", "/api/stream?pipeline=camera", headers={"Authorization": BASIC})
        answer = connection.getresponse()
        while not self._stopping.is_set() and answer.readline():
            pass
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def costs(folder: Path, seconds: float) -> dict[str, Any]:
    """CPU and memory with the page closed, with one viewer, four and ten."""
    result: dict[str, Any] = {}
    with Daemon(folder / "without", page=False, fps=10) as daemon:
        before_s = daemon.cpu_s()
        time.sleep(seconds)
        result["without"] = {"cpu": (daemon.cpu_s() - before_s) / seconds, "rss_mb": daemon.rss_mb()}
    with Daemon(folder / "with", page=True, fps=10) as daemon:
        before_s, page_s = daemon.cpu_s(), daemon.page_cpu_s()
        time.sleep(seconds)
        result["closed"] = {
            "cpu": (daemon.cpu_s() - before_s) / seconds,
            "page_cpu": (daemon.page_cpu_s() - page_s) / seconds,
            "rss_mb": daemon.rss_mb(),
        }
        result["closed"]["encodes"] = daemon.metric("web_previews_total")
        for count in (1, 4, 10):
            with Viewers(daemon, count) as viewers:
                page_s, pictures, encodes = daemon.page_cpu_s(), viewers.pictures, daemon.metric("web_previews_total")
                time.sleep(seconds)
                result[f"viewers_{count}"] = {
                    "page_cpu": (daemon.page_cpu_s() - page_s) / seconds,
                    "pictures_per_s_each": (viewers.pictures - pictures) / seconds / count,
                    "encodes_per_s": (daemon.metric("web_previews_total") - encodes) / seconds,
                    "rss_mb": daemon.rss_mb(),
                }
    return result


def inference_rate(folder: Path, seconds: float) -> dict[str, Any]:
    """The inference rate of a saturated classifier with ten viewers, as a share of that before and after."""
    rates = []
    with Daemon(folder, page=True, fps=500) as daemon:
        for number in range(2 * _ROUNDS + 1):
            with Viewers(daemon, 10 if number % 2 else 0):
                before, began_s = daemon.inferences(), time.monotonic()
                time.sleep(seconds / 4)
                rates.append((daemon.inferences() - before) / (time.monotonic() - began_s))
    around = [statistics.fmean(pair) for pair in zip(rates[::2], rates[2::2], strict=False)]
    shares = [with_viewers / without for with_viewers, without in zip(rates[1::2], around, strict=True)]
    return {"share": statistics.median(shares), "shares": shares, "rates": rates}


def abuse(folder: Path) -> dict[str, Any]:
    """Memory, inferences and answers to a signed-in user while others send nonsense, one kind after the other."""
    result: dict[str, Any] = {}
    with Daemon(folder, page=True, fps=10, viewers=4) as daemon:
        daemon.get("/api/overview")
        before_mb = daemon.rss_mb()
        for attack in (nothing, slow_connections, malformed_requests, upload, silent_streams):
            result[attack.__name__] = attacked(daemon, attack, before_mb)
    return result


def attacked(daemon: Daemon, attack: Callable[[Daemon, threading.Event], None], before_mb: float) -> dict[str, Any]:
    """Attack for at least ten seconds, and ask for the overview meanwhile."""
    inferences, stopping = daemon.inferences(), threading.Event()
    attacker = threading.Thread(target=attack, args=(daemon, stopping), daemon=True)
    attacker.start()
    answers_s, peak_mb, failed, began_s = [], 0.0, 0, time.monotonic()
    while time.monotonic() - began_s < 10 or (attack is malformed_requests and attacker.is_alive()):
        asked_s = time.monotonic()
        try:
            daemon.get("/api/overview")
            answers_s.append(time.monotonic() - asked_s)
        except OSError:
            failed += 1
        peak_mb = max(peak_mb, daemon.rss_mb())
        time.sleep(0.1)
    took_s = time.monotonic() - began_s
    rate = (daemon.inferences() - inferences) / took_s
    stopping.set()
    attacker.join(20)
    return {
        "seconds": round(took_s, 1),
        "more_mb": round(peak_mb - before_mb, 1),
        "failed": failed,
        "answer_s_p50": round(statistics.median(answers_s), 3) if answers_s else None,
        "answer_s_max": round(max(answers_s), 3) if answers_s else None,
        "inferences_per_s": round(rate, 2),
    }


def nothing(_daemon: Daemon, stopping: threading.Event) -> None:
    """For comparison."""
    stopping.wait()


def slow_connections(daemon: Daemon, stopping: threading.Event) -> None:
    open_sockets: list[socket.socket] = []
    for _ in range(1000):
        with contextlib.suppress(OSError):
            open_sockets.append(socket.create_connection(("127.0.0.1", daemon.port), timeout=5))
    while not stopping.wait(0.5):
        for one in tuple(open_sockets):
            try:
                one.send(b"G")
            except OSError:
                open_sockets.remove(one)
    for one in open_sockets:
        one.close()


def malformed_requests(daemon: Daemon, _stopping: threading.Event) -> None:
    kinds = (
        b"\x16\x03\x01\x00\xff" + os.urandom(200),
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /api/session HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /" + b"a" * 15000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n" * 2000,
    )
    for number in range(10_000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", daemon.port), timeout=5) as one:
            one.sendall(kinds[number % len(kinds)])
            one.settimeout(0.005)
            one.recv(1000)


def upload(daemon: Daemon, stopping: threading.Event) -> None:
    head = (
        f"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nAuthorization: {BASIC}\r\n"
        "Content-Type: application/json\r\n"
    )
    for framing in ("Content-Length: 1000000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", daemon.port), timeout=5) as one:
            one.sendall((head + framing).encode())
            for _ in range(1000):
                one.sendall(b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n")
                if stopping.is_set():
                    return


def silent_streams(daemon: Daemon, stopping: threading.Event) -> None:
    open_sockets = []
    request = f"GET /api/stream?pipeline=camera HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {BASIC}\r\n\r\n".encode()
    for _ in range(100):
        with contextlib.suppress(OSError):
            one = socket.create_connection(("127.0.0.1", daemon.port), timeout=5)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.sendall(request)
            open_sockets.append(one)
    stopping.wait()
    for one in open_sockets:
        one.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each phase")
    parser.add_argument("--only", choices=("costs", "rate", "abuse"), help="run one part only")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-web-") as name:
        folder = Path(name)
        if options.only in {None, "costs"}:
            result["costs"] = costs(folder / "costs", options.seconds)
        if options.only in {None, "rate"}:
            result["rate"] = inference_rate(folder / "rate", options.seconds)
        if options.only in {None, "abuse"}:
            result["abuse"] = abuse(folder / "abuse")
    if options.json:
        print(json.dumps(result))
        return
    for part, figures in result.items():
        print(part)
        for key, value in figures.items():
            print(f"  {key:10} {json.dumps(value) if isinstance(value, dict | list) else f'{value:.3f}'}")


if __name__ == "__main__":
    main()
