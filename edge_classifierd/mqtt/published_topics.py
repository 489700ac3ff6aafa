"""The list of topics on which this daemon has retained messages, saved in the state directory.

Only these are removed from a broker: other programs may publish below the same topics, and some brokers return no
retained messages for a subscription with wildcards.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.mqtt.message import PublishOutcome
from edge_classifierd.state_file import StateFile

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "published.json"
_VERSION: Final = "published topics, version 1"


class PublishedTopics:
    """Topics by the device's base topic, because `device.id` and `mqtt.base_topic` can change. For any thread."""

    def __init__(self, path: Path, base: str) -> None:
        """`base` is the first part of the device's topics now."""
        self._file = StateFile(path, _VERSION, "retained messages may stay on the broker")
        self._lock = threading.Lock()
        self._topics: dict[str, set[str]] = self._file.read(_parse, {})
        self._base = base
        self._topics.setdefault(base, set())
        self._changed = False

    @property
    def former_bases(self) -> tuple[str, ...]:
        """Other base topics with retained messages."""
        with self._lock:
            return tuple(base for base, topics in self._topics.items() if base != self._base and topics)

    def topics(self, base: str) -> set[str]:
        """Return the topics with retained messages, including discovery."""
        with self._lock:
            return set(self._topics.get(base, ()))

    def record(self, topic: str, *, empty: bool, outcome: PublishOutcome) -> None:
        """Record that a retained message was published; an empty one removes the topic once it is acknowledged."""
        with self._lock:
            if empty and outcome is PublishOutcome.DELIVERED:
                for topics in self._topics.values():
                    self._changed = self._changed or topic in topics
                    topics.discard(topic)
            elif not empty and topic not in self._topics[self._base]:
                self._topics[self._base].add(topic)
                self._changed = True

    def drop(self, base: str) -> None:
        """Forget the topics of a former base, because another device uses them."""
        with self._lock:
            self._changed = self._topics.pop(base, None) is not None or self._changed

    def save(self) -> None:
        """Write the file if something has changed."""
        with self._lock:
            if self._changed:
                document = {base: sorted(topics) for base, topics in self._topics.items() if topics}
                self._changed = not self._file.write(document, durably=False)


def _parse(document: Any) -> dict[str, set[str]]:  # noqa: ANN401 - the content of the file
    return {str(base): {str(topic) for topic in topics} for base, topics in document.items()}
