"""The clearance of a former address: takes its retained topics off the broker, unless another device lives there."""

from __future__ import annotations

import logging
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from edge_classifierd.mqtt.message import Message
from edge_classifierd.mqtt.retained_topics import REMOVAL_DELAY_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Incoming

_log = logging.getLogger(__name__)

_LISTEN_S: Final = 3.0
"""So long after the subscription nothing retained is still on its way."""
_TAKEN_AFTER_S: Final = 180.0
"""Who is `online` for so long is another device, not the last word of this one before its power was cut."""
_MOST_TOPICS: Final = 10_000


class _Phase(Enum):
    LISTENING = auto()
    """Is somebody online there?"""
    COLLECTING = auto()
    """Nobody is: what is retained there?"""
    CLEARING = auto()
    """What Home Assistant knows of it goes first, the topics then."""
    DONE = auto()


class FormerTopics:
    """Watches `<base>/status`; the network thread's. Calls `on_free` when nobody lives there, `on_done` in the end.

    A card that was copied into another device, which then got an id of its own, must not erase the first device: as
    long as that is online it is left alone.
    """

    def __init__(
        self,
        session: MqttClient,
        base: str,
        own: str,
        clock: Clock,
        *,
        on_free: Callable[[str], None],
        on_done: Callable[[str], None],
    ) -> None:
        """`own` is where this device's topics begin now; they are never touched."""
        self._session = session
        self._base = base
        self._own = own
        self._clock = clock
        self._on_free = on_free
        self._on_done = on_done
        self._online: bool | None = None
        self._since_s = clock.monotonic()
        self._phase = _Phase.LISTENING
        self._found: set[str] = set()
        session.subscribe(f"{base}/status", self._hear)

    def connected(self) -> None:
        """There is a connection: listen anew."""
        self._since_s = self._clock.monotonic()
        self._online = None
        self._found.clear()

    def tick(self) -> None:
        """A few times a second while connected."""
        now_s = self._clock.monotonic()
        lasted_s = now_s - self._since_s
        if self._phase is _Phase.DONE or lasted_s < _LISTEN_S:
            return
        if self._online:
            if lasted_s >= _TAKEN_AFTER_S:
                _log.info("%s: another device is online there; what it announces is left alone", self._base)
                self._end()
        elif self._phase is _Phase.LISTENING:
            self._phase, self._since_s = _Phase.COLLECTING, now_s
            self._session.subscribe(f"{self._base}/#", self._collect)
        elif self._phase is _Phase.COLLECTING:
            self._phase, self._since_s = _Phase.CLEARING, now_s
            self._on_free(self._base)
        elif lasted_s >= REMOVAL_DELAY_S:
            self._clear()

    def _clear(self) -> None:
        for topic in sorted(self._found):
            if not self._session.publish(Message(topic, b"", qos=1, retain=True)):
                return
            self._found.discard(topic)
        _log.info("%s: the device's former topics are taken off the broker", self._base)
        self._end()

    def _end(self) -> None:
        self._phase = _Phase.DONE
        self._on_done(self._base)

    def _hear(self, incoming: Incoming) -> None:
        online = incoming.payload == b"online"
        if online and not self._online:
            self._since_s = self._clock.monotonic()
        self._online = online

    def _collect(self, incoming: Incoming) -> None:
        own = incoming.topic == self._own or incoming.topic.startswith(f"{self._own}/")
        if incoming.retained and incoming.payload and not own and len(self._found) < _MOST_TOPICS:
            self._found.add(incoming.topic)
