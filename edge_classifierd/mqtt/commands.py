"""Commands that come over MQTT: told from garbage, bounded in size and rate, and queued for the daemon's own thread."""

from __future__ import annotations

import logging
import math
import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Incoming
    from edge_classifierd.mqtt.topics import Topics

log = logging.getLogger(__name__)

_LONGEST_BYTES: Final = 64
_MOST_QUEUED: Final = 64
_A_SECOND: Final = 20.0
_BURST: Final = 40.0
_WARN_EVERY_S: Final = 60.0
_MOST_WARNED: Final = 64

_SWITCH: Final = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_RESET: Final = "reset"
_PRESS: Final = frozenset({"", "press", "on", "1", "true"})


@dataclass(frozen=True, slots=True)
class SetEnabled:
    """Switch a pipeline's camera on or off; None: as configured."""

    pipeline: str
    enabled: bool | None


@dataclass(frozen=True, slots=True)
class SetThreshold:
    """Change a watch's threshold; above 0, at most 1; None: as configured."""

    pipeline: str
    watch: str
    threshold: float | None


@dataclass(frozen=True, slots=True)
class TakePicture:
    """Publish the pipeline's next frame on `image`."""

    pipeline: str


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again."""


Command = SetEnabled | SetThreshold | TakePicture | Reload


class RefusedError(Exception):
    """A command that cannot be obeyed; `str()` is the sentence for the log."""


class Commands:
    """Receives commands on the network thread and hands them to whoever calls `take`.

    What is refused changes nothing and earns a warning: at most one a minute for each topic, and 64 in all. A message
    that the broker had retained is never a command: it may be a year old, and would come again with every connection.
    """

    def __init__(
        self,
        session: MqttClient,
        topics: Topics,
        watches: Mapping[str, frozenset[str]],
        clock: Clock,
        on_command: Callable[[], None] = lambda: None,
    ) -> None:
        """`watches` names each pipeline's watches; `on_command` is called on the network thread for each command."""
        self._topics = topics
        self._clock = clock
        self._on_command = on_command
        self._queue: queue.Queue[Command] = queue.Queue(_MOST_QUEUED)
        self._tokens = _BURST
        self._refilled_s = clock.monotonic()
        self._warned_s: dict[str, float] = {}
        self.watches = watches
        """May be replaced as a whole, after a reload."""
        for pattern in (
            topics.reload_command,
            f"{topics.base}/+/enabled/set",
            f"{topics.base}/+/snapshot/set",
            f"{topics.base}/+/+/threshold/set",
        ):
            session.subscribe(pattern, self._receive)

    def take(self) -> Command | None:
        """The next command, None when there is none; any thread."""
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
            self._warn(incoming.topic, "too many commands wait; the rest is dropped")
        else:
            self._on_command()

    def _admit(self) -> None:
        """A token bucket: `_A_SECOND` in the long run, `_BURST` at once. Raises RefusedError."""
        now = self._clock.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._refilled_s) * _A_SECOND)
        self._refilled_s = now
        if self._tokens < 1:
            raise RefusedError(f"more than {_A_SECOND:g} commands a second; the rest is dropped")
        self._tokens -= 1

    def _warn(self, topic: str, reason: str) -> None:
        now = self._clock.monotonic()
        if len(self._warned_s) >= _MOST_WARNED:
            self._warned_s = {one: warned for one, warned in self._warned_s.items() if now - warned < _WARN_EVERY_S}
        full = len(self._warned_s) >= _MOST_WARNED  # topics are the sender's to invent
        if full or now - self._warned_s.get(topic, -math.inf) < _WARN_EVERY_S:
            log.debug("%.200s: refused: %s", topic, reason)
            return
        self._warned_s[topic] = now
        log.warning("%.200s: refused: %s", topic, reason)


def parse(topics: Topics, incoming: Incoming, watches: Mapping[str, frozenset[str]]) -> Command:
    """The command in a message. Raises RefusedError with the reason, value seen and values allowed."""
    if incoming.retained:
        raise RefusedError("retained messages are not obeyed, as they may be old; publish it without retain")
    if len(incoming.payload) > _LONGEST_BYTES:
        raise RefusedError(f"{len(incoming.payload):,} bytes are too many for a command")
    try:
        text = incoming.payload.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RefusedError("the payload is not text") from error
    levels = incoming.topic.removeprefix(f"{topics.base}/").split("/")
    match levels:
        case ["reload", "set"]:
            _pressed(text)
            return Reload()
        case [pipeline, "enabled", "set"]:
            return SetEnabled(_known(pipeline, watches), _switch(text))
        case [pipeline, "snapshot", "set"]:
            _pressed(text)
            return TakePicture(_known(pipeline, watches))
        case [pipeline, watch, "threshold", "set"]:
            if watch not in watches[_known(pipeline, watches)]:
                raise RefusedError(f"no watch {watch!r:.60}; there are {_listed(watches[pipeline])}")
            return SetThreshold(pipeline, watch, _threshold(text))
    raise RefusedError("no such command")


def _known(pipeline: str, watches: Mapping[str, frozenset[str]]) -> str:
    if pipeline not in watches:
        raise RefusedError(f"no pipeline {pipeline!r:.60}; there are {_listed(watches)}")
    return pipeline


def _listed(names: Mapping[str, frozenset[str]] | frozenset[str]) -> str:
    return ", ".join(sorted(names)[:10])


def _switch(text: str) -> bool | None:
    if text.lower() == _RESET:
        return None
    enabled = _SWITCH.get(text.lower())
    if enabled is None:
        raise RefusedError(f"{text!r:.60} is none of ON, OFF and RESET")
    return enabled


def _pressed(text: str) -> None:
    if text.lower() not in _PRESS:
        raise RefusedError(f"{text!r:.60} is not PRESS")


def _threshold(text: str) -> float | None:
    if text.lower() == _RESET:
        return None
    try:
        threshold = float(text)
    except ValueError as error:
        raise RefusedError(f"{text!r:.60} is neither a number above 0 and at most 1 nor RESET") from error
    if not 0 < threshold <= 1:  # also refuses nan
        raise RefusedError(f"{text!r:.60} is not above 0 and at most 1")
    return threshold
