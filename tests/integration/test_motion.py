"""The motion gate in the real daemon: a video in which a cat appears and leaves again."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from broker_process import Subscriber, wait_until
from cat_film import CAT_S, HEIGHT, LEFT, SIDE, TOP, WIDTH, film
from daemon_process import CAT, Daemon, write_config

from edge_classifierd.frames.jpeg import decode_jpeg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_process import Broker

BASE = "edge-classifierd/porch/driveway"


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    listening = Subscriber(broker.port)
    yield listening
    listening.close()


def payloads(subscriber: Subscriber, topic: str) -> list[bytes]:
    return [payload for heard, payload, _ in list(subscriber.messages) if heard == f"{BASE}/{topic}"]


def watched(tmp_path: Path, broker: Broker, subscriber: Subscriber, **keys: Any) -> list[dict[str, Any]]:
    """Let the daemon see the video; return its events."""
    source = {"type": "stream", "url": str(film(tmp_path / "cat.mkv"))}
    motion = {"enabled": True, "follow": True, "hold": "1s"}
    one = {"name": "driveway", "source": source, "model": {"threads": 1}, "watches": [{**CAT, "confirm": 2}], **keys}
    config = write_config(tmp_path / "config.yaml", broker.port, {**one, "motion": motion})
    with Daemon(config) as daemon:
        assert daemon.process.wait(90) == 0, daemon.said
    wait_until(lambda: payloads(subscriber, "status")[-1:] == [b"offline"])
    return [json.loads(payload) for payload in payloads(subscriber, "event")]


def test_a_small_cat_is_recognised_where_it_appears_and_cleared_when_it_leaves(
    broker: Broker, subscriber: Subscriber, tmp_path: Path, repository: Path
) -> None:
    detected, cleared = watched(tmp_path, broker, subscriber)
    schema = json.loads((repository / "docs" / "event.schema.json").read_text())
    for event in (detected, cleared):
        jsonschema.validate(event, schema)
    assert (detected["type"], cleared["type"]) == ("detected", "cleared")
    assert "cat" in detected["label"]
    assert detected["box"]["x"] == pytest.approx(LEFT / WIDTH, abs=0.03)
    assert detected["box"]["y"] == pytest.approx(TOP / HEIGHT, abs=0.05)
    assert detected["box"]["width"] == pytest.approx(SIDE / WIDTH, abs=0.05)
    seconds = (datetime.fromisoformat(cleared["time"]) - datetime.fromisoformat(detected["time"])).total_seconds()
    assert CAT_S - 1 < seconds < CAT_S + 2
    values = [
        payload for payload, _ in groupby(payloads(subscriber, "motion"))
    ]  # it is published again after each connection
    assert values == [b"OFF", b"ON", b"OFF"]
    health = json.loads([body for topic, body, _ in subscriber.messages if topic.endswith("/health")][-1])
    figures = health["pipelines"]["driveway"]
    assert figures["gated"] > figures["inferences"] >= 1
    picture = decode_jpeg(payloads(subscriber, "image")[-1], "image", most_memory=10**8)
    assert (picture.width, picture.height) == (WIDTH, HEIGHT)


def test_the_picture_of_a_detection_can_be_the_part_that_was_classified(
    broker: Broker, subscriber: Subscriber, tmp_path: Path
) -> None:
    watched(tmp_path, broker, subscriber, snapshot={"show": "crop"})
    picture = decode_jpeg(payloads(subscriber, "image")[-1], "image", most_memory=10**8)
    assert picture.width == pytest.approx(SIDE, abs=40)
    assert picture.width == picture.height
