"""The publisher: one thread that moves the outbox to the broker, in order, and lets it forget what was acknowledged."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from edge_classifierd.mqtt.message import JSON, Message, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.mqtt.client import Session

log = logging.getLogger(__name__)

EVENT_SCHEMA = 1

_AHEAD = 200  # handed to the session, which keeps to the broker's receive maximum by itself
_IDLE_S = 1.0
_REFUSED_PAUSE_S = 60.0


class Publisher:
    """Delivers at least once: after each loss of the connection it goes on with the oldest unacknowledged event.

    A repeated event has the same bytes. An event that the broker refuses (ACL, quota) stays, with all after it, and is
    tried again every minute. `start` before or after the session's; `stop` before the session's.
    """

    def __init__(
        self, outbox: Outbox, session: Session, clock: Clock, *, refused_pause_s: float = _REFUSED_PAUSE_S
    ) -> None:
        self._outbox = outbox
        self._session = session
        self._clock = clock
        self._refused_pause_s = refused_pause_s
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._outcomes: deque[tuple[int, Outcome, str]] = deque()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._handed = 0  # given to the session, outcome not known
        self._cursor = 0  # the last number given to the session
        self._acknowledged: list[int] = []
        self._connection: int | None = None
        self._rewind = False
        self._paused_until_s = 0.0
        self._trouble: str | None = None
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
        return self._trouble

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
            if not self._outcomes:
                self._bell.wait(_IDLE_S)
        self._settle()
        self._flush()

    def _settle(self) -> None:
        """Take note of how sendings ended."""
        while self._outcomes:
            seq, outcome, reason = self._outcomes.popleft()
            self._handed -= 1
            if outcome is Outcome.DELIVERED:
                self._acknowledged.append(seq)
                self._delivered += 1
                self._trouble = self._trouble if self._rewind else None
            elif outcome is Outcome.REFUSED:
                self._rewind = True
                self._pause(seq, reason)
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
        if connection is None or self._clock.monotonic() < self._paused_until_s:
            return
        if connection != self._connection or self._rewind:
            if self._handed:
                return  # the rest of the old connection's outcomes is on its way
            self._flush()
            self._cursor, self._connection, self._rewind = 0, connection, False
        room = _AHEAD - self._handed
        if room < _AHEAD // 4:
            return
        if self._outbox.last_seq <= self._cursor:
            if self._handed or not self._outbox.depth:
                return
            self._cursor = 0  # the broker has all that was handed over, yet some wait: the disk could not be read
        for row in self._outbox.pending(self._cursor, room):
            message = Message(
                row.topic, row.payload, qos=1, content_type=JSON, schema=EVENT_SCHEMA, on_outcome=self._answer(row.seq)
            )
            if not self._session.publish(message, connection=connection):
                return
            self._cursor = row.seq
            self._handed += 1

    def _answer(self, seq: int) -> Callable[[Outcome, str], None]:
        def note(outcome: Outcome, reason: str) -> None:
            self._outcomes.append((seq, outcome, reason))
            if not self._bell.is_set():
                self._bell.set()

        return note

    def _pause(self, seq: int, reason: str) -> None:
        self._paused_until_s = self._clock.monotonic() + self._refused_pause_s
        sentence = f"{self._session.endpoint}: the broker refuses events ({reason}); check its ACL and quota"
        if self._trouble is None:
            log.warning("%s; event %d and later ones wait and are tried again", sentence, seq)
        self._trouble = sentence
