"""The queue of commands received over MQTT: limited in size and rate, for the daemon's main thread."""

from __future__ import annotations

import logging
import math
import queue
from typing import TYPE_CHECKING, Final

from edge_classifierd.mqtt.commands import RefusedError, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.commands import Command
    from edge_classifierd.mqtt.message import Incoming
    from edge_classifierd.mqtt.topics import Topics

log = logging.getLogger(__name__)

_MAX_QUEUED: Final = 64
_COMMANDS_PER_SECOND: Final = 20.0
_BURST: Final = 40.0
_WARNING_INTERVAL_S: Final = 60.0
_MAX_WARNED_TOPICS: Final = 64


class CommandQueue:
    """Filled by the network thread, emptied by the caller of `take`.

    An invalid command is logged, at most once a minute for each topic and for at most 64 topics. A retained message is
    not executed: it may be a year old and would be received again with every connection.
    """

    def __init__(
        self,
        client: MqttClient,
        topics: Topics,
        watches: Mapping[str, frozenset[str]],
        clock: Clock,
        on_command: Callable[[], None] = lambda: None,
    ) -> None:
        """Subscribe to the command topics.

        Args:
            client: The connection to the broker.
            topics: The device's topics.
            watches: Names of the watches by pipeline.
            clock: Clock for the rate limit.
            on_command: Called on the network thread after a command was queued.
        """
        self._topics = topics
        self._clock = clock
        self._on_command = on_command
        self._queue: queue.Queue[Command] = queue.Queue(_MAX_QUEUED)
        self._tokens = _BURST
        self._refilled_s = clock.monotonic()
        self._warned_s: dict[str, float] = {}
        self.watches = watches
        """Replaced as a whole after a reload."""
        for pattern in (
            topics.reload_command,
            f"{topics.base}/+/+/set",
            f"{topics.base}/+/+/threshold/set",
        ):
            client.subscribe(pattern, self._receive)

    def take(self) -> Command | None:
        """Return the next command, None if there is none. Any thread may call it."""
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None

    def _receive(self, incoming: Incoming) -> None:
        try:
            command = parse(self._topics, incoming, self.watches)
            self._admit()
            self._queue.put_nowait(command)
        except RefusedError as refusal:
            self._warn(incoming.topic, str(refusal))
        except queue.Full:
            self._warn(incoming.topic, "too many commands are waiting; this one is dropped")
        else:
            self._on_command()

    def _admit(self) -> None:
        """Apply the rate limit, a token bucket. Raises RefusedError."""
        now = self._clock.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._refilled_s) * _COMMANDS_PER_SECOND)
        self._refilled_s = now
        if self._tokens < 1:
            raise RefusedError(f"more than {_COMMANDS_PER_SECOND:g} commands a second; this one is dropped")
        self._tokens -= 1

    def _warn(self, topic: str, reason: str) -> None:
        now = self._clock.monotonic()
        if len(self._warned_s) >= _MAX_WARNED_TOPICS:
            recent = {one: at_s for one, at_s in self._warned_s.items() if now - at_s < _WARNING_INTERVAL_S}
            self._warned_s = recent
        full = len(self._warned_s) >= _MAX_WARNED_TOPICS  # a sender can invent any number of topics
        if full or now - self._warned_s.get(topic, -math.inf) < _WARNING_INTERVAL_S:
            log.debug("%.200s: refused: %s", topic, reason)
            return
        self._warned_s[topic] = now
        log.warning("%.200s: refused: %s", topic, reason)
