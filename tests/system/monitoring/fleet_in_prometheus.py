"""Runs daemons, a mosquitto and a Prometheus, and checks what the recipes of docs/fleet show. See monitoring.sh.

usage: fleet_in_prometheus.py FOLDER DEVICES

FOLDER contains Debian's prometheus, unpacked, and the recipes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from stand_in import Machine, build_delegate, model_pair

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[3]
PHOTOS = REPOSITORY / "edge_classifierd" / "demo_photos"
TOKEN = "a token for the metrics"
SLACK = float(os.environ.get("SLACK", "1"))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds * SLACK
    while True:
        with contextlib.suppress(OSError):
            found = condition()
            if found:
                print(f"ok      {what}", flush=True)
                return found
        if time.monotonic() > end:
            raise SystemExit(f"not within {seconds * SLACK:g} s: {what}")
        time.sleep(0.3)


class Camera(BaseHTTPRequestHandler):
    """A network camera that sends one photograph again and again while `frozen`, else two in turn."""

    frozen = True
    sent = 0

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        Camera.sent += 1
        name = "cat" if Camera.frozen or Camera.sent % 2 else "coffee"
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.end_headers()
        self.wfile.write((PHOTOS / f"{name}.jpg").read_bytes())


class Lab:
    """One device's network camera, Edge TPU stick, board sensors and clock state, which the test makes fail."""

    def __init__(self, folder: Path) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
        Thread(target=server.serve_forever, daemon=True).start()
        folder.mkdir()
        self.machine = Machine(folder / "root")
        self.machine.add("1-1")
        root = self.machine.root
        (root / "proc").symlink_to("/proc")
        self.zone = root / "sys/class/thermal/thermal_zone0"
        self.zone.mkdir(parents=True)
        (self.zone / "type").write_text("cpu-thermal")
        self.fault = folder / "fault"
        self.mend()
        library = build_delegate(folder)
        model_pair(folder)
        compiled = {"path": str(folder / "colours_edgetpu.tflite"), "cpu_model": str(folder / "colours.tflite")}
        settings: dict[str, Any] = {"library": str(library), "deadline": "2s", "load_deadline": "5s"}
        settings["options"] = {"mode": "abort", "while": str(self.fault)}
        camera = f"http://127.0.0.1:{server.server_address[1]}/still.jpg"
        self.pipelines = [
            {"name": "lens", "source": {"type": "snapshot", "url": camera, "interval": "2s"}, "model": {"threads": 1}},
            {
                "name": "stick",
                "source": {"type": "folder", "path": str(PHOTOS), "fps": 1, "loop": True},
                "model": {**compiled, "threads": 1, "device": "usb:0", "edgetpu": settings},
            },
        ]
        sensors = REPOSITORY / "tests/system/monitoring/sensors"
        self.environment = {**self.machine.environment, "PYTHONPATH": f"{sensors}:{REPOSITORY}"}

    def fail(self) -> None:
        (self.zone / "temp").write_text("91000")
        (self.machine.root / "synchronized").unlink()
        self.fault.touch()

    def mend(self) -> None:
        (self.zone / "temp").write_text("48000")
        (self.machine.root / "synchronized").touch()
        self.fault.unlink(missing_ok=True)


