"""Watches the device's own topics on the broker: lost events, a second device with the same id, a wrong `offline`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from edge_classifierd.health.metrics import Reason
from edge_classifierd.mqtt.message import TEXT, Incoming, Message

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.topics import Topics

_log = logging.getLogger(__name__)

_ECHO_TIMEOUT_S: Final = 10.0
_REMEMBERED_EVENTS: Final = 2000  # more than can be on their way
_UNVERIFIED_CONNECTIONS: Final = 3
_LATE_S: Final = 3.0
_SAME_ID_S: Final = 600.0
_CORRECTION_INTERVAL_S: Final = 1.0


class OwnTopicMonitor:
    """Subscribes to the device's own `status` and events.

    Under MQTT 3.1.1 a broker acknowledges events that its ACL discards. There the first event of each connection must
    come back. An event that this process has not published comes from another device with the same id.
    """

    def __init__(self, client: MqttClient, topics: Topics, clock: Clock) -> None:
        """Create before the client is started."""
        self._client = client
        self._topics = topics
        self._clock = clock
        self._events_filter = f"{topics.base}/+/event"
        self._published: dict[int, None] = {}  # hashes of payloads, in order
        self._topic = ""
        self._deadline_s: float | None = None
        self._verified = False
        self._unverified = 0  # connections
        self._expected_online = 0
        self._connected_s = float("inf")
        self._corrected_s = self._same_id_s = float("-inf")
        self._lost: str | None = None
        client.subscribe(topics.status, self._on_status)
        client.subscribe(self._events_filter, self._on_event, not_local=True)
        client.add_listener(self)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """For health; any thread."""
        found = []
        if self._lost is not None:
            found.append(Reason("broker.silent_loss", self._lost))
        if self._clock.monotonic() - self._same_id_s < _SAME_ID_S:
            found.append(Reason("device.same_id", self._same_id_sentence()))
        return tuple(found)

    def publish_online(self) -> None:
        """Publish `online` again; network thread."""
        online = Message(self._topics.status, b"online", qos=1, retain=True, content_type=TEXT)
        self._expected_online += self._client.publish(online)

    def publishing(self, payload: bytes) -> None:
        """Record an event before it is published; any thread."""
        published = self._published
        published[hash(payload)] = None
        if len(published) > _REMEMBERED_EVENTS:
            del published[next(iter(published))]

    def acknowledged(self, topic: str) -> None:
        """Record that the broker acknowledged an event; network thread."""
        if self._verified or self._deadline_s is not None or self._client.endpoint.protocol == "5":
            return
        if self._client.refusals.subscription(self._events_filter) is None:
            self._topic = topic
            self._deadline_s = self._clock.monotonic() + _ECHO_TIMEOUT_S

    def connected(self) -> None:
        """Expect the first event of the connection."""
        self._verified, self._deadline_s = False, None
        self._expected_online = 1
        self._connected_s = self._clock.monotonic()

    def disconnected(self) -> None:
        """Count connections that ended before an acknowledged event came back: some brokers close it then."""
        if self._deadline_s is not None:
            self._client.loss_explained = True  # by the event, not by another client with the same id
            self._unverified += 1
            if self._unverified >= _UNVERIFIED_CONNECTIONS:
                self._report_lost()

    def tick(self) -> None:
        """Report an event that has not come back in time."""
        if self._deadline_s is not None and self._clock.monotonic() >= self._deadline_s:
            self._report_lost()

    def _report_lost(self) -> None:
        self._deadline_s, self._verified = None, True
        sentence = (
            f"{self._client.endpoint}: the broker acknowledged an event on {self._topic} but did not return"
            " it: its ACL discards the device's events, or does not let the device read them; check the ACL"
        )
        if self._lost is None:
            _log.warning("%s", sentence)
        self._lost = sentence

    def _on_event(self, incoming: Incoming) -> None:
        if incoming.retained:
            return
        if hash(incoming.payload) not in self._published:
            # An event of this device's last process or connection may be delivered late.
            if self._clock.monotonic() - self._connected_s > _LATE_S:
                self._report_same_id()
            return
        self._deadline_s, self._verified = None, True  # it may arrive before the acknowledgement
        self._unverified = 0
        if self._lost is not None:
            _log.info("%s: the broker delivers events", self._client.endpoint)
            self._lost = None

    def _on_status(self, incoming: Incoming) -> None:
        if incoming.retained:
            return
        if incoming.payload == b"online":
            if self._expected_online:
                self._expected_online -= 1
            else:
                self._report_same_id()
            return
        now_s = self._clock.monotonic()
        if now_s - self._corrected_s < _CORRECTION_INTERVAL_S:
            return
        self._corrected_s = now_s
        self.publish_online()

    def _report_same_id(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._same_id_s >= _SAME_ID_S:
            _log.warning("%s", self._same_id_sentence())
        self._same_id_s = now_s

    def _same_id_sentence(self) -> str:
        return (
            f"{self._client.endpoint}: another device publishes under {self._topics.base}; give each device its own"
            " device.id"
        )
