"""The discovery messages that the broker and Home Assistant have of this device, saved in one file."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.mqtt.home_assistant.messages import COMPONENTS, vanished
from edge_classifierd.state_file import StateFile

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.mqtt.home_assistant.messages import Payload

_VERSION: Final = "announced entities, version 2"


@dataclass(frozen=True, slots=True)
class RemovedEntities:
    """Announced entities that no longer exist: a whole message, or some entities of a device message."""

    payload: Payload
    """The message as it was last announced."""
    cleared: bool = False
    """The broker has acknowledged the removal. Home Assistant may still have the entities if it was not running."""


@dataclass(slots=True)
class _State:
    base: str = ""
    announced: dict[str, Payload] = field(default_factory=dict)
    removed: dict[str, RemovedEntities] = field(default_factory=dict)
    former: dict[str, dict[str, Payload]] = field(default_factory=dict)
    max_device_bytes: int | None = None

    def remove(self, topic: str, payload: Payload) -> None:
        """Add to `removed` those entities of `payload` that are not announced any more."""
        gone = vanished(payload, self.announced[topic]) if topic in self.announced else payload
        earlier = self.removed.get(topic)
        if gone is not None and earlier is not None and COMPONENTS in gone:
            gone = {**gone, COMPONENTS: {**earlier.payload.get(COMPONENTS, {}), **gone[COMPONENTS]}}
        if gone is not None:
            self.removed[topic] = RemovedEntities(gone)


class AnnouncedEntities:
    """Any thread may use it. Without the file, removed entities stay in Home Assistant."""

    def __init__(self, path: Path, base: str) -> None:
        """`base` is the first part of the device's topics; messages announced with another one are `former`."""
        self._file = StateFile(path, _VERSION, "removed entities may stay in Home Assistant")
        self._lock = threading.Lock()
        self._state = self._file.read(_parse, _State())
        state = self._state
        if state.base and state.base != base:
            state.former[state.base] = {**state.former.get(state.base, {}), **state.announced}
            state.announced = {}
        state.former.pop(base, None)
        self._changed = state.base != base
        state.base = base

    @property
    def messages(self) -> dict[str, Payload]:
        """The announced messages by topic."""
        with self._lock:
            return dict(self._state.announced)

    @property
    def removed(self) -> dict[str, RemovedEntities]:
        """The entities to remove, by topic."""
        with self._lock:
            return dict(self._state.removed)

    @property
    def former(self) -> tuple[str, ...]:
        """The first parts of the device's former topics."""
        with self._lock:
            return tuple(self._state.former)

    @property
    def max_device_bytes(self) -> int | None:
        """Size of a device message that the broker refused as too large."""
        return self._state.max_device_bytes

    def set_max_device_bytes(self, size: int) -> None:
        """Record that the broker refused a device message of this size."""
        with self._lock:
            self._state.max_device_bytes = size
            self._changed = True

    def replace(self, messages: dict[str, Payload]) -> None:
        """Set the announced messages; entities that they no longer contain are removed."""
        with self._lock:
            state = self._state
            if messages == state.announced:
                return
            before, state.announced = state.announced, dict(messages)
            for topic, payload in before.items():
                state.remove(topic, payload)
            for topic in [topic for topic in state.removed if topic in messages]:
                gone = vanished(state.removed.pop(topic).payload, messages[topic])
                if gone is not None:
                    state.removed[topic] = RemovedEntities(gone)
            self._changed = True

    def remove_former(self, base: str) -> None:
        """Remove the entities that were announced with a former base."""
        with self._lock:
            for topic, payload in self._state.former.get(base, {}).items():
                self._state.remove(topic, payload)
            self._state.former[base] = {}
            self._changed = True

    def drop_former(self, base: str) -> None:
        """Forget a former base: its topics are removed, or another device uses them."""
        with self._lock:
            self._state.former.pop(base, None)
            self._changed = True

    def cleared(self, topic: str) -> None:
        """Record that the broker has acknowledged the removal of a topic."""
        with self._lock:
            removed = self._state.removed.get(topic)
            if removed is not None:
                self._state.removed[topic] = RemovedEntities(removed.payload, cleared=True)
                self._changed = True

    def forget(self, topic: str, payload: Payload) -> None:
        """Record that Home Assistant has received the removal of `payload`."""
        with self._lock:
            removed = self._state.removed.get(topic)
            if removed is not None and removed.payload == payload:
                del self._state.removed[topic]
                self._changed = True

    def save(self) -> None:
        """Write the file if something has changed, without waiting for the disk."""
        with self._lock:
            if not self._changed:
                return
            state = self._state
            document: dict[str, Any] = {
                "base": state.base,
                "announced": state.announced,
                "removed": {topic: [one.payload, one.cleared] for topic, one in state.removed.items()},
                "former": state.former,
                "max_device_bytes": state.max_device_bytes,
            }
            self._changed = not self._file.write(document, durably=False)


def _parse(document: Any) -> _State:  # noqa: ANN401 - the content of the file
    size = document["max_device_bytes"]
    return _State(
        str(document["base"]),
        _messages(document["announced"]),
        {str(topic): RemovedEntities(dict(one[0]), cleared=bool(one[1])) for topic, one in document["removed"].items()},
        {str(base): _messages(messages) for base, messages in document["former"].items()},
        None if size is None else int(size),
    )


def _messages(document: dict[str, Payload]) -> dict[str, Payload]:
    return {str(topic): dict(payload) for topic, payload in document.items()}
