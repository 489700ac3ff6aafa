"""The retained topics: the last value of every state, published on change and again with every connection."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.mqtt.message import TEXT, Message, PublishOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient

MIN_INTERVAL_S = 0.3
"""Minimum time between two messages on one topic; the latest value is always published."""

REMOVAL_DELAY_S = 5.0
"""Time between the removal of an entity and of its state: Home Assistant logs an error for an empty payload."""


@dataclass(slots=True)
class _Entry:
    payload: bytes
    content_type: str
    expiry_s: int | None
    schema: int | None
    qos: int
    min_interval_s: float
    due: bool = True
    sent_s: float = float("-inf")


class RetainedTopics:
    """Any thread may use it. All values are published again on reconnection, because a broker may have lost them.

    With `expiry_s` (MQTT 5) the broker removes the states of a device that is gone; they are published again well
    before.
    """

    def __init__(self, client: MqttClient, clock: Clock, *, min_interval_s: float = MIN_INTERVAL_S) -> None:
        self._client = client
        self._clock = clock
        self._min_interval_s = min_interval_s
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._removals: dict[str, float] = {}  # topic: time of the removal
        client.add_listener(self)

    def set(
        self,
        topic: str,
        payload: bytes | str,
        *,
        content_type: str = TEXT,
        expiry_s: int | None = None,
        schema: int | None = None,
        qos: int = 1,
        min_interval_s: float | None = None,
    ) -> None:
        """Set the value of a topic, without blocking.

        It is published if it differs from the last value, at most every `min_interval_s`.
        """
        content = payload.encode() if isinstance(payload, str) else payload
        interval_s = self._min_interval_s if min_interval_s is None else min_interval_s
        with self._lock:
            self._removals.pop(topic, None)
            entry = self._entries.get(topic)
            if entry is None:
                entry = _Entry(content, content_type, expiry_s, schema, qos, interval_s)
                self._entries[topic] = entry
            else:
                entry.due = entry.due or content != entry.payload
                entry.payload, entry.expiry_s = content, expiry_s
            self._publish_if_due(topic, entry)

    def remove(self, topic: str, *, after_s: float = 0.0) -> None:
        """Remove a topic, and its retained message from the broker `after_s` from now or with the next connection.

        It need not have been set: the message may be from an earlier start of the daemon.
        """
        with self._lock:
            self._entries.pop(topic, None)
            self._removals[topic] = self._clock.monotonic() + after_s
            self._publish_removals()

    def connected(self) -> None:
        """Publish all values; called by the client."""
        self.repeat()

    def repeat(self) -> None:
        """Publish all values again."""
        with self._lock:
            for topic, entry in self._entries.items():
                entry.due, entry.sent_s = True, float("-inf")
                self._publish_if_due(topic, entry)

    def disconnected(self) -> None:
        """Do nothing; called by the client."""

    def tick(self) -> None:
        """Publish what had to wait and what would expire; called by the client."""
        with self._lock:
            self._publish_removals()
            now = self._clock.monotonic()
            for topic, entry in self._entries.items():
                if entry.expiry_s is not None and now - entry.sent_s > entry.expiry_s / 2:
                    entry.due = True
                if entry.due:
                    self._publish_if_due(topic, entry)

    def _publish_removals(self) -> None:
        now = self._clock.monotonic()
        for topic in [topic for topic, due_s in self._removals.items() if now >= due_s]:
            if self._client.publish(
                Message(topic, b"", qos=1, retain=True, on_outcome=self._on_removal_outcome(topic))
            ):
                del self._removals[topic]

    def _on_removal_outcome(self, topic: str) -> Callable[[PublishOutcome, str], None]:
        def record(outcome: PublishOutcome, _reason: str) -> None:
            with self._lock:
                if outcome is PublishOutcome.LOST and topic not in self._entries:
                    self._removals[topic] = self._clock.monotonic()

        return record

    def _publish_if_due(self, topic: str, entry: _Entry) -> None:
        now = self._clock.monotonic()
        if (
            not entry.due
            or now - entry.sent_s < entry.min_interval_s
            or self._client.refusals.waits(topic, len(entry.payload))
        ):
            return
        message = Message(
            topic,
            entry.payload,
            qos=entry.qos,
            retain=True,
            content_type=entry.content_type,
            expiry_s=entry.expiry_s,
            schema=entry.schema,
            on_outcome=self._on_outcome(topic),
        )
        if self._client.publish(message):
            entry.due, entry.sent_s = False, now

    def _on_outcome(self, topic: str) -> Callable[[PublishOutcome, str], None]:
        def record(outcome: PublishOutcome, _reason: str) -> None:
            if outcome is PublishOutcome.REFUSED:
                with self._lock:
                    if topic in self._entries:
                        self._entries[topic].due = True  # again when `refusals` permits

        return record
