"""The whole daemon on a stand-in Edge TPU that fails in every way: no event is lost, and the TPU comes back."""

from __future__ import annotations

import json
import signal
import struct
import time
import zlib
from itertools import groupby
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from broker_process import Subscriber, wait_until
from daemon_process import Daemon, write_config
from stand_in import FRESH, Machine, build_delegate, model_pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_process import Broker

BASE = "edge-classifierd/porch"
RED = {"name": "red", "labels": ["red"], "threshold": 0.8, "release": 0.5}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_delegate(tmp_path_factory.mktemp("delegate"))


class Scene:
    """A broker and a subscriber, a machine with one stick, a model and its twin, and pictures that make events."""

    def __init__(self, folder: Path, broker: Broker, library: Path) -> None:
        self.folder = folder
        self.port = broker.port
        self.library = library
        self.subscriber = Subscriber(broker.port)
        self.machine = Machine(folder / "root")
        self.machine.add("1-1")
        self.fault = folder / "fault"
        """The stand-in misbehaves while this file exists."""
        model_pair(folder)
        self.pictures = folder / "pictures"
        self.pictures.mkdir()
        (self.pictures / "1.png").write_bytes(png(255, 0, 0))
        (self.pictures / "2.png").write_bytes(png(0, 0, 255))

    def pipeline(
        self, name: str = "driveway", *, model: dict[str, Any] | None = None, **edgetpu: Any
    ) -> dict[str, Any]:
        """Red and blue in turn, ten pictures a second: each is an event."""
        edgetpu = {"library": str(self.library), "deadline": "600ms", "load_deadline": "2s", **edgetpu}
        edgetpu["options"] = {"while": str(self.fault), **edgetpu.get("options", {})}
        named = {"path": str(self.folder / "colours_edgetpu.tflite"), "cpu_model": str(self.folder / "colours.tflite")}
        return {
            "name": name,
            "source": {"type": "folder", "path": str(self.pictures), "fps": 10, "loop": True},
            "model": {**named, "threads": 1, "device": "usb:0", "edgetpu": edgetpu, **(model or {})},
            "watches": [RED],
            "snapshot": {"enabled": False},
        }

    def configure(self, *pipelines: dict[str, Any], **sections: Any) -> Path:
        return write_config(self.folder / "config.yaml", self.port, *pipelines, **sections)

    def daemon(self, config: Path) -> Daemon:
        return Daemon(config, **self.machine.environment)

    def events(self, name: str = "driveway") -> list[dict[str, Any]]:
        topic = f"{BASE}/{name}/event"
        return [json.loads(payload) for heard, payload, _ in list(self.subscriber.messages) if heard == topic]

    def health(self) -> dict[str, Any]:
        last = self.subscriber.last(f"{BASE}/health")
        return json.loads(last)["pipelines"]["driveway"] if last else {"degraded": None, "reasons": []}

    def wait_for_events(self, accelerator: str, count: int = 3) -> float:
        """Wait for so many new events in a row computed by `accelerator`; how long that took."""
        began, seen = time.monotonic(), len(self.events())

        def arrived() -> bool:
            new = self.events()[seen:][-count:]
            return len(new) == count and all(event["model"]["accelerator"] == accelerator for event in new)

        wait_until(arrived, 20.0, f"{count} events of {accelerator}")
        return time.monotonic() - began

    def assert_nothing_lost(self) -> None:
        """Every event came, each once and in its order, from one process that was never started again."""
        wait_until(lambda: self.subscriber.last(f"{BASE}/status") == b"offline")  # the broker passes it on
        heard = self.events()
        statuses = [payload for topic, payload, _ in self.subscriber.messages if topic == f"{BASE}/status"]
        assert [status for status, _ in groupby(statuses)] == [b"online", b"offline"]
        assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
        assert [event["type"] for event in heard] == (["detected", "cleared"] * len(heard))[: len(heard)]


@pytest.fixture
def scene(tmp_path: Path, broker: Broker, library: Path) -> Iterator[Scene]:
    made = Scene(tmp_path, broker, library)
    yield made
    made.subscriber.close()