class Site:
    """A broker, devices and a Prometheus, each a process of its own."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.folder = folder
        self.broker_port, self.prometheus_port = free_port(), free_port()
        self.ports = {f"device-{number:02}": free_port() for number in range(1, devices + 1)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.lab = Lab(folder / "lab")
        self.lab_device = list(self.ports)[len(self.ports) // 2]
        self.cameras = devices + len(self.lab.pipelines)

    def start(self, name: str, *command: str, **environment: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})

    def start_broker(self) -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.broker_port} 127.0.0.1\nallow_anonymous true\n")
        binary = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert binary is not None
        self.start("mosquitto", binary, "-c", str(config))

    def start_device(self, name: str) -> None:
        home = self.folder / name
        photos = home / "photos"
        if not photos.exists():
            photos.mkdir(parents=True)
            for photo in ("cat", "coffee"):
                shutil.copy(PHOTOS / f"{photo}.jpg", photos)
        document: dict[str, Any] = {
            "device": {"id": name},
            "mqtt": {"host": "127.0.0.1", "port": self.broker_port},
            "outbox": {"max_events": 100},
            "web": {"listen": f"127.0.0.1:{self.ports[name]}", "metrics_token": TOKEN},
            "pipelines": [
                {
                    "name": "garden",
                    "source": {"type": "folder", "path": str(photos), "fps": 2, "loop": True},
                    "model": {"threads": 1},
                    "watches": [{"name": "cat", "labels": ["*cat*"], "threshold": 0.5}],
                }
            ],
        }
        environment = {"EDGE_CLASSIFIERD_STATE": str(home / "state")}
        if name == self.lab_device:
            document["pipelines"] += self.lab.pipelines
            environment |= self.lab.environment
        (home / "config.yaml").write_text(json.dumps(document))
        command = (sys.executable, "-m", "edge_classifierd", "run", "--config", str(home / "config.yaml"))
        self.start(name, *command, **environment)

    def start_prometheus(self) -> None:
        """Start it with the recipes, which wait a hundredth of the time."""
        rules = (self.folder / "alerts.yml").read_text()
        (self.folder / "alerts.yml").write_text(re.sub(r"for: \d+m", "for: 3s", rules).replace("[15m]", "[1m]"))
        recipe = (self.folder / "prometheus.yml").read_text().replace("30s", "1s")
        targets = "".join(f"          - 127.0.0.1:{port}\n" for port in self.ports.values())
        recipe = re.sub(r"(?m)(- targets:\n)( +- \S+\n)+", lambda match: match[1] + targets, recipe)
        (self.folder / "prometheus.yml").write_text(recipe)
        (self.folder / "metrics-token").write_text(TOKEN)
        self.start(
            "prometheus",
            str(self.folder / "usr/bin/prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.prometheus_port}",
        )

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(60)

    def query(self, expression: str) -> list[dict[str, Any]]:
        address = f"http://127.0.0.1:{self.prometheus_port}/api/v1/query"
        with urllib.request.urlopen(f"{address}?{urllib.parse.urlencode({'query': expression})}", timeout=10) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        found: list[dict[str, Any]] = document["data"]["result"]
        return found

    def firing(self, alert: str, **labels: str) -> bool:
        chosen = ",".join(f'{name}="{value}"' for name, value in {"alertname": alert, **labels}.items())
        return bool(self.query(f'ALERTS{{alertstate="firing",{chosen}}}'))

    def instance(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"


def fires_and_resolves(
    site: Site, alert: str, name: str, cause: Callable[[], object], end: Callable[[], object]
) -> None:
    instance = site.instance(name)
    assert not site.firing(alert, instance=instance), alert
    cause()
    until(lambda: site.firing(alert, instance=instance), 90, f"{alert} fires")
    end()
    until(lambda: not site.firing(alert, instance=instance), 120, f"{alert} resolves")


def run(site: Site) -> None:
    first, *_, last = site.ports
    site.start_broker()
    for name in site.ports:
        site.start_device(name)
    site.start_prometheus()
    number = len(site.ports)
    until(lambda: len(site.query('up{job="edge-classifierd"} == 1')) == number, 180, f"{number} devices are scraped")
    online = "edge_classifierd_pipeline_online == 1"
    until(lambda: len(site.query(online)) == site.cameras, 60, "all cameras are online")
    until(lambda: len(site.query("rate(edge_classifierd_events_total[1m]) > 0")) >= number, 60, "all publish events")
    check_fleet(site)
    check_dashboard(site)
    check_sensors(site)

    fires_and_resolves(
        site, "DeviceAway", first, lambda: site.end(first, signal.SIGKILL), lambda: site.start_device(first)
    )
    photos = site.folder / last / "photos"
    away = photos.with_name("away")
    fires_and_resolves(site, "CameraOffline", last, lambda: photos.rename(away), lambda: away.rename(photos))
    until(lambda: site.query("edge_classifierd_mqtt_connected == 1"), 60, "the broker is connected")
    fires_and_resolves(site, "BrokerAway", last, lambda: site.end("mosquitto"), lambda: lost_events(site, last))


def lost_events(site: Site, name: str) -> None:
    """Wait until the outbox, of 100 events, is too small; then start the broker again."""
    until(lambda: site.firing("EventsLost", instance=site.instance(name)), 180, "EventsLost fires")
    site.start_broker()
    until(lambda: not site.firing("EventsLost", instance=site.instance(name)), 180, "EventsLost resolves")


def check_sensors(site: Site) -> None:
    """Make one device too hot, its clock wrong and its Edge TPU go; its camera has been frozen since the start."""
    instance = site.instance(site.lab_device)
    alerts = ("TooHot", "ClockWrong", "AcceleratorDegraded")
    for alert in alerts:
        assert not site.firing(alert, instance=instance), alert
    site.lab.fail()
    for alert in alerts:
        until(lambda alert=alert: site.firing(alert, instance=instance), 90, f"{alert} fires")  # type: ignore[misc]
    site.lab.mend()
    for alert in alerts:
        until(lambda alert=alert: not site.firing(alert, instance=instance), 120, f"{alert} resolves")  # type: ignore[misc]
    until(lambda: site.firing("CameraFrozen", instance=instance, reason="frozen"), 300, "CameraFrozen fires")
    Camera.frozen = False
    until(lambda: not site.firing("CameraFrozen", instance=instance), 120, "CameraFrozen resolves")


def check_fleet(site: Site) -> None:
    """Run `fleet` up to five times, because the machine may be busy; one of them must be quick."""
    times_s = []
    for _ in range(5):
        began = time.monotonic()
        command = (sys.executable, "-m", "edge_classifierd", "fleet", "--host", "127.0.0.1", "--json")
        done = subprocess.run([*command, "--port", str(site.broker_port)], capture_output=True, text=True, check=False)
        times_s.append(time.monotonic() - began)
        devices = json.loads(done.stdout)["devices"]
        assert [device["id"] for device in devices] == list(site.ports), done.stdout
        assert all(device["online"] and device["health"]["pipelines"][0]["fps"] for device in devices)
        if times_s[-1] <= 2:
            break
    taken = ", ".join(f"{one:.1f}" for one in times_s)
    if min(times_s) > 2 * SLACK:
        raise SystemExit(f"fleet took longer than {2 * SLACK:g} s: {taken} s")
    print(f"ok      fleet shows all after {taken} s", flush=True)


def check_dashboard(site: Site) -> None:
    dashboard = json.loads((REPOSITORY / "docs/fleet/grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for query in queries:
        found = site.query(query.replace("$device", ".*"))
        # No camera is degraded now, and not every board has a sensor of its temperature.
        assert found or "degraded" in query or "temperature" in query, f"no data: {query}"
    print(f"ok      the {len(queries)} queries of the dashboard run")


def main() -> None:
    site = Site(Path(sys.argv[1]), int(sys.argv[2]))
    try:
        run(site)
        print("all as it must be")
    finally:
        for name in list(site.processes):
            site.end(name, signal.SIGTERM if name in {"prometheus", "mosquitto"} else signal.SIGKILL)


main()
