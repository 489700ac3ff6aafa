"""The retained states: the last value of every state topic, published on change and again with every connection."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.mqtt.message import TEXT, Message, PublishOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient

log = logging.getLogger(__name__)

MIN_INTERVAL_S = 0.3
"""How far apart two messages on one topic are at least; the latest value is never left out."""

REFUSED_PAUSE_S = 600.0
"""How long a topic that the broker refuses is left alone, also over reconnections; then it is tried again."""

REMOVAL_DELAY_S = 5.0
"""How long after its entity a state is cleared: Home Assistant cannot read an empty payload, and would say so."""


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
    """Safe for several threads. A broker that lost its retained messages hears them again on reconnection.

    With `expiry_s` (MQTT 5) the broker forgets a state of a device that vanished; it is published again well before.
    """

    def __init__(self, session: MqttClient, clock: Clock, *, min_interval_s: float = MIN_INTERVAL_S) -> None:
        self._session = session
        self._clock = clock
        self._min_interval_s = min_interval_s
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._leaving: dict[str, float] = {}  # topic: when it is to be cleared
        self._refused: dict[str, float] = {}  # topic: when; some brokers hang up with each refusal
        session.add_listener(self)

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
        """Give a topic its value; never blocks.

        It is published when it differs from the last one, at most every 0.3 s.
        """
        content = payload.encode() if isinstance(payload, str) else payload
        interval_s = self._min_interval_s if min_interval_s is None else min_interval_s
        with self._lock:
            self._leaving.pop(topic, None)
            entry = self._entries.get(topic)
            if entry is None:
                entry = _Entry(content, content_type, expiry_s, schema, qos, interval_s)
                self._entries[topic] = entry
            else:
                entry.due = entry.due or content != entry.payload
                entry.payload, entry.expiry_s = content, expiry_s
            self._publish_if_due(topic, entry)

    def get(self, topic: str) -> bytes | None:
        """The topic's value."""
        with self._lock:
            entry = self._entries.get(topic)
            return None if entry is None else entry.payload

    def remove(self, topic: str, *, after_s: float = 0.0) -> None:
        """Forget a topic, and have the broker forget it `after_s` from now, or with the next connection.

        It need not have been set: the broker may hold what an earlier start of the daemon has said.
        """
        with self._lock:
            self._entries.pop(topic, None)
            self._leaving[topic] = self._clock.monotonic() + after_s
            self._clear_leaving()

    def connected(self) -> None:
        """The session's: there is a connection."""
        self.repeat()

    def repeat(self) -> None:
        """Say everything again: to a broker that may have lost it, or to a subscriber that has just come."""
        with self._lock:
            for topic, entry in self._entries.items():
                entry.due, entry.sent_s = True, float("-inf")
                self._publish_if_due(topic, entry)

    def disconnected(self) -> None:
        """The session's: nothing to do."""

    def tick(self) -> None:
        """The session's: say what had to wait, and what would expire."""
        with self._lock:
            self._clear_leaving()
            now = self._clock.monotonic()
            for topic, entry in self._entries.items():
                if entry.expiry_s is not None and now - entry.sent_s > entry.expiry_s / 2:
                    entry.due = True
                if entry.due:
                    self._publish_if_due(topic, entry)

    def _clear_leaving(self) -> None:
        now = self._clock.monotonic()
        for topic in [topic for topic, due_s in self._leaving.items() if now >= due_s]:
            if self._session.publish(Message(topic, b"", qos=1, retain=True, on_outcome=self._note_removal(topic))):
                del self._leaving[topic]

    def _note_removal(self, topic: str) -> Callable[[PublishOutcome, str], None]:
        def note(outcome: PublishOutcome, _reason: str) -> None:
            with self._lock:
                if outcome is PublishOutcome.LOST and topic not in self._entries:
                    self._leaving[topic] = self._clock.monotonic()

        return note

    def _publish_if_due(self, topic: str, entry: _Entry) -> None:
        now = self._clock.monotonic()
        refused_s = self._refused.get(topic, float("-inf"))
        if not entry.due or now - entry.sent_s < entry.min_interval_s or now - refused_s < REFUSED_PAUSE_S:
            return
        message = Message(
            topic,
            entry.payload,
            qos=entry.qos,
            retain=True,
            content_type=entry.content_type,
            expiry_s=entry.expiry_s,
            schema=entry.schema,
            on_outcome=self._answer(topic),
        )
        if self._session.publish(message):
            entry.due, entry.sent_s = False, now

    def _answer(self, topic: str) -> Callable[[PublishOutcome, str], None]:
        def note(outcome: PublishOutcome, reason: str) -> None:
            if outcome is PublishOutcome.REFUSED:
                if topic not in self._refused:
                    log.warning("%s: the broker refuses this state (%s); check its ACL and limits", topic, reason)
                self._refused[topic] = self._clock.monotonic()
                with self._lock:
                    if topic in self._entries:
                        self._entries[topic].due = True  # again when the pause is over
            elif outcome is PublishOutcome.DELIVERED:
                self._refused.pop(topic, None)

        return note
