"""Removal of the retained topics under a former device id or base topic, unless another device uses them."""

from __future__ import annotations

import logging
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from edge_classifierd.mqtt.message import Message
from edge_classifierd.mqtt.retained_topics import REMOVAL_DELAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Incoming

_log = logging.getLogger(__name__)

_LISTEN_S: Final = 3.0
"""A retained message is received within this time after the subscription."""
_IN_USE_S: Final = 180.0
"""A status that stays `online` so long is another device's; this device's last will would have been published."""


class _Phase(Enum):
    LISTENING = auto()
    """Waiting for `status`: another device may be online there."""
    REMOVING = auto()
    """The entities are removed from Home Assistant, then the topics from the broker."""
    DONE = auto()


class FormerTopics:
    """Used by the network thread. Subscribes to `<base>/status` and removes the topics unless a device is online there.

    A memory card that was copied into another device, which then got an id of its own, must not remove the topics of
    the first device.
    """

    def __init__(
        self,
        client: MqttClient,
        base: str,
        topics: Callable[[], Iterable[str]],
        clock: Clock,
        *,
        on_free: Callable[[str], None],
        on_done: Callable[[str, bool], None],
    ) -> None:
        """Prepare the removal.

        Args:
            client: The connection to the broker.
            base: The former first part of the device's topics.
            topics: Returns the topics to remove: those that this daemon has published.
            clock: Clock for the waits.
            on_free: Called with `base` when no device is online there.
            on_done: Called at the end with `base`, and whether another device uses it.
        """
        self._client = client
        self._base = base
        self._topics = topics
        self._in_use = False
        self._clock = clock
        self._on_free = on_free
        self._on_done = on_done
        self._online: bool | None = None
        self._since_s = clock.monotonic()
        self._phase = _Phase.LISTENING
        client.subscribe(f"{base}/status", self._on_status)

    @property
    def undecided(self) -> bool:
        """Whether it is not known yet that the topics are free or in use."""
        return self._phase is _Phase.LISTENING

    def connected(self) -> None:
        """Begin again with a new connection."""
        self._since_s = self._clock.monotonic()
        self._online = None
        if self._phase is _Phase.DONE and not self._in_use and self._topics():
            self._phase = _Phase.REMOVING

    def tick(self) -> None:
        """Continue; called a few times a second while connected."""
        now_s = self._clock.monotonic()
        lasted_s = now_s - self._since_s
        if self._phase is _Phase.DONE or lasted_s < _LISTEN_S:
            return
        if self._online:
            if lasted_s >= _IN_USE_S:
                _log.info("%s: another device is online there; its topics are not removed", self._base)
                self._end(in_use=True)
        elif self._phase is _Phase.LISTENING:
            self._phase, self._since_s = _Phase.REMOVING, now_s
            self._on_free(self._base)
        elif lasted_s >= REMOVAL_DELAY_S:
            self._remove()

    def _remove(self) -> None:
        for topic in sorted(self._topics()):
            if not self._client.publish(Message(topic, b"", qos=1, retain=True)):
                return
        _log.info("%s: the device's former topics are removed from the broker", self._base)
        self._end(in_use=False)

    def _end(self, *, in_use: bool) -> None:
        self._phase, self._in_use = _Phase.DONE, in_use
        self._on_done(self._base, in_use)

    def _on_status(self, incoming: Incoming) -> None:
        online = incoming.payload == b"online"
        if online and not self._online:
            self._since_s = self._clock.monotonic()
        self._online = online
