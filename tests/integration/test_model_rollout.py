"""Roll-out of a model from a real HTTPS server to a real daemon, with everything that can go wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import tflite_builder as tflite
from broker_process import Subscriber, wait_until
from daemon_process import Daemon, a_pipeline, photographs, write_config
from model_server import ModelServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_process import Broker

CAT = {"name": "cat", "labels": ["cat"], "threshold": 0.99}
HEALTH = "edge-classifierd/porch/health"


def model_file(about: str, size: int = 0) -> bytes:
    files = {"labels.txt": b"cat\ndog\nfox\n", "about.bin": about.encode() + os.urandom(size)}
    return tflite.pack(tflite.classifier(tflite.SOFTMAX), files=files)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate in one file; the certificate is its own authority."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", file, "-out", f"{file}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_bytes(file.read_bytes() + (file.parent / "server.pem.crt").read_bytes())
    return file


class Fleet:
    """One device, its broker, and the server with its models."""

    def __init__(self, folder: Path, broker: Broker, server: ModelServer, certificate: Path) -> None:
        self.folder = folder
        self.port = broker.port
        self.server = server
        self.certificate = certificate
        self.photos = photographs(folder / "photos", "cat")
        self.subscriber = Subscriber(broker.port)
        self.daemon: Daemon | None = None

    def configure(self, content: bytes, name: str = "birds", wanted: str | None = None) -> None:
        """Name a model in the configuration and put it on the server; `wanted` is another SHA-256 than its own."""
        self.server.files[f"/{name}.tflite"] = content
        model = {"url": f"{self.server.url}/{name}.tflite", "sha256": wanted or sha256(content), "threads": 1}
        other = a_pipeline(self.photos, name="garden")
        write_config(self.config, self.port, a_pipeline(self.photos, CAT, model=model), other)

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def start(self) -> None:
        self.daemon = Daemon(self.config, SSL_CERT_FILE=str(self.certificate))

    def reload(self) -> None:
        assert self.daemon is not None
        self.daemon.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        assert self.daemon is not None
        self.daemon.__exit__()

    def health(self, name: str = "driveway") -> dict[str, Any]:
        last = self.subscriber.last(HEALTH)
        found: dict[str, Any] = json.loads(last)["pipelines"].get(name, {}) if last else {}
        return found

    def runs(self, content: bytes) -> bool:
        health = self.health()
        return (
            bool(health) and health["status"] == "online" and (health["model"] or {}).get("sha256") == sha256(content)
        )

    def reason(self, words: str) -> bool:
        return any(words in reason for reason in self.health().get("reasons", []))

    def expect(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edge_classifierd", "fleet", "--host", "127.0.0.1", "--port", str(self.port)]
        return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def fleet(tmp_path: Path, broker: Broker, certificate: Path) -> Iterator[Fleet]:
    with ModelServer(certificate) as server:
        made = Fleet(tmp_path, broker, server, certificate)
        yield made
        made.subscriber.close()
        if made.daemon is not None:
            made.kill()


OLD, NEW = model_file("old"), model_file("new")


def test_a_roll_out_reaches_the_device_and_fleet_waits_for_it(fleet: Fleet) -> None:
    fleet.configure(OLD)
    fleet.start()
    wait_until(lambda: fleet.runs(OLD))
    waiting = fleet.expect("--expect", f"birds-2={sha256(NEW)[:8]}", "--for", "60")
    fleet.configure(NEW, "birds-2")
    fleet.reload()
    out, error = waiting.communicate(timeout=90)
    assert waiting.returncode == 0, error
    assert f"birds-2 {sha256(NEW)[:8]}" in out
    assert fleet.health()["wanted_model"] is None
    assert fleet.health()["reasons"] == []
    states = [body for topic, body, _ in fleet.subscriber.messages if topic.endswith("/porch/status")]
    assert states == [b"online"]


def test_a_wrong_hash_and_an_endless_body_leave_the_old_model(fleet: Fleet) -> None:
    fleet.configure(OLD)
    fleet.start()
    wait_until(lambda: fleet.runs(OLD))
    fleet.configure(NEW, wanted="ab" * 32)
    fleet.reload()
    wait_until(lambda: fleet.reason("has the SHA-256"))
    assert fleet.runs(OLD)
    assert fleet.health()["wanted_model"] == {"name": "birds", "sha256": "ab" * 32}
    waiting = fleet.expect("--expect", "model=abababab", "--for", "1")
    _, error = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert f"model=abababab: porch/driveway: has birds {sha256(OLD)[:8]}" in error
    fleet.server.fault = "endless"
    fleet.configure(NEW)
    fleet.reload()
    wait_until(lambda: fleet.reason("sends more than at most 200,000,000 bytes"), 120)
    assert fleet.runs(OLD)
    fleet.server.fault = ""
    fleet.reload()
    wait_until(lambda: fleet.runs(NEW))


def test_without_its_server_a_device_runs_the_last_good_model_and_a_new_one_waits(fleet: Fleet) -> None:
    fleet.server.fault = "error"
    fleet.configure(OLD)
    fleet.start()
    wait_until(lambda: fleet.reason("the server answers 503") and fleet.health("garden")["status"] == "online")
    assert fleet.health()["status"] == "offline"
    assert fleet.reason("is not on this device yet")
    fleet.server.fault = ""
    wait_until(lambda: fleet.runs(OLD))
    fleet.kill()
    fleet.server.fault = "error"
    fleet.configure(NEW)
    fleet.start()
    wait_until(lambda: fleet.runs(OLD) and fleet.reason(f"birds ({sha256(OLD)[:8]}) runs meanwhile"))


def test_a_slow_server_delays_neither_classification_nor_the_end(fleet: Fleet) -> None:
    fleet.configure(OLD)
    fleet.start()
    wait_until(lambda: fleet.runs(OLD))
    fleet.server.fault = "mute"
    fleet.configure(NEW)
    fleet.reload()
    wait_until(lambda: len(fleet.server.requested) > 1)
    inferences = fleet.health()["inferences"]
    wait_until(lambda: fleet.health()["inferences"] > inferences)
    assert fleet.runs(OLD)
    assert fleet.daemon is not None
    code, took_s = fleet.daemon.end()
    assert code == 0
    assert took_s < 8, "the fetch is not waited for"


def test_a_cut_body_and_kills_at_any_time_end_with_the_new_model(fleet: Fleet) -> None:
    """Each start runs the old or the new model at once; never none, and never a part of one."""
    fleet.configure(OLD)
    fleet.start()
    wait_until(lambda: fleet.runs(OLD))
    large = model_file("large", 3_000_000)
    fleet.server.fault, fleet.server.cut_after = "cut", 400_000
    fleet.configure(large)
    fleet.reload()
    for delay_s in (0.0, 0.4, 0.8, 1.2):
        asked = len(fleet.server.requested)
        fetched = fleet.folder / "state" / "fetched" / f"{sha256(large)}.tflite"
        wait_until(lambda asked=asked: len(fleet.server.requested) > asked or fleet.runs(large))  # type: ignore[misc]
        if delay_s:
            wait_until(fetched.exists)  # then the trial and the switch
            time.sleep(delay_s)
        fleet.kill()
        fleet.subscriber.messages.clear()
        fleet.start()
        wait_until(lambda: fleet.health().get("status") == "online")
        assert fleet.runs(OLD) or fleet.runs(large)
    wait_until(lambda: fleet.runs(large))
    assert any(wanted is not None for _, wanted in fleet.server.requested), "what came before a kill is not lost"
    assert fleet.health()["reasons"] == []
