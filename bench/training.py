"""What a training takes: its memory and time, and what is left for the cameras beside it.

    .venv/bin/python bench/training.py [--pictures 1000] [--rounds 3] [--seconds 15] [--unit]
                                       [--only alone | camera | saturated]

Trains drawn pictures of three classes, no two alike, in the real child process: alone, and by a real daemon with a
page, a mosquitto and a subscriber, once with a network camera of 10 pictures a second and once with as many pictures as
the classifier takes. Each picture of the camera makes an event. Measures alternately without and with a training, so
compare the two figures of a round: on a machine that others use, the figures alone mean little. The second training of
the same pictures is shorter, because it knows their embeddings. With TMPDIR=/dev/shm the disk, which each event waits
for, is left out.

With --unit the daemon is the installed service under its unit. Its configuration is replaced, so do this only where
nobody needs it: `tests/system/run.sh training` does it on a booted Debian.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "integration"), str(ROOT / "tests/unit/teaching/training")]

from broker_process import Broker, Subscriber, free_port  # noqa: E402 - found only now
from daemon_process import CAT, PHOTOS, Daemon, a_pipeline, photographs, write_config  # noqa: E402
from drawn_pictures import SHAPES, drawn, write  # noqa: E402
from stream_servers import Server  # noqa: E402
from teach_device import MODEL as TAUGHT  # noqa: E402
from teach_device import TeachDevice  # noqa: E402
from teach_kills import training_child  # noqa: E402
from training_scene import CLASSES, MODEL, pictures  # noqa: E402

from edge_classifierd.clock import SystemClock  # noqa: E402
from edge_classifierd.teaching.training.trainer import Trainer  # noqa: E402
from edge_classifierd.teaching.training.versions import Versions  # noqa: E402

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from paho.mqtt import client as paho

    from edge_classifierd.teaching.records import TrainingPictures

_FPS = 10
_TOO_LATE_S = 0.1
_SERVICE = "edge-classifierd.service"
_SERVICE_CONFIG = Path("/etc/edge-classifierd/config.yaml")
_SERVICE_STATE = Path("/var/lib/edge-classifierd")


class Camera(Server):
    """A network camera of 10 pictures a second that shows a cat and a cup in turn, and notes when it has sent each."""

    def __init__(self) -> None:
        self.sent_s: list[float] = []
        """Wall clock, seconds; those of the cat have even positions."""
        super().__init__()

    def serve(self, connection: socket.socket) -> None:
        while b"\r\n\r\n" not in connection.recv(65536):
            pass
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n")
        shown = [(PHOTOS / f"{name}.jpg").read_bytes() for name in ("cat", "coffee")]
        began_s = time.monotonic()
        for number in count():
            if self.stopping.wait(max(0.0, began_s + number / _FPS - time.monotonic())):
                return
            picture = shown[len(self.sent_s) % 2]
            self.sent_s.append(time.time())
            head = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
            connection.sendall(head + picture + b"\r\n")

    def lateness_s(self, event: dict[str, Any], arrived_s: float) -> float:
        """Return how long after the picture of an event was sent the event has arrived."""
        sent_s = self.sent_s[event["type"] != "detected" :: 2]
        taken_s = datetime.fromisoformat(event["time"]).timestamp() + 0.001  # it has whole milliseconds
        return arrived_s - sent_s[max(0, bisect_right(sent_s, taken_s) - 1)]


class Arrivals(Subscriber):
    """A subscriber that notes when each event has arrived."""

    def __init__(self, port: int) -> None:
        self.arrived: list[tuple[float, dict[str, Any]]] = []
        super().__init__(port, "+/+/+/event")

    def _on_message(self, client: object, userdata: object, message: paho.MQTTMessage) -> None:
        self.arrived.append((time.time(), json.loads(message.payload)))
        super()._on_message(client, userdata, message)


class Service:
    """The installed service with another configuration, in place of a `Daemon`; it is its own `process`."""

    def __init__(self, config: Path) -> None:
        self.log = Path("the journal")
        self.state = _SERVICE_STATE
        self.process = self
        shutil.copyfile(config, _SERVICE_CONFIG)
        subprocess.run(["systemctl", "stop", _SERVICE], check=True)
        shutil.rmtree(_SERVICE_STATE / "taught", ignore_errors=True)
        subprocess.run(["systemctl", "start", _SERVICE], check=True)
        self.pid = int(self._property("MainPID"))

    def __exit__(self, *_: object) -> None:
        subprocess.run(["systemctl", "stop", _SERVICE], check=True)

    def poll(self) -> int | None:
        """Return None while the first process of the service runs."""
        return None if int(self._property("MainPID")) == self.pid else 1

    @property
    def said(self) -> str:
        return subprocess.check_output(["journalctl", "-u", _SERVICE, "-o", "cat", "--no-pager"], text=True)

    def _property(self, name: str) -> str:
        return subprocess.check_output(["systemctl", "show", "-P", name, _SERVICE], text=True)


class Device(TeachDevice):
    """A daemon with the page whose pipeline has any source."""

    def __init__(
        self, folder: Path, broker_port: int, source: dict[str, Any], *watches: dict[str, Any], unit: bool
    ) -> None:
        self.folder = folder
        self.port = free_port()
        one = a_pipeline(folder, *watches, source=source, model={"threads": 2}, snapshot={"enabled": False})
        web = {"listen": f"127.0.0.1:{self.port}"}
        self.config = write_config(folder / "config.yaml", broker_port, one, web=web)
        self.daemon = Service(self.config) if unit else Daemon(self.config)  # type: ignore[assignment] # has what is used of it
        self.classes = {}

    def prepare(self, count: int) -> None:
        """Draw `count` pictures and import them as the model `shapes`."""
        archive = self.folder / "shapes.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            for number in range(count):
                shape = SHAPES[number % len(SHAPES)]
                write(self.folder / "picture.jpg", unlike_others(shape, number))
                opened.write(self.folder / "picture.jpg", f"{CLASSES[shape]}/{number}.jpg")
        command = [sys.executable, "-m", "edge_classifierd", "teach", "import", str(archive), "--name", MODEL]
        subprocess.run([*command, "--state", str(self.state)], check=True, stdout=subprocess.DEVNULL)

    def classified(self) -> int:
        """Return the number of classified frames since the daemon started."""
        content = self.request("GET", "/metrics")[1].decode()
        name = 'edge_classifierd_frames_total{pipeline="driveway",result="classified"} '
        return int(float(next(line for line in content.splitlines() if line.startswith(name)).removeprefix(name)))


def unlike_others(shape: str, number: int) -> np.ndarray:
    """Draw (672, 672, 3) bytes: a shape behind coarse noise, so that no picture is nearly a copy of another."""
    noise = np.random.default_rng((SHAPES.index(shape), number)).integers(-70, 70, (16, 16, 1)).repeat(6, 0)
    pixels = np.clip(drawn(shape, number) + noise.repeat(6, 1), 0, 255).astype(np.uint8)
    return pixels.repeat(7, 0).repeat(7, 1)


@dataclass
class Window:
    """What was measured in some seconds, without or with a training."""

    seconds: float
    classified: int
    sent: int = 0
    late_s: tuple[float, ...] = ()
    """How late each event was."""
    training: str = " without"

    @property
    def rate(self) -> float:
        """Classified frames a second."""
        return self.classified / self.seconds

    @property
    def share(self) -> float:
        """The share of the camera's pictures that was classified."""
        return self.classified / max(self.sent, 1)

    def late(self) -> str:
        """Return median, 95th percentile and maximum of the events' lateness."""
        late_ms = [late_s * 1000 for late_s in self.late_s]
        return f"{statistics.median(late_ms):.0f} / {quantile(late_ms, 95):.0f} / {max(late_ms):.0f} ms"


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class Training:
    """A training of a daemon, and the peak of its child's memory."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._path = f"{TAUGHT}/trainings/{device.send('POST', f'{TAUGHT}/trainings', {})['id']}"
        time.sleep(0.5)
        self._child = training_child(device)
        self.stage = "looking"
        self.peak_mb = 0.0

    def runs(self) -> bool:
        """Look once; return whether it still runs."""
        self.peak_mb = max(self.peak_mb, memory_peak_mb(self._child))
        self.stage = self._device.send("GET", self._path)["stage"]
        return self.stage not in {"finished", "failed"}

    def end(self) -> None:
        """Cancel it if it runs."""
        if self.runs():
            self._device.send("DELETE", self._path)


def measure(device: Device, seconds: float, camera: Camera | None, arrivals: Arrivals, *, train: bool) -> Window:
    """Measure for `seconds`; with `train` during a training, to its end where a camera sets the pace."""
    training = Training(device) if train else None
    sent, events = 0 if camera is None else len(camera.sent_s), len(arrivals.arrived)
    began_s, before = time.time(), device.classified()
    until_s = began_s + (10 * seconds if train and camera is not None else seconds)
    while time.time() < until_s and (training is None or training.runs()):
        time.sleep(0.5)
    ended_s, after = time.time(), device.classified()
    sent = 0 if camera is None else len(camera.sent_s) - sent
    if training is not None:
        training.end()
    time.sleep(1)  # for the last events
    late_s = () if camera is None else tuple(camera.lateness_s(one, at_s) for at_s, one in arrivals.arrived[events:])
    how = " without" if training is None else f" with a training ({training.stage}, {training.peak_mb:.0f} MB)"
    return Window(ended_s - began_s, after - before, sent, late_s, how)


def memory_peak_mb(process: int | None) -> float:
    """Return the most memory that a process has had; 0 when it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def alone(state: Path, count: int) -> None:
    """Print the time and the memory of a training of `count` pictures, and of a second one with 21 more."""
    each = -(-count // 3)
    train_alone(state, pictures(state, each, unlike_others))
    train_alone(state, pictures(state, each + 7, unlike_others))


def train_alone(state: Path, drawn: TrainingPictures) -> None:
    """Print the time and the memory of a training."""
    trainer, peak_mb, began_s = Trainer(Versions(state), SystemClock(), available=lambda: None), 0.0, time.monotonic()
    trainer.start(drawn)
    while (now := trainer.state()) is None or now.runs:
        child = trainer._child
        peak_mb = max(peak_mb, memory_peak_mb(None if child is None else child.pid))
        time.sleep(0.05)
    learnt = sum(len(one.learn) for one in drawn.classes)
    every = learnt + sum(len(one.held_out) for one in drawn.classes)
    how = now.failure or now.stage
    took_s = time.monotonic() - began_s
    print(f"{every} pictures, {learnt} learnt from, alone: {how} after {took_s:.1f} s, at most {peak_mb:.0f} MB")
    for result in Versions(state).results(MODEL)[:1]:
        print(f"  {result.sentences[0] if result.sentences else ''}", flush=True)


@contextlib.contextmanager
def taught_device(
    folder: Path, broker: Broker, given: argparse.Namespace, source: dict[str, Any], *watches: dict[str, Any]
) -> Iterator[Device]:
    """A daemon that has classified for some seconds, with pictures to train on."""
    folder.mkdir()
    with Device(folder, broker.port, source, *watches, unit=given.unit) as device:
        device.prepare(given.pictures)
        time.sleep(3)
        yield device


def beside_camera(folder: Path, broker: Broker, arrivals: Arrivals, given: argparse.Namespace) -> None:
    """Print what is classified of 10 pictures a second, and how late the events are, without and with a training."""
    camera = Camera()
    source = {"type": "stream", "url": camera.url}
    try:
        with taught_device(folder, broker, given, source, CAT) as device:
            windows: dict[bool, list[Window]] = {False: [], True: []}
            for number in range(given.rounds):
                for train in (False, True):
                    one = measure(device, given.seconds, camera, arrivals, train=train)
                    windows[train].append(one)
                    print(
                        f"10 a second, round {number + 1}, {one.seconds:4.1f} s{one.training}: {one.classified} of "
                        f"{one.sent} classified, {len(one.late_s)} events after {one.late()} (median / p95 / max)",
                        flush=True,
                    )
    finally:
        camera.stop()
    whole = {train: join(all_of) for train, all_of in windows.items()}
    usual_s = statistics.median(whole[False].late_s)
    too_late = {train: sum(late_s > usual_s + _TOO_LATE_S for late_s in one.late_s) for train, one in whole.items()}
    print(f"classified during training: {whole[True].share:.1%} (without: {whole[False].share:.1%})")
    print(f"events (median / p95 / max): without {whole[False].late()}, with {whole[True].late()}")
    print(f"100 ms later than the median without: {too_late[False]} without, {too_late[True]} with", flush=True)


def join(windows: list[Window]) -> Window:
    """Return the sum of windows."""
    return Window(
        sum(one.seconds for one in windows),
        sum(one.classified for one in windows),
        sum(one.sent for one in windows),
        tuple(late_s for one in windows for late_s in one.late_s),
    )


def beside_saturated(folder: Path, broker: Broker, arrivals: Arrivals, given: argparse.Namespace) -> None:
    """Print the rate of a classifier that always has a frame, without and with a training."""
    shown = photographs(folder.with_name("photos"), "cat", "coffee")
    source = {"type": "folder", "path": str(shown), "fps": 1000, "loop": True}
    ratios = []
    with taught_device(folder, broker, given, source) as device:
        for number in range(given.rounds):
            # Between two windows without one, so that a machine that becomes slower or faster does not count.
            rates = [measure(device, given.seconds, None, arrivals, train=train).rate for train in (False, True, False)]
            ratios.append(2 * rates[1] / (rates[0] + rates[2]))
            shown_rates = ", ".join(f"{rate:.1f}" for rate in rates)
            print(f"saturated, round {number + 1}, without, with, without: {shown_rates} a second", flush=True)
    print(f"saturated: median {statistics.median(ratios):.1%} of the rate, least {min(ratios):.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--pictures", type=int, default=1000, help="to train on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="of each window")
    parser.add_argument("--only", choices=["alone", "camera", "saturated"])
    parser.add_argument("--unit", action="store_true", help="measure the installed service")
    given = parser.parse_args()
    # The service cannot see what is in /tmp and /var/tmp.
    with tempfile.TemporaryDirectory(dir="/srv" if given.unit else None) as name:
        folder = Path(name)
        folder.chmod(0o755)
        if given.only in {None, "alone"}:
            alone(folder, given.pictures)
        if given.only == "alone":
            return
        broker = Broker(folder).start()
        arrivals = Arrivals(broker.port)
        try:
            if given.only != "saturated":
                beside_camera(folder / "camera", broker, arrivals, given)
            if given.only != "camera":
                beside_saturated(folder / "saturated", broker, arrivals, given)
        finally:
            arrivals.close()
            broker.stop()


if __name__ == "__main__":
    main()
