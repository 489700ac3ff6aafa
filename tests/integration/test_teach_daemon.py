"""Teaching over HTTP with a real daemon, camera folder and broker: from pictures to events, and back again."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from broker_process import Broker, Subscriber, wait_until
from processes import open_files
from teach_device import MODEL, TeachDevice
from teach_kills import training_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def device(tmp_path: Path, broker: Broker) -> Iterator[TeachDevice]:
    with TeachDevice(tmp_path, broker.port) as made:
        yield made


def test_what_is_taught_over_http_becomes_events_and_is_rolled_back(
    device: TeachDevice, broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    subscriber = subscribe(broker.port)
    device.prepare()
    assert device.train()["stage"] == "finished"
    first = device.get(f"{MODEL}/versions/1")
    assert first["held_out"]["right"] == first["held_out"]["pictures"] > 0
    assert first["sentences"]
    assert first["against"] is None
    assert device.request("GET", f"{MODEL}/versions/1/report.html")[0] == 200
    status, model = device.request("GET", f"{MODEL}/versions/1/model.tflite")
    assert (status, len(model)) == (200, first["bytes"])

    used = device.send("POST", f"{MODEL}/versions/1/use", {"pipeline": "driveway"})
    assert used == {"version": 1, "previous": None, "used_by": ["driveway"]}
    assert device.driveway["model"]["taught"]
    assert device.driveway["overridden"] == ["model"]
    listed = device.get("/api/models")[0]
    assert (listed["name"], listed["kind"], listed["version"]) == ("shapes", "taught", 1)
    assert listed["used_by"] == ["driveway"]
    event = wait_for_event(subscriber, "disc")
    assert event["label"] == "disc"

    corrected = device.send("PUT", f"/api/events/{event['event_id']}/verdict", {"value": "right"})
    assert (corrected["kept"]["model"], corrected["kept"]["name"]) == ("shapes", "disc")
    assert device.get(MODEL)["corrections"] == 1
    assert device.train()["stage"] == "finished"
    assert device.get(f"{MODEL}/versions/2")["against"]["version"] == 1
    device.send("POST", f"{MODEL}/versions/2/use", {})
    wait_until(lambda: device.driveway["model"]["version"] == 2)
    rolled_back = device.send("POST", f"{MODEL}/versions/1/use", {})
    assert rolled_back["previous"] == 2
    wait_until(lambda: device.driveway["model"]["version"] == 1)

    assert device.request("DELETE", f"{MODEL}/versions/1")[0] == 409
    assert device.request("DELETE", MODEL)[0] == 409
    device.send("PUT", "/api/pipelines/driveway/model", {"value": None})
    assert not device.driveway["model"]["taught"]
    assert device.driveway["overridden"] == []
    device.send("DELETE", f"{MODEL}/versions/2")
    assert [one["version"] for one in device.get(f"{MODEL}/versions")] == [1]


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
    assert device.request("DELETE", MODEL)[0] == 409
    assert device.request("PATCH", MODEL, {"name": "forms"})[0] == 409
    device.send("DELETE", f"{MODEL}/trainings/{training}")
    wait_until(lambda: device.training(training)["stage"] == "cancelled")
    assert device.get(f"{MODEL}/versions") == []
    assert device.get("/api/overview")["training"] is None
    assert list((device.state / "taught/shapes/versions").iterdir()) == []


def test_a_training_ends_with_a_daemon_that_is_killed(device: TeachDevice) -> None:
    device.prepare()
    device.send("POST", f"{MODEL}/trainings", {})
    wait_until(lambda: training_child(device))
    child = Path(f"/proc/{training_child(device)}")
    wait_until(lambda: (child / "oom_score_adj").read_text() == "1000\n", 20, "the child's own settings")
    pipes = [link for link, target in open_files(int(child.name)).items() if target.startswith("pipe:")]
    # Otherwise the child would also end because nobody reads its answers, or when it has finished.
    held = [os.open(pipe, flags | os.O_NONBLOCK) for pipe in pipes for flags in (os.O_RDONLY, os.O_WRONLY)]
    try:
        device.daemon.process.kill()
        device.daemon.process.wait(10)
        for pipe in held:
            with contextlib.suppress(OSError):  # it is full, or this is its other end
                while True:
                    os.write(pipe, bytes(4096))
        wait_until(lambda: training_child(device) is None, 10, "the end of the child")
    finally:
        for pipe in held:
            os.close(pipe)


def test_a_training_with_too_few_pictures_says_what_is_missing(device: TeachDevice) -> None:
    device.prepare(2)
    status, content = device.request("POST", f"{MODEL}/trainings", {})
    assert (status, b'"missing"' in content) == (422, True)


def wait_for_event(subscriber: Subscriber, watch: str) -> dict[str, Any]:
    """Return the first detection of a watch."""

    def found() -> list[dict[str, Any]]:
        events = map(json.loads, tuple(subscriber.payloads.values()))
        return [one for one in events if one["watch"] == watch and one["type"] == "detected"]

    wait_until(found, 40, f"an event of {watch}")
    return found()[0]
