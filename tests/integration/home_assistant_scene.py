"""A daemon with all that it publishes for Home Assistant, recorded by a subscriber."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from broker_process import Broker, Subscriber, wait_until
from cat_film import film
from daemon_process import Daemon, a_pipeline, photographs, write_config
from home_assistant_schema import check_message
from paho.mqtt import publish
from paho.mqtt.client import topic_matches_sub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE = "edge-classifierd/porch"
DOG = {"name": "dog", "labels": ["*cat*"], "threshold": 0.5, "release": 0.3, "device_class": "presence"}


@dataclass
class Run:
    """The messages of a daemon, recorded by a subscriber."""

    broker: Broker
    messages: list[tuple[str, bytes]]
    entities: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def said(self) -> dict[str, list[bytes]]:
        """Return the payloads by topic."""
        found: dict[str, list[bytes]] = {}
        for topic, payload in self.messages:
            if payload:
                found.setdefault(topic, []).append(payload)
        return found

    def received(self, topic: str) -> bool:
        """Whether the daemon subscribes to a filter that matches this topic, read from the broker's log."""
        filters = re.findall(r"^\d+: edge-classifierd-porch-\S+ \d (\S+)$", self.broker.log.read_text(), re.MULTILINE)
        return any(topic_matches_sub(one, topic) for one in filters)

    def documents(self, pattern: str) -> list[dict[str, Any]]:
        """Return the JSON published on the topics that a filter matches."""
        return [
            json.loads(payload)
            for topic, payloads in self.said.items()
            if topic_matches_sub(pattern, topic)
            for payload in payloads
        ]

    @property
    def entity_ids(self) -> set[str]:
        """Return the ids that Home Assistant makes of the names of device and entities."""
        return {f"{platform}.{_slug('Porch ' + config['name'])}" for platform, config in self.entities}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def complete(heard: list[tuple[str, bytes]]) -> bool:
    """Whether a running device has published all its topics."""
    said: dict[str, list[bytes]] = {}
    for topic, payload in heard:
        said.setdefault(topic.removeprefix(f"{BASE}/"), []).append(payload)
    events = {json.loads(payload)["type"] for payload in said.get("driveway/event", [])}
    labels = {json.loads(payload)["label"] for payload in said.get("driveway/state", [])}
    counts = [json.loads(payload)["count_today"] for payload in said.get("driveway/dog/stats", [])]
    figures = [json.loads(payload)["pipelines"].get("driveway") for payload in said.get("health", [])]
    return (
        events == {"detected", "cleared"}
        and labels >= {"Egyptian cat", "espresso"}
        and any(counts)
        and any(one and one["inference_ms"]["p50"] and one["fps"] for one in figures)
        and {"garden/image", "garden/motion"} <= set(said)
    )


def live(folder: Path, **home_assistant: Any) -> Iterator[Run]:
    (folder / "broker").mkdir()
    broker = Broker(folder / "broker").start()
    subscriber = Subscriber(broker.port)
    photos = photographs(folder / "photos", "cat", "coffee")
    slowly = {"type": "folder", "path": str(photos), "fps": 2, "loop": True}  # each state is said, none is left out
    scene = {"type": "stream", "url": str(film(folder / "cat.mkv")), "loop": True}
    pipelines = [
        a_pipeline(photos, DOG, source=slowly),
        a_pipeline(photos, name="garden", source=scene, motion={"enabled": True}),
    ]
    config = write_config(
        folder / "c.yaml",
        broker.port,
        *pipelines,
        device={"id": "porch", "name": "Porch"},
        mqtt={"host": "127.0.0.1", "port": broker.port, "home_assistant": home_assistant},
    )
    try:
        with Daemon(config) as daemon:
            wait_until(lambda: subscriber.last(f"{BASE}/garden/status") == b"online", 60)
            publish.single(f"{BASE}/garden/snapshot/set", "PRESS", qos=1, hostname="127.0.0.1", port=broker.port)
            wait_until(lambda: complete([(topic, payload) for topic, payload, _ in list(subscriber.messages)]), 90)
            heard = [(topic, payload) for topic, payload, _ in list(subscriber.messages)]
            run = Run(broker, heard)
            for topic, payload in heard:
                if topic.startswith("homeassistant/") and payload:
                    run.entities += check_message(topic, json.loads(payload))
            yield run
            daemon.end()
    finally:
        subscriber.close()
        broker.stop()
