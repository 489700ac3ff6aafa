"""The messages and subscriptions that wait for a connection, and which of them the broker closes connections over."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edge_classifierd.mqtt.message import Message, PublishOutcome
from edge_classifierd.mqtt.refusals import TOO_LARGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.connection import Connection, Subscription
    from edge_classifierd.mqtt.refusals import Refusals

_MAX_MESSAGES: Final = 2000
_MAX_BYTES: Final = 8_000_000
_RECENT_S: Final = 5.0  # a connection that ends later after the last message was not closed over a message
_AFTER_ANSWER_S: Final = 1.0  # some brokers answer a message that they refuse and then close the connection
_ENDS_AFTER_ACKNOWLEDGEMENT: Final = 3
_LARGE_BYTES: Final = 8192


class SendQueue:
    """`push` may be called by any thread, the rest by the network thread.

    Some brokers close the connection over a message or subscription that they refuse, without a reason. After the first
    loss everything is sent one at a time, with QoS 1, so that the refused one is the only unanswered one when the
    connection ends again. It is then left out; see Refusals.
    """

    def __init__(self, refusals: Refusals, clock: Clock) -> None:
        self._refusals = refusals
        self._clock = clock
        self._lock = threading.Lock()  # for the two below
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._filters: deque[str] = deque()  # each is sent alone
        self._alone = False  # nothing may be sent before the last message or subscription is answered
        self._searching_s = float("-inf")  # time of the last `subscribe_alone`
        self._suspect: str | None = None  # was the first unanswered when the last connection ended
        self._last_acknowledged = ""
        self._ends_after_acknowledgement = 0  # of connections in a row
        self._accepted: set[str] = set()  # topics and filters that the broker has accepted
        self._largest_accepted = 0
        self.careful = False
        """Whether messages are sent one at a time, because the broker closed the last connection."""

    def push(self, message: Message) -> bool:
        """Append a message; False when the queue is full."""
        with self._lock:
            if len(self._messages) >= _MAX_MESSAGES or self._bytes > _MAX_BYTES:
                return False
            self._messages.append(message)
            self._bytes += len(message.payload)
        return True

    def subscribe(self, connection: Connection, filters: Sequence[str], not_local: Sequence[str]) -> None:
        """Subscribe to filters on a new connection, except those that the broker closes connections over."""
        together = []
        for one in filters:
            refusal = self._refusals.subscription(one)
            if refusal is None or not refusal.closes:
                together.append(one)
        if self.careful:
            self._filters.extend(together)
        elif together:
            connection.subscribe(together, not_local)

    def subscribe_alone(self, filters: Sequence[str]) -> None:
        """Subscribe to each filter by itself, to find the one that the broker refuses."""
        self._filters.extend(filters)
        self._searching_s = self._clock.monotonic()

    def send(self, connection: Connection, not_local: Sequence[str]) -> None:
        """Send as much as the broker and the socket accept now."""
        if self._alone and connection.awaiting_answer:
            return
        self._alone = False
        self._filters.extend(self._refusals.due_subscriptions())
        while connection.writable:
            if self._filters:
                if connection.awaiting_answer:
                    return
                connection.subscribe([self._filters.popleft()], not_local)
                self._alone = True
                return
            message = self._next(connection)
            if message is None:
                return
            connection.send(message)
            if self._alone:
                return

    def _next(self, connection: Connection) -> Message | None:
        """Return the next message that may be sent now, and report those that are left out."""
        while True:
            with self._lock:
                if not self._messages:
                    return None
                message = self._messages[0]
                refusal = self._refusals.message(message.topic)
                closes = refusal is not None and refusal.closes
                alone = closes or self.careful
                left_out = refusal is not None and closes and not self._refusals.due(refusal)
                if refusal is not None and not message.payload and refusal.size >= _LARGE_BYTES:
                    left_out = False  # the removal of a message that was too large
                if not left_out and (
                    (alone and connection.awaiting_answer) or (message.qos and connection.in_flight >= connection.quota)
                ):
                    return None
                self._messages.popleft()
                self._bytes -= len(message.payload)
            if not left_out:
                self._alone = alone
                return replace(message, qos=1) if alone and message.qos == 0 else message
            if message.on_outcome is not None:
                message.on_outcome(PublishOutcome.REFUSED, "left out, see above")

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not (self._messages or self._filters)

    def clear(self) -> list[Message]:
        """Remove and return all messages."""
        with self._lock:
            unsent = list(self._messages)
            self._messages.clear()
            self._bytes = 0
        self._filters.clear()
        self._alone = False
        return unsent

    def record_outcome(self, message: Message, outcome: PublishOutcome, reason: str, broker: object) -> None:
        """Record whether the broker accepted a message."""
        refusal = self._refusals.message(message.topic)
        too_large = refusal is not None and refusal.reason == TOO_LARGE  # then this one is smaller
        if outcome is PublishOutcome.DELIVERED and (message.qos or too_large):
            self._accept(message.topic)
            self._largest_accepted = max(self._largest_accepted, len(message.payload))
            self._refusals.remove_message(message.topic)
        elif outcome is PublishOutcome.REFUSED:
            self._refusals.add_message(message.topic, len(message.payload), reason, broker=broker, closes=False)

    def record_subscription(self, topic_filter: str, reason: str | None, broker: object) -> None:
        """Record whether the broker accepted a subscription; `reason` is None when it did."""
        if reason is None:
            self._accept(topic_filter)
            self._refusals.remove_subscription(topic_filter)
        else:
            self._refusals.add_subscription(topic_filter, reason, broker=broker, closes=False)

    def record_end(self, connection: Connection, broker: object) -> bool:
        """Find what the broker closed the connection over, after it ended; whether anything was found.

        The first unanswered message is left out when it is sent alone and was never accepted, when two connections in a
        row ended with it, or when it is much larger than any accepted one.
        """
        now_s = self._clock.monotonic()
        if not (connection.failure and connection.failure.by_broker and now_s - connection.sent_s < _RECENT_S):
            return False
        was_careful, self.careful = self.careful, True
        if connection.refused is not None and now_s - connection.refused[0] < _AFTER_ANSWER_S:
            self._leave_out(connection.refused[1], broker)
            return True
        if not connection.unproven:
            return self._blame_acknowledged(connection, broker)
        self._ends_after_acknowledgement = 0
        if not was_careful and now_s - self._searching_s < _RECENT_S:
            return False
        return self._blame_unproven(connection.unproven, broker, was_careful=was_careful)

    def _blame_unproven(self, unproven: Sequence[Message | Subscription], broker: object, *, was_careful: bool) -> bool:
        large = _first_large(unproven, max(_LARGE_BYTES, 2 * self._largest_accepted))
        topic = _topic(unproven[0])
        alone = was_careful and len(unproven) == 1 and topic not in self._accepted
        if large is not None:
            self._leave_out(large, broker)
        elif topic is not None and (alone or topic == self._suspect):
            self._leave_out(unproven[0], broker)
        else:
            self._suspect = topic
            return False
        return True

    def _blame_acknowledged(self, connection: Connection, broker: object) -> bool:
        """Leave out a topic if three connections in a row ended right after an acknowledgement of it.

        mosquitto 2.0.11 acknowledges what its ACL denies to a client with MQTT 3.1.1, and closes the connection.
        """
        if connection.acknowledged is None or self._clock.monotonic() - connection.acknowledged[0] > _AFTER_ANSWER_S:
            self._ends_after_acknowledgement = 0
            return False
        message = connection.acknowledged[1]
        same = message.topic == self._last_acknowledged
        self._ends_after_acknowledgement = self._ends_after_acknowledgement + 1 if same else 1
        self._last_acknowledged = message.topic
        if self._ends_after_acknowledgement < _ENDS_AFTER_ACKNOWLEDGEMENT:
            return False
        self._ends_after_acknowledgement = 0
        self._leave_out(message, broker)
        return True

    def _accept(self, topic: str) -> None:
        self._accepted.add(topic)
        if self._suspect == topic:
            self._suspect = None

    def _leave_out(self, item: Message | Subscription, broker: object) -> None:
        self._suspect = None
        if isinstance(item, Message):
            self._refusals.add_message(item.topic, len(item.payload), "", broker=broker, closes=True)
        else:
            self._refusals.add_subscription(item.filters[0], "", broker=broker, closes=True)


def _topic(item: Message | Subscription) -> str | None:
    """Return the topic of a message, or the filter of a subscription to one filter."""
    if isinstance(item, Message):
        return item.topic
    return item.filters[0] if len(item.filters) == 1 else None


def _first_large(unproven: Sequence[Message | Subscription], limit: int) -> Message | None:
    """Return a message above `limit` bytes, unless something before it is to be answered and is not."""
    for one in unproven:
        if isinstance(one, Message) and len(one.payload) > limit:
            return one
        if not isinstance(one, Message) or one.qos:
            return None
    return None
