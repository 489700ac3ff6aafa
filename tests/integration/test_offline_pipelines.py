"""Pipelines that cannot start cost neither the others nor the daemon, and start when the cause has ended."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import tflite_builder as tflite
from broker_process import Subscriber, free_port, wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config
from stream_servers import HttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_process import Broker

BASE = "edge-classifierd/porch"
WORKS = tflite.pack(tflite.classifier(tflite.SOFTMAX))
UNPREPARABLE = tflite.pack(tflite.custom("my-op"))
RED = {"name": "red", "labels": ["red"], "threshold": 0.99}


class Scene:
    """A healthy pipeline, and one for each cause that keeps a pipeline from starting."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.folder = folder
        self.camera_port = free_port()
        self.subscriber = Subscriber(broker.port)
        self.camera: HttpServer | None = None
        photographs(folder / "photos", "coffee", "coffee", "cat", "cat")
        (folder / "empty").mkdir()
        (folder / "labels.txt").write_text("red\ngreen\nblue\n")
        (folder / "damaged.tflite").write_bytes(WORKS[: len(WORKS) // 2])
        (folder / "unpreparable.tflite").write_bytes(UNPREPARABLE)
        self.broken = {
            "missing": a_pipeline(folder / "nowhere", CAT, name="missing"),
            "empty": a_pipeline(folder / "empty", CAT, name="empty"),
            "damaged": self._with_model("damaged"),
            "unpreparable": self._with_model("unpreparable"),
            "camera": a_pipeline(folder, CAT, name="camera", source=self._stream()),
        }
        self.healthy = a_pipeline(folder / "photos", CAT, name="healthy")
        self.config = folder / "config.yaml"
        self.port = broker.port
        self.write(self.healthy, *self.broken.values())

    def write(self, *pipelines: dict[str, Any]) -> None:
        write_config(self.config, self.port, *pipelines)

    def end_the_causes(self) -> None:
        photographs(self.folder / "nowhere", "cat", "coffee")
        shutil.copy(self.folder / "nowhere" / "000-cat.jpg", self.folder / "empty")
        for name in ("damaged", "unpreparable"):
            (self.folder / f"{name}.tflite").write_bytes(WORKS)
        self.camera = HttpServer(port=self.camera_port)

    def statuses(self) -> dict[str, str]:
        """The last status of each pipeline on the broker."""
        found = {}
        for topic, payload, _ in list(self.subscriber.messages):
            if topic.startswith(f"{BASE}/") and topic.endswith("/status") and topic != f"{BASE}/status":
                found[topic.split("/")[2]] = payload.decode()
        return found

    def health(self) -> dict[str, Any]:
        found = [payload for topic, payload, _ in list(self.subscriber.messages) if topic == f"{BASE}/health"]
        return json.loads(found[-1]) if found else {"pipelines": {}}

    def reasons(self) -> dict[str, str]:
        return {name: " ".join(pipeline["reasons"]) for name, pipeline in self.health()["pipelines"].items()}

    def events(self, pipeline: str) -> int:
        return sum(topic == f"{BASE}/{pipeline}/event" for topic, _, _ in list(self.subscriber.messages))

    def close(self) -> None:
        self.subscriber.close()
        if self.camera is not None:
            self.camera.stop()

    def _with_model(self, name: str) -> dict[str, Any]:
        model = {"path": str(self.folder / f"{name}.tflite"), "labels": str(self.folder / "labels.txt"), "threads": 1}
        return a_pipeline(self.folder / "photos", RED, name=name, model=model)

    def _stream(self) -> dict[str, Any]:
        return {"type": "stream", "url": f"http://127.0.0.1:{self.camera_port}/live"}


@pytest.fixture
def scene(tmp_path: Path, broker: Broker) -> Iterator[Scene]:
    made = Scene(tmp_path, broker)
    yield made
    made.close()


def all_but_healthy_are_offline(scene: Scene) -> bool:
    reasons = scene.reasons()
    return all(reasons.get(name) for name in scene.broken) and scene.statuses().get("healthy") == "online"


def test_what_cannot_start_is_offline_with_its_reason_and_starts_when_the_cause_ends(
    scene: Scene, repository: Path
) -> None:
    with Daemon(scene.config) as daemon:
        wait_until(lambda: all_but_healthy_are_offline(scene))
        wait_until(lambda: scene.events("healthy") >= 4)
        assert scene.statuses() == {"healthy": "online", **dict.fromkeys(scene.broken, "offline")}
        reasons = scene.reasons()
        assert "nowhere: no such folder" in reasons["missing"]
        assert "empty: holds no pictures" in reasons["empty"]
        assert "damaged.tflite: is cut short or damaged" in reasons["damaged"]
        assert "unpreparable.tflite: needs the custom operator my-op" in reasons["unpreparable"]
        assert "connection refused" in reasons["camera"].lower()
        assert reasons["healthy"] == ""
        jsonschema.validate(scene.health(), json.loads((repository / "docs" / "health.schema.json").read_text()))
        scene.end_the_causes()
        online = dict.fromkeys(("healthy", *scene.broken), "online")
        wait_until(lambda: scene.statuses() == online, 90)
        wait_until(lambda: scene.events("missing") >= 2)
        wait_until(lambda: not any(scene.reasons().values()))
        assert scene.health()["pipelines"]["healthy"]["restarts"] == 0
        assert "Traceback" not in daemon.said
        assert daemon.end()[0] == 0, daemon.said


def test_a_reload_with_what_cannot_start_behaves_as_a_start(scene: Scene) -> None:
    scene.write(scene.healthy)
    with Daemon(scene.config) as daemon:
        wait_until(lambda: scene.events("healthy") >= 1)
        scene.write(scene.healthy, *scene.broken.values())
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded; 5 of 6 pipelines changed" in daemon.said)
        wait_until(lambda: all_but_healthy_are_offline(scene))
        before = scene.events("healthy")
        wait_until(lambda: scene.events("healthy") > before)
        scene.end_the_causes()
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: set(scene.statuses().values()) == {"online"}, 90)
        assert scene.health()["pipelines"]["healthy"]["restarts"] == 0
        assert daemon.said.count("healthy: first frame classified") == 1
        assert daemon.end()[0] == 0, daemon.said


def test_a_model_that_was_tried_once_starts_at_once_the_next_time(scene: Scene) -> None:
    scene.end_the_causes()
    scene.write(scene.broken["damaged"])
    passed = scene.folder / "state" / "models.json"
    for _ in range(2):
        with Daemon(scene.config) as daemon:
            wait_until(lambda: "damaged: first frame classified" in daemon.said)
            assert len(json.loads(passed.read_text())["models that passed, version 1"]) == 1
            kept = passed.stat()
            assert daemon.end()[0] == 0, daemon.said
            daemon.log.write_text("")
    assert passed.stat().st_mtime_ns == kept.st_mtime_ns


def test_check_tells_which_pipelines_could_not_start_now(scene: Scene) -> None:
    command = [sys.executable, "-m", "edge_classifierd", "check", "--json", "--config", str(scene.config)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    document = json.loads(done.stdout)
    keys = [
        f"pipelines[{number}].{key}"
        for number, key in enumerate(("source.path", "source.path", "model.path", "model.path"), start=1)
    ]
    assert (done.returncode, [problem["key"] for problem in document["problems"]]) == (1, keys)
    scene.end_the_causes()
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
