"""A `Discovery` on a fake network, for its tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from edge_classifierd.config.sections.mqtt import HomeAssistantSection
from edge_classifierd.mqtt.home_assistant.announced_entities import AnnouncedEntities
from edge_classifierd.mqtt.home_assistant.discovery import Discovery
from edge_classifierd.mqtt.home_assistant.entities import CameraFacts, DeviceFacts, WatchFacts
from edge_classifierd.mqtt.message import Incoming, Message, PublishOutcome
from edge_classifierd.mqtt.published_topics import PublishedTopics
from edge_classifierd.mqtt.refusals import Refusals
from edge_classifierd.mqtt.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Listener

DEVICE = "homeassistant/device/edge-classifierd_porch/config"
BIRTH = "homeassistant/status"


def facts(*watches: str, name: str = "Porch", camera: str = "driveway") -> DeviceFacts:
    cameras = (CameraFacts(camera, tuple(WatchFacts(watch, None) for watch in watches)),)
    return DeviceFacts(name, "Pi", "1", cameras, has_temperature=False, has_throttling=False)


class FakeNetwork:
    """Replaces the client and the clock; the broker accepts everything unless `answer` is set."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.now_s = 100.0
        self.is_connected = False
        self.answer: PublishOutcome | None = PublishOutcome.DELIVERED
        self.refusals = Refusals(cast("Clock", self))
        self.published: PublishedTopics | None = None
        self.handlers: dict[str, Callable[[Incoming], None]] = {}
        self.listeners: list[Listener] = []

    def publish(self, message: Message) -> bool:
        if self.is_connected:
            self.sent.append(message)
            if self.answer is PublishOutcome.REFUSED:
                self.refusals.add_message(
                    message.topic, len(message.payload), "not authorized", broker="b:1883", closes=False
                )
            elif self.answer is PublishOutcome.DELIVERED:
                self.refusals.remove_message(message.topic)
                if self.published is not None and message.retain:
                    self.published.record(message.topic, empty=not message.payload, outcome=self.answer)
            if message.on_outcome is not None and self.answer is not None:
                message.on_outcome(self.answer, "not authorized")
        return self.is_connected

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None]) -> None:
        self.handlers[topic_filter] = handler

    def add_listener(self, listener: Listener) -> None:
        self.listeners.append(listener)

    def monotonic(self) -> float:
        return self.now_s

    def connect(self) -> None:
        self.is_connected = True
        for listener in self.listeners:
            listener.connected()

    def disconnect(self) -> None:
        self.is_connected = False
        for listener in self.listeners:
            listener.disconnected()

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.now_s += 0.25
            for listener in self.listeners:
                listener.tick()

    def receive(self, topic: str, payload: bytes, *, retained: bool = False, subscribed: str | None = None) -> None:
        self.handlers[subscribed or topic](Incoming(topic, payload, retained))

    def take(self) -> list[tuple[str, Any]]:
        taken = [(one.topic, json.loads(one.payload) if one.payload else None) for one in self.sent]
        self.sent.clear()
        return taken


class Scene:
    """A network, a file, and a discovery that is started again and again."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "discovery.json"
        self.network = FakeNetwork()
        self.states_published = self.states_at_start = 0
        self.discovery: Discovery | None = None
        self.published: PublishedTopics

    def start(
        self, watched: DeviceFacts, *, device: str = "porch", base: str = "edge-classifierd", **keys: Any
    ) -> Discovery:
        if self.discovery is not None:
            self.discovery.save()  # as the service does, often
            self.published.save()
        self.network = FakeNetwork()
        self.published = self.network.published = self._published_topics(f"{base}/{device}")
        topics = Topics(base, device)
        discovery = self.discovery = Discovery(
            cast("MqttClient", self.network),
            topics,
            HomeAssistantSection(**keys),
            AnnouncedEntities(self.file, topics.base),
            self.published,
            clock=cast("Clock", self.network),
            publish_states=self._publish_states,
            several_brokers=True,
        )
        discovery.announce(watched)
        self.network.connect()
        self.network.pass_time(1.5)
        self.network.sent = [one for one in self.network.sent if one.topic != "states"]
        self.states_at_start, self.states_published = self.states_published, 0
        return discovery

    def _published_topics(self, base: str) -> PublishedTopics:
        """Return the list, with two states of the device `porch`."""
        topics = PublishedTopics(self.file.with_name("published.json"), base)
        if base == "edge-classifierd/porch":
            for topic in ("status", "driveway/dog/state"):
                topics.record(f"{base}/{topic}", empty=False, outcome=PublishOutcome.DELIVERED)
        return topics

    def _publish_states(self) -> None:
        self.states_published += 1
        self.network.sent.append(Message("states", b"1"))


def components(payload: dict[str, Any]) -> set[str]:
    return {key for key, config in payload["cmps"].items() if len(config) > 1}


def removals(payload: dict[str, Any]) -> set[str]:
    return {key for key, config in payload["cmps"].items() if set(config) == {"p"}}
