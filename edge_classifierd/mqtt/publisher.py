"""The publisher: one thread that publishes the events of the outbox in order and removes acknowledged ones."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.mqtt.message import JSON, Message, PublishOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.events.tables import Stored
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.own_topics import OwnTopicMonitor

EVENT_SCHEMA = 1

_AHEAD = 200  # events given to the client, which respects the broker's receive maximum
_IDLE_S = 1.0
_REFUSED_PAUSE_S = 60.0
_AFTER_EVENTS_S = 0.05  # longest time that other messages wait for the acknowledgement of events


class Publisher:
    """Delivers at least once: after each loss of the connection it continues with the oldest unacknowledged event.

    A repeated event has the same bytes. An event that the broker refuses (ACL, quota) stays in the outbox with all
    later ones of its topic. The oldest is tried again every minute; once it is accepted the others follow in order.
    Other topics are not affected. Call `stop` before the client's.
    """

    def __init__(
        self,
        outbox: Outbox,
        client: MqttClient,
        clock: Clock,
        *,
        monitor: OwnTopicMonitor | None = None,
        refused_pause_s: float = _REFUSED_PAUSE_S,
    ) -> None:
        self._outbox = outbox
        self._client = client
        self._monitor = monitor
        self._clock = clock
        self._refused_pause_s = refused_pause_s
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._results: deque[tuple[Stored, PublishOutcome]] = deque()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._after_events: deque[tuple[float, Callable[[], None]]] = deque()  # latest time, call
        self._handed = 0  # given to the client, outcome not known
        self._cursor = 0  # position of the last event given to the client
        self._acknowledged: list[int] = []
        self._connection: int | None = None
        self._rewind = False
        self._held: dict[str, _Refusal] = {}  # by topic
        self._unread = False  # the disk failed, so that a page may be incomplete
        self._delivered = 0
        outbox.on_append(self._wake.set)
        client.add_listener(self)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """Stop, and remove acknowledged events from the outbox; False if that took longer than `timeout_s`."""
        if self._thread.ident is None:
            return True
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def after_events(self, call: Callable[[], None]) -> None:
        """Make a call on this thread when no event waits for its acknowledgement, at most 0.1 s later, in order.

        What else a frame publishes would compete with its event for Python's lock and reach the broker first.
        """
        self._after_events.append((self._clock.monotonic() + _AFTER_EVENTS_S, call))
        if not self._handed:  # otherwise the acknowledgement wakes the thread
            self._wake.set()

    @property
    def delivered(self) -> int:
        """Number of acknowledgements since the start, including repetitions."""
        return self._delivered

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def connected(self) -> None:
        """Continue; called by the client."""
        self._wake.set()

    def disconnected(self) -> None:
        """Update the state; called by the client."""
        self._wake.set()

    def tick(self) -> None:
        """Do nothing; called by the client."""

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self._process_results()
            self._hand_over()
            self._make_calls()
            self._outbox.maintain()
            self._unread = self._unread or not self._outbox.durable
            if not self._results:
                self._wake.wait(_AFTER_EVENTS_S if self._after_events or self._handed else _IDLE_S)
        self._process_results()
        self._make_calls(at_once=True)
        self._flush()

    def _make_calls(self, *, at_once: bool = False) -> None:
        """Make the calls of `after_events` that are due."""
        at_once = at_once or not self._handed
        while self._after_events and (at_once or self._clock.monotonic() >= self._after_events[0][0]):
            self._after_events.popleft()[1]()

    def _process_results(self) -> None:
        """Process the outcomes of published events."""
        while self._results:
            row, outcome = self._results.popleft()
            self._handed -= 1
            if outcome is PublishOutcome.DELIVERED:
                self._acknowledged.append(row.position)
                self._delivered += 1
                if row.topic in self._held and row.position <= self._held[row.topic].position:
                    self._release(row.topic)
            elif outcome is PublishOutcome.REFUSED:
                self._hold(row)
            else:
                self._rewind = True
        if self._acknowledged and (len(self._acknowledged) >= _AHEAD // 2 or self._handed == 0):
            self._flush()

    def _flush(self) -> None:
        if self._acknowledged:
            self._outbox.acknowledge(self._acknowledged)
            self._acknowledged = []

    def _hand_over(self) -> None:
        """Give more events to the client, unless earlier ones must be repeated first."""
        connection = self._client.connection
        if connection is None or not self._can_continue(connection):
            return
        room = _AHEAD - self._handed
        if room < _AHEAD // 4:
            return
        if not self._has_pending():
            if not self._handed:
                self._try_held(connection)
            return
        last_position = self._outbox.last_position
        rows = self._outbox.pending(self._cursor, room)
        for row in rows:
            if row.topic not in self._held and not self._send(row, connection):
                return
            self._cursor = row.position
        if len(rows) < room and self._outbox.readable:
            self._cursor = max(self._cursor, last_position)  # the newest may have been removed
        elif not self._handed:
            self._wake.set()  # a page of held events only

    def _can_continue(self, connection: int) -> bool:
        """Restart with the oldest event after a loss; False while outcomes of earlier events are missing."""
        if connection != self._connection or self._rewind:
            if self._handed:
                return False
            self._flush()
            self._cursor, self._connection, self._rewind = 0, connection, False
        return True

    def _has_pending(self) -> bool:
        if self._outbox.last_position > self._cursor:
            return True
        if self._handed or not self._outbox.depth or (self._held and not self._readable_again()):
            return False
        self._cursor = 0  # events are left although all were acknowledged: the disk could not be read
        return True

    def _send(self, row: Stored, connection: int) -> bool:
        message = Message(
            row.topic, row.payload, qos=1, content_type=JSON, schema=EVENT_SCHEMA, on_outcome=self._on_outcome(row)
        )
        if self._monitor is not None:
            self._monitor.publishing(row.payload)
        handed = self._client.publish(message, connection=connection)
        self._handed += handed
        return handed

    def _on_outcome(self, row: Stored) -> Callable[[PublishOutcome, str], None]:
        def record(outcome: PublishOutcome, _reason: str) -> None:
            if outcome is PublishOutcome.DELIVERED and self._monitor is not None:
                self._monitor.acknowledged(row.topic)
            self._results.append((row, outcome))
            if not self._wake.is_set():
                self._wake.set()

        return record

    def _hold(self, row: Stored) -> None:
        """Publish no more events of the row's topic until its oldest is accepted. The client has logged the reason."""
        held = self._held.get(row.topic)
        retry_s = self._clock.monotonic() + self._refused_pause_s
        self._held[row.topic] = _Refusal(min(row.position, held.position) if held else row.position, retry_s)

    def _release(self, topic: str) -> None:
        """Continue with the oldest waiting event."""
        del self._held[topic]
        self._rewind = True
        self._wake.set()

    def _try_held(self, connection: int) -> None:
        """Publish the oldest event of a held topic once its pause has ended, alone."""
        now_s = self._clock.monotonic()
        topic, held = min(self._held.items(), key=lambda item: item[1].retry_s, default=("", None))
        if held is None or now_s < held.retry_s:
            return
        page = self._outbox.pending(held.position - 1, _AHEAD)
        oldest = next((row for row in page if row.topic == topic), None)
        if oldest is None:  # removed from the outbox: too old, or too many
            self._release(topic)
        elif self._send(oldest, connection):
            self._held[topic] = _Refusal(oldest.position, now_s + self._refused_pause_s)

    def _readable_again(self) -> bool:
        """Whether the disk failed since the last complete page and works now."""
        again = self._unread and self._outbox.durable
        self._unread = self._unread and not again
        return again


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The oldest event of a topic that the broker refuses, and when it is tried again."""

    position: int
    retry_s: float
