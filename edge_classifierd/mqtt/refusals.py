"""Topics that the broker refuses: logged once, left out, and tried again after ten minutes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock

_log = logging.getLogger(__name__)

TOO_LARGE = "larger than the broker's maximum packet size"
"""Reason of a message that is not sent, because it exceeds the limit that the broker has announced (MQTT 5)."""

RETRY_S = 600.0
"""Time until a refused topic is tried again, also over reconnections."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A topic that the broker refuses."""

    topic: str
    size: int
    reason: str
    """The broker's reason; empty if it gave none."""
    sentence: str
    closes: bool
    """The broker closed the connection over it, so that it must be sent alone when it is tried again."""
    retry_s: float


class Refusals:
    """Messages by topic and subscriptions by filter. The network thread changes it; any thread may read it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._messages: dict[str, Refusal] = {}
        self._subscriptions: dict[str, Refusal] = {}

    def add_message(self, topic: str, size: int, reason: str, *, broker: object, closes: bool) -> None:
        """Record that the broker refused a message of `size` bytes; `reason` is empty if it gave none."""
        if reason:
            sentence = f"the broker refuses messages on {topic} ({reason}, {size:,} bytes); check its ACL and limits"
        else:
            sentence = (
                f"the broker closes the connection over a message on {topic} ({size:,} bytes); allow the topic in the"
                " broker's permissions, or raise its limit for message sizes"
            )
        self._add(self._messages, topic, size, reason, f"{broker}: {sentence}", closes=closes)

    def add_subscription(self, topic_filter: str, reason: str, *, broker: object, closes: bool) -> None:
        """Record that the broker refused a subscription; `reason` is empty if it gave none."""
        action = f"refuses the subscription to {topic_filter} ({reason})"
        if not reason:
            action = f"closes the connection over the subscription to {topic_filter}"
        self._add(
            self._subscriptions, topic_filter, 0, reason, f"{broker}: the broker {action}; check its ACL", closes=closes
        )

    def remove_message(self, topic: str) -> None:
        """Record that the broker accepted a message."""
        self._remove(self._messages, topic)

    def remove_subscription(self, topic_filter: str) -> None:
        """Record that the broker accepted a subscription."""
        self._remove(self._subscriptions, topic_filter)

    def message(self, topic: str) -> Refusal | None:
        """Return the refusal of a topic's messages; it stays until the broker accepts one."""
        return self._messages.get(topic)

    def subscription(self, topic_filter: str) -> Refusal | None:
        """Return the refusal of a subscription; it stays until the broker accepts it."""
        return self._subscriptions.get(topic_filter)

    def waits(self, topic: str, size: int) -> bool:
        """Whether a message of `size` bytes on a topic is left out now."""
        refusal = self._messages.get(topic)
        if refusal is None or (refusal.reason == TOO_LARGE and size < refusal.size):
            return False
        return not self.due(refusal)

    def due(self, refusal: Refusal) -> bool:
        """Whether it is time to try a refused topic again."""
        return self._clock.monotonic() >= refusal.retry_s

    def due_subscriptions(self) -> list[str]:
        """Return the refused filters that are to be tried again, and postpone them."""
        due = [one for one in self._subscriptions.values() if self.due(one)]
        for one in due:
            self._subscriptions[one.topic] = replace(one, retry_s=self._clock.monotonic() + RETRY_S)
        return [one.topic for one in due]

    @property
    def sentences(self) -> tuple[str, ...]:
        """One sentence for each refused topic, messages first."""
        refusals = [*dict(self._messages).values(), *dict(self._subscriptions).values()]
        return tuple(refusal.sentence for refusal in refusals)

    def _add(
        self, refusals: dict[str, Refusal], topic: str, size: int, reason: str, sentence: str, *, closes: bool
    ) -> None:
        retry_s = self._clock.monotonic() + RETRY_S
        known = refusals.get(topic)
        if known is None:
            _log.warning("%s; it is tried again every %d minutes", sentence, RETRY_S / 60)
            refusals[topic] = Refusal(topic, size, reason, sentence, closes, retry_s)
        else:
            refusals[topic] = replace(known, size=size, closes=closes or known.closes, retry_s=retry_s)

    @staticmethod
    def _remove(refusals: dict[str, Refusal], topic: str) -> None:
        if refusals.pop(topic, None) is not None:
            _log.info("%s: the broker accepts it again", topic)
