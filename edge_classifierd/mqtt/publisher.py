"""The publisher: one thread that moves the outbox to the broker, in order, and lets it forget what was acknowledged."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.mqtt.message import JSON, Message, PublishOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.database import Stored
    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.mqtt.client import MqttClient

log = logging.getLogger(__name__)

EVENT_SCHEMA = 1

_AHEAD = 200  # handed to the session, which keeps to the broker's receive maximum by itself
_IDLE_S = 1.0
_REFUSED_PAUSE_S = 60.0


class Publisher:
    """Delivers at least once: after each loss of the connection it goes on with the oldest unacknowledged event.

    A repeated event has the same bytes. An event that the broker refuses (ACL, quota) stays, with all later ones of its
    topic, and is tried again alone every minute; once it is taken the others follow in order. Other topics go on.
    `start` before or after the session's; `stop` before the session's.
    """

    def __init__(
        self, outbox: Outbox, session: MqttClient, clock: Clock, *, refused_pause_s: float = _REFUSED_PAUSE_S
    ) -> None:
        self._outbox = outbox
        self._session = session
        self._clock = clock
        self._refused_pause_s = refused_pause_s
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._outcomes: deque[tuple[Stored, PublishOutcome, str]] = deque()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._handed = 0  # given to the session, outcome not known
        self._cursor = 0  # the last number given to the session
        self._acknowledged: list[int] = []
        self._connection: int | None = None
        self._rewind = False
        self._held: dict[str, _Refusal] = {}  # by topic; nothing of it is handed over but the one that is tried
        self._unread = False  # the disk failed, so that a page may have left out what waits there
        self._delivered = 0
        outbox.on_append(self._bell.set)
        session.add_listener(self)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """Stop handing over and write down what was acknowledged; False when that took too long."""
        if self._thread.ident is None:
            return True
        self._stopping.set()
        self._bell.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def delivered(self) -> int:
        """Acknowledgements since the start, repeats included."""
        return self._delivered

    @property
    def trouble(self) -> str | None:
        """Why the broker does not take events although it is connected, in one sentence."""
        sentences = [self._sentence(topic, refusal.reason) for topic, refusal in list(self._held.items())]
        if len(sentences) > 1:
            return f"{sentences[0]}; so it is with {len(sentences) - 1} more of its topics"
        return sentences[0] if sentences else None

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def connected(self) -> None:
        """The session's: there is a connection."""
        self._bell.set()

    def disconnected(self) -> None:
        """The session's: there is none."""
        self._bell.set()

    def tick(self) -> None:
        """The session's: nothing to do."""

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._bell.clear()
            self._settle()
            self._hand_over()
            self._outbox.maintain()
            self._unread = self._unread or not self._outbox.durable
            if not self._outcomes:
                self._bell.wait(_IDLE_S)
        self._settle()
        self._flush()

    def _settle(self) -> None:
        """Take note of how sendings ended."""
        while self._outcomes:
            row, outcome, reason = self._outcomes.popleft()
            self._handed -= 1
            if outcome is PublishOutcome.DELIVERED:
                self._acknowledged.append(row.seq)
                self._delivered += 1
                if row.topic in self._held and row.seq <= self._held[row.topic].seq:
                    self._release(row.topic)
            elif outcome is PublishOutcome.REFUSED:
                self._hold(row, reason)
            else:
                self._rewind = True
        if self._acknowledged and (len(self._acknowledged) >= _AHEAD // 2 or self._handed == 0):
            self._flush()

    def _flush(self) -> None:
        if self._acknowledged:
            self._outbox.acknowledge(self._acknowledged)
            self._acknowledged = []

    def _hand_over(self) -> None:
        """Give the session more, as long as it is the same connection and nothing has to be repeated first."""
        connection = self._session.connection
        if connection is None or not self._goes_on(connection):
            return
        room = _AHEAD - self._handed
        if room < _AHEAD // 4:
            return
        if not self._some_wait():
            if not self._handed:
                self._try_held(connection)
            return
        last_seq = self._outbox.last_seq
        rows = self._outbox.pending(self._cursor, room)
        for row in rows:
            if row.topic not in self._held and not self._send(row, connection):
                return
            self._cursor = row.seq
        if len(rows) < room:
            self._cursor = max(self._cursor, last_seq)  # the newest may be gone already
        elif not self._handed:
            self._bell.set()  # a page of nothing but held ones

    def _goes_on(self, connection: int) -> bool:
        """Begin again with the oldest where that is due; False while outcomes of what went before are on their way."""
        if connection != self._connection or self._rewind:
            if self._handed:
                return False
            self._flush()
            self._cursor, self._connection, self._rewind = 0, connection, False
        return True

    def _some_wait(self) -> bool:
        if self._outbox.last_seq > self._cursor:
            return True
        if self._handed or not self._outbox.depth or (self._held and not self._readable_again()):
            return False
        self._cursor = 0  # the broker has all that was handed over, yet some wait: the disk could not be read
        return True

    def _send(self, row: Stored, connection: int) -> bool:
        message = Message(
            row.topic, row.payload, qos=1, content_type=JSON, schema=EVENT_SCHEMA, on_outcome=self._answer(row)
        )
        handed = self._session.publish(message, connection=connection)
        self._handed += handed
        return handed

    def _answer(self, row: Stored) -> Callable[[PublishOutcome, str], None]:
        def note(outcome: PublishOutcome, reason: str) -> None:
            self._outcomes.append((row, outcome, reason))
            if not self._bell.is_set():
                self._bell.set()

        return note

    def _hold(self, row: Stored, reason: str) -> None:
        """Hand over nothing more of the row's topic until its oldest is taken."""
        held = self._held.get(row.topic)
        if held is None:
            log.warning(
                "%s; event %d and later ones of this topic wait and are tried again",
                self._sentence(row.topic, reason), row.seq,
            )  # fmt: skip
        retry_s = self._clock.monotonic() + self._refused_pause_s
        self._held[row.topic] = _Refusal(min(row.seq, held.seq) if held else row.seq, reason, retry_s)

    def _release(self, topic: str) -> None:
        """Begin again with the oldest that waits."""
        del self._held[topic]
        self._rewind = True
        self._bell.set()

    def _try_held(self, connection: int) -> None:
        """Hand over the oldest event of a topic whose pause is over; alone, as some brokers hang up with a refusal."""
        now_s = self._clock.monotonic()
        topic, held = min(self._held.items(), key=lambda item: item[1].retry_s, default=("", None))
        if held is None or now_s < held.retry_s:
            return
        page = self._outbox.pending(held.seq - 1, _AHEAD)
        oldest = next((row for row in page if row.topic == topic), None)
        if oldest is None:  # too old by now, or too many
            self._release(topic)
        elif self._send(oldest, connection):
            self._held[topic] = _Refusal(oldest.seq, held.reason, now_s + self._refused_pause_s)

    def _readable_again(self) -> bool:
        """Whether the disk has failed since all was read, and takes events now."""
        again = self._unread and self._outbox.durable
        self._unread = self._unread and not again
        return again

    def _sentence(self, topic: str, reason: str) -> str:
        return f"{self._session.endpoint}: the broker refuses events on {topic} ({reason}); check its ACL and quota"


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The oldest event of a topic that the broker does not take, why, and when it is tried again."""

    seq: int
    reason: str
    retry_s: float