def png(*colour: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = 16
    rows = (b"\0" + bytes(colour) * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["fail", "hang", "abort", "segv"])
def test_a_fault_while_running_costs_no_event_and_ends_with_the_fault(
    scene: Scene, repository: Path, mode: str
) -> None:
    config = scene.configure(scene.pipeline(options={"mode": mode, "Performance": "Max"}))
    with scene.daemon(config) as daemon:
        scene.wait_for_events("usb:0")
        scene.fault.touch()
        scene.wait_for_events("cpu", 5)
        wait_until(lambda: scene.health()["degraded"])
        told = scene.health()
        assert told["accelerator"] == "cpu"
        assert "classifying on the CPU meanwhile" in told["reasons"][0]
        scene.fault.unlink()
        assert scene.wait_for_events("usb:0", 1) < 10.0
        wait_until(lambda: scene.health()["degraded"] is False)
        told = scene.health()
        assert (told["accelerator"], told["restarts"], told["errors"]) == ("usb:0", 0, 0)
        assert daemon.process.poll() is None
        code, took_s = daemon.end()
        assert code == 0, daemon.said
        assert took_s < 5.0
    scene.assert_nothing_lost()
    assert "Traceback" not in daemon.said
    schema = json.loads((repository / "docs" / "health.schema.json").read_text())
    jsonschema.validate(json.loads(scene.subscriber.last(f"{BASE}/health") or b""), schema)


@pytest.mark.parametrize("mode", ["refuse", "refuse-silent", "prepare"])
def test_a_fault_at_the_start_leaves_the_twin_and_ends_with_the_fault(scene: Scene, mode: str) -> None:
    scene.fault.touch()
    with scene.daemon(scene.configure(scene.pipeline(options={"mode": mode}))) as daemon:
        scene.wait_for_events("cpu")
        wait_until(lambda: scene.health()["degraded"])
        scene.fault.unlink()
        scene.wait_for_events("usb:0")
        assert daemon.end()[0] == 0
    scene.assert_nothing_lost()


@pytest.mark.parametrize("mode", ["fail", "abort"])
def test_a_tpu_that_fails_at_each_tenth_inference_costs_no_event(scene: Scene, mode: str) -> None:
    """Each new process works for a while and fails again, within the budget of an hour."""
    scene.fault.touch()
    config = scene.configure(scene.pipeline(options={"mode": mode, "at": 10}))
    with scene.daemon(config) as daemon:
        for _ in range(3):
            scene.wait_for_events("usb:0", 2)
            scene.wait_for_events("cpu", 1)
        scene.fault.unlink()
        scene.wait_for_events("usb:0", 15)
        assert daemon.end()[0] == 0
    scene.assert_nothing_lost()


def test_a_slow_tpu_within_its_deadline_stays_in_use(scene: Scene) -> None:
    scene.fault.touch()
    with scene.daemon(scene.configure(scene.pipeline(options={"mode": "slow"}, deadline="2s"))) as daemon:
        scene.wait_for_events("usb:0", 5)
        assert scene.events()[-1]["inference_ms"] > 60
        assert scene.health()["degraded"] is False
        assert daemon.end()[0] == 0
    scene.assert_nothing_lost()


@pytest.mark.parametrize("mode", ["abort", "stuck"])
def test_a_stick_that_is_unplugged_is_used_again_when_it_is_back(scene: Scene, mode: str) -> None:
    """As a real one: the transfer under way fails or hangs, the device is gone, and comes back without its firmware."""
    pipeline = scene.pipeline(options={"mode": mode}, model={"device": "auto"}, load_deadline="30s")
    with scene.daemon(scene.configure(pipeline)) as daemon:
        scene.wait_for_events("usb:0")
        scene.fault.touch()
        scene.machine.remove("1-1")
        scene.wait_for_events("cpu", 8)
        wait_until(lambda: scene.health()["degraded"])
        scene.fault.unlink()
        scene.machine.add("1-1", FRESH)
        assert scene.wait_for_events("usb:0", 1) < 10.0
        assert daemon.end()[0] == 0
    scene.assert_nothing_lost()


def test_a_second_daemon_on_the_same_stick_is_told_who_has_it(scene: Scene) -> None:
    with scene.daemon(scene.configure(scene.pipeline())) as daemon:
        scene.wait_for_events("usb:0")
        (scene.folder / "other").mkdir()
        alone = scene.pipeline(model={"cpu_model": None})
        second = write_config(scene.folder / "other/config.yaml", scene.port, alone, device={"id": "attic"})
        with scene.daemon(second) as other:
            wait_until(lambda: f"in use by process {daemon.process.pid}" in other.said)
            assert daemon.end()[0] == 0
            wait_until(lambda: "first frame classified" in other.said)
            assert "Traceback" not in other.said
            assert other.end()[0] == 0


def test_two_pipelines_with_the_same_model_share_the_stick(scene: Scene) -> None:
    config = scene.configure(scene.pipeline(), scene.pipeline("garden"))
    with scene.daemon(config) as daemon:
        for name in ("driveway", "garden"):
            wait_until(lambda: len(scene.events(name)) >= 2)  # noqa: B023 - called here
            assert {event["model"]["accelerator"] for event in scene.events(name)} == {"usb:0"}
        assert daemon.end()[0] == 0


def test_a_reload_that_changes_the_tpus_options_gets_the_tpu_back(scene: Scene) -> None:
    config = scene.configure(scene.pipeline())
    with scene.daemon(config) as daemon:
        scene.wait_for_events("usb:0")
        scene.configure(scene.pipeline(options={"Performance": "Max"}))
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in daemon.said)
        scene.wait_for_events("usb:0")
        assert daemon.end()[0] == 0


def test_a_card_tells_its_temperature_and_warns_in_health(scene: Scene) -> None:
    scene.machine.add_card("apex_0", 61_300)
    with scene.daemon(scene.configure(scene.pipeline(model={"device": "pci:0"}))) as daemon:
        scene.wait_for_events("pci:0")
        wait_until(lambda: scene.health().get("edgetpus"))
        assert scene.health()["edgetpus"] == {"pci:0": {"temperature_c": 61.3, "clock_mhz": 500.0}}
        scene.machine.add_card("apex_0", 91_000)
        wait_until(lambda: scene.health()["degraded"])
        assert "pci:0 is 91 °C hot and its clock is 125 MHz" in scene.health()["reasons"][0]
        scene.machine.add_card("apex_0", 61_300)
        wait_until(lambda: scene.health()["degraded"] is False)
        assert daemon.end()[0] == 0


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"path": "colours.tflite"}, "is not compiled for the Edge TPU"),
        ({"cpu_model": "colours_edgetpu.tflite"}, "is compiled for the Edge TPU too"),
        ({"device": "cpu", "cpu_model": None}, "cannot run on the CPU"),
    ],
)
def test_what_cannot_go_together_is_a_configuration_error(scene: Scene, model: dict[str, Any], said: str) -> None:
    config = scene.configure(scene.pipeline(model=model))
    with scene.daemon(config) as daemon:
        assert daemon.process.wait(20) == 2
        assert said in daemon.said
        assert f"{config}:" in daemon.said
