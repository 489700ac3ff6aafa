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
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


class Site:
    """A broker, devices and a Prometheus, each a process of its own."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.folder = folder
        self.broker_port, self.prometheus_port = free_port(), free_port()
        self.ports = {f"device-{number:02}": free_port() for number in range(1, devices + 1)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

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
        document = {
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
        (home / "config.yaml").write_text(json.dumps(document))
        command = (sys.executable, "-m", "edge_classifierd", "run", "--config", str(home / "config.yaml"))
        self.start(name, *command, EDGE_CLASSIFIERD_STATE=str(home / "state"))

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
    until(lambda: len(site.query("edge_classifierd_pipeline_online == 1")) == number, 60, "all cameras are online")
    until(lambda: len(site.query("rate(edge_classifierd_events_total[1m]) > 0")) >= number, 60, "all publish events")
    check_fleet(site)
    check_dashboard(site)

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


def check_fleet(site: Site) -> None:
    began = time.monotonic()
    command = (sys.executable, "-m", "edge_classifierd", "fleet", "--host", "127.0.0.1", "--json")
    done = subprocess.run([*command, "--port", str(site.broker_port)], capture_output=True, text=True, check=False)
    took_s = time.monotonic() - began
    devices = json.loads(done.stdout)["devices"]
    assert [device["id"] for device in devices] == list(site.ports), done.stdout
    assert all(device["online"] and device["health"]["pipelines"][0]["fps"] for device in devices)
    print(f"ok      fleet shows all after {took_s:.1f} s")


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
