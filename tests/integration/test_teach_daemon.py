"""Teaching over HTTP with a real daemon, camera folder and broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from broker_process import wait_until
from teach_device import MODEL, TeachDevice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_process import Broker


@pytest.fixture
def device(tmp_path: Path, broker: Broker) -> Iterator[TeachDevice]:
    with TeachDevice(tmp_path, broker.port) as made:
        yield made


def test_a_held_button_records_what_the_camera_shows(device: TeachDevice) -> None:
    device.prepare(0)
    begun = device.send("POST", f"{MODEL}/recordings", {"class": device.classes["disc"], "pipeline": "driveway"})
    path = f"{MODEL}/recordings/{begun['id']}"
    wait_until(lambda: device.send("PUT", path)["kept"] >= 6)
    ended = device.send("DELETE", path)
    assert ended["ended"] == "released"
    assert device.get(MODEL)["classes"][1]["pictures"] == ended["kept"] >= 6


def test_a_cancelled_training_leaves_nothing(device: TeachDevice) -> None:
    device.prepare()
    training = device.send("POST", f"{MODEL}/trainings", {})["id"]
    assert device.get("/api/overview")["training"]["id"] == training
    assert device.request("POST", f"{MODEL}/trainings", {})[0] == 409
    device.send("DELETE", f"{MODEL}/trainings/{training}")
    wait_until(lambda: device.training(training)["stage"] == "cancelled")
    assert device.get(f"{MODEL}/versions") == []
    assert device.get("/api/overview")["training"] is None
    assert list((device.state / "taught/shapes/versions").iterdir()) == []


def test_a_training_with_too_few_pictures_says_what_is_missing(device: TeachDevice) -> None:
    device.prepare(2)
    status, content = device.request("POST", f"{MODEL}/trainings", {})
    assert (status, b'"missing"' in content) == (422, True)
