"""Cameras that are paused for a training come back: at its end, after a cancel, a crash and a restart."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from broker_process import Broker, Subscriber, wait_until
from teach_device import MODEL, TeachDevice
from teach_kills import training_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STATUS = "edge-classifierd/porch/driveway/status"


@pytest.fixture
def device(tmp_path: Path, broker: Broker) -> Iterator[TeachDevice]:
    with TeachDevice(tmp_path, broker.port) as made:
        made.prepare()
        yield made


def paused_training(device: TeachDevice) -> str:
    """Begin a training, pause the cameras, and return the training's id."""
    training: str = device.send("POST", f"{MODEL}/trainings", {"extractor": "accurate"})["id"]
    assert device.send("PUT", f"{MODEL}/trainings/{training}/pause", {"value": True}) == {"value": True}
    wait_until(lambda: device.driveway["resting"] is not None, 10, "the pause")
    assert device.driveway["resting"]["why"] == "training"
    assert device.get("/api/overview")["training"] is not None
    return training


def shown(subscriber: Subscriber, status: bytes) -> None:
    """Wait until the pipeline's status on MQTT is this one."""
    wait_until(lambda: [one for topic, one, _ in subscriber.messages if topic == STATUS][-1:] == [status], 10, "MQTT")


def delivers(device: TeachDevice) -> None:
    """Wait until the camera delivers again."""
    wait_until(lambda: device.driveway["online"] and device.driveway["resting"] is None, 20, "the camera")


def test_paused_cameras_come_back(device: TeachDevice, broker: Broker, subscribe: Callable[..., Subscriber]) -> None:
    subscriber = subscribe(broker.port)
    training = paused_training(device)
    shown(subscriber, b"resting")
    assert device.request("GET", "/api/pipelines/driveway/frame.jpg")[0] == 409
    device.send("PUT", f"{MODEL}/trainings/{training}/pause", {"value": False})
    delivers(device)
    shown(subscriber, b"online")
    device.send("PUT", f"{MODEL}/trainings/{training}/pause", {"value": True})
    wait_until(lambda: not device.driveway["online"], 10, "the pause")
    device.send("DELETE", f"{MODEL}/trainings/{training}")
    delivers(device)
    assert device.request("PUT", f"{MODEL}/trainings/{training}/pause", {"value": True})[0] == 409
    assert device.driveway["resting"] is None

    training = paused_training(device)
    wait_until(lambda: training_child(device), 20, "the child")
    os.kill(training_child(device), signal.SIGKILL)  # type: ignore[arg-type] # it has just begun
    wait_until(lambda: device.training(training)["stage"] == "failed", 20, "the failure")
    delivers(device)

    paused_training(device)
    device.daemon.process.kill()
    device.start_again()
    delivers(device)
    assert device.get("/api/overview")["training"] is None

    training = paused_training(device)
    wait_until(lambda: device.training(training)["stage"] == "finished", 120, "the end of the training")
    delivers(device)
