"""What was announced: the discovery messages that a broker still holds for us, kept across restarts in one file."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.mqtt.home_assistant.messages import COMPONENTS, vanished
from edge_classifierd.state_file import StateFile

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.mqtt.home_assistant.messages import Payload

_VERSION: Final = "announced, version 1"


@dataclass(frozen=True, slots=True)
class RemovedEntities:
    """Something that was announced and is to be forgotten: a whole message, or some entities of a device message."""

    payload: Payload
    """What Home Assistant was told when it was last announced."""
    cleared: bool = False
    """The broker has taken the removal. A Home Assistant that was away then still knows what was buried."""


@dataclass(slots=True)
class _Book:
    base: str = ""
    announced: dict[str, Payload] = field(default_factory=dict)
    buried: dict[str, RemovedEntities] = field(default_factory=dict)
    former: dict[str, dict[str, Payload]] = field(default_factory=dict)

    def bury(self, topic: str, payload: Payload) -> None:
        """Whatever of `payload` is not announced any more, beside what is buried there already."""
        gone = vanished(payload, self.announced[topic]) if topic in self.announced else payload
        earlier = self.buried.get(topic)
        if gone is not None and earlier is not None and COMPONENTS in gone:
            gone = {**gone, COMPONENTS: {**earlier.payload.get(COMPONENTS, {}), **gone[COMPONENTS]}}
        if gone is not None:
            self.buried[topic] = RemovedEntities(gone)


class AnnouncedEntities:
    """The file and what it holds; any thread, but only `keep` writes. Losing it leaves entities in Home Assistant."""

    def __init__(self, path: Path, base: str) -> None:
        """`base` is where the device's topics begin; what was announced under another one is `former`."""
        self._file = StateFile(path, _VERSION, "what vanishes may stay in Home Assistant")
        self._lock = threading.Lock()
        self._book = self._file.read(_parse, _Book())
        book = self._book
        if book.base and book.base != base:
            book.former[book.base] = {**book.former.get(book.base, {}), **book.announced}
            book.announced = {}
        book.former.pop(base, None)
        self._changed = book.base != base
        book.base = base

    @property
    def messages(self) -> dict[str, Payload]:
        """What is announced now, by topic."""
        with self._lock:
            return dict(self._book.announced)

    @property
    def buried(self) -> dict[str, RemovedEntities]:
        """What is to be forgotten, by topic."""
        with self._lock:
            return dict(self._book.buried)

    @property
    def former(self) -> tuple[str, ...]:
        """Where the device's topics began in former times."""
        with self._lock:
            return tuple(self._book.former)

    def replace(self, messages: dict[str, Payload]) -> None:
        """Announce these messages from now on, and bury what they no longer hold."""
        with self._lock:
            book = self._book
            if messages == book.announced:
                return
            before, book.announced = book.announced, dict(messages)
            for topic, payload in before.items():
                book.bury(topic, payload)
            for topic in [topic for topic in book.buried if topic in messages]:
                # What is announced again is not dead.
                gone = vanished(book.buried.pop(topic).payload, messages[topic])
                if gone is not None:
                    book.buried[topic] = RemovedEntities(gone)
            self._changed = True

    def bury_former(self, base: str) -> None:
        """Nobody lives at a former base any more: what was announced there is to be forgotten."""
        with self._lock:
            for topic, payload in self._book.former.get(base, {}).items():
                self._book.bury(topic, payload)
            self._book.former[base] = {}
            self._changed = True

    def leave_former(self, base: str) -> None:
        """Nothing is left to do at a former base: it is cleared, or somebody else lives there."""
        with self._lock:
            self._book.former.pop(base, None)
            self._changed = True

    def cleared(self, topic: str) -> None:
        """The broker has taken the removal of what is buried under a topic."""
        with self._lock:
            buried = self._book.buried.get(topic)
            if buried is not None:
                self._book.buried[topic] = RemovedEntities(buried.payload, cleared=True)
                self._changed = True

    def forget(self, topic: str, payload: Payload) -> None:
        """Home Assistant has been there and was told that `payload` is no more."""
        with self._lock:
            buried = self._book.buried.get(topic)
            if buried is not None and buried.payload == payload:
                del self._book.buried[topic]
                self._changed = True

    def keep(self) -> None:
        """Write the file if something has changed; not worth a wait for the disk."""
        with self._lock:
            if not self._changed:
                return
            book = self._book
            document: dict[str, Any] = {
                "base": book.base,
                "announced": book.announced,
                "buried": {topic: [one.payload, one.cleared] for topic, one in book.buried.items()},
                "former": book.former,
            }
            self._changed = not self._file.write(document, durably=False)


def _parse(document: Any) -> _Book:  # noqa: ANN401 - whatever the file holds
    return _Book(
        str(document["base"]),
        _messages(document["announced"]),
        {str(topic): RemovedEntities(dict(one[0]), cleared=bool(one[1])) for topic, one in document["buried"].items()},
        {str(base): _messages(messages) for base, messages in document["former"].items()},
    )


def _messages(document: dict[str, Payload]) -> dict[str, Payload]:
    return {str(topic): dict(payload) for topic, payload in document.items()}
