"""The client: one thread that connects to the broker, keeps the connection and reconnects."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING

from paho.mqtt.client import topic_matches_sub

from edge_classifierd.backoff import Backoff
from edge_classifierd.health.metrics import Reason
from edge_classifierd.mqtt import connection_errors
from edge_classifierd.mqtt.broker_choice import BrokerChoice
from edge_classifierd.mqtt.connection import Connection
from edge_classifierd.mqtt.connection_history import ConnectionHistory
from edge_classifierd.mqtt.message import TEXT, Incoming, Listener, Message, PublishOutcome
from edge_classifierd.mqtt.paho_client import make_options
from edge_classifierd.mqtt.refusals import Refusals
from edge_classifierd.mqtt.send_queue import SendQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.mqtt import MqttSection
    from edge_classifierd.mqtt.published_topics import PublishedTopics
    from edge_classifierd.mqtt.topics import Topics

log = logging.getLogger(__name__)
ONLINE, OFFLINE = b"online", b"offline"

_TICK_S = 0.25
_SOON_S = 3.0  # a connection that ends so soon after its login counts as dropped
_CAREFUL_S = 10.0  # one message at a time for so long after the broker has closed a connection
_MANY_DROPS, _OFFLINE_RESERVE_S = 3, 0.6


class MqttClient:
    """Connects in the background and reconnects; `start` never waits for the broker.

    Publishes `online` on `topics.status` with every connection; the last will publishes `offline`. Messages are
    accepted only while connected and are dropped with the connection: the outbox and the retained topics send them
    again. Any thread may call the methods.
    """

    def __init__(
        self,
        section: MqttSection,
        *,
        topics: Topics,
        clock: Clock,
        backoff: Backoff | None = None,
        answer_timeout_s: float = 10.0,
        announce: bool = True,
        published: PublishedTopics | None = None,
    ) -> None:
        """Prepare a client.

        Args:
            section: The configuration.
            topics: The device's topics.
            clock: Clock for all waits.
            backoff: Waits between attempts.
            answer_timeout_s: Time without an answer after which the connection is given up.
            announce: False for programs that are not the daemon: no `online`, no `offline`, no last will.
            published: Records the topics of retained messages.
        """
        self._section = section
        self._topics = topics
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._answer_timeout_s = answer_timeout_s
        self._announcing = announce
        self._published = published
        self._choice = BrokerChoice(section, topics.device)
        self.refusals = Refusals(clock)
        """Topics that the broker refuses."""
        self.local_address: str | None = None
        """This machine's address on the last connection."""
        self._history = ConnectionHistory(clock)
        self._queue = SendQueue(self.refusals, clock)
        self._listeners: list[Listener] = []
        self._handlers: dict[str, Callable[[Incoming], None]] = {}
        self._not_local: list[str] = []
        self._lock = threading.Lock()  # for the connection's number and the filters
        self._new_filters: list[str] = []
        self._current: int | None = None
        self._connections = 0
        self._woken = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.settimeout(0)
        self._wake_write.settimeout(0)
        self._stopping = threading.Event()
        self._stop_at_s = self._next_tick_s = 0.0
        self._status = "not started"
        self._culprit_found = False
        self.loss_explained = False
        """Why the broker ended the connection; a listener may set it in `disconnected`, on the network thread."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the network thread, which connects."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Send what was accepted, publish `offline` and disconnect, for good. False if `timeout_s` was too short."""
        self._stop_at_s = self._clock.monotonic() + timeout_s
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(timeout_s + 0.1)
            if self._thread.is_alive():
                return False
        self._wake_read.close()
        self._wake_write.close()
        return True

    def publish(self, message: Message, *, connection: int | None = None) -> bool:
        """Queue a message; False if there is no connection, not the one with the number `connection`, or no room."""
        with self._lock:
            if self._current is None or connection not in {None, self._current} or not self._queue.push(message):
                return False
        self._wake()
        return True

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None], *, not_local: bool = False) -> None:
        """Subscribe, now and after every reconnection.

        Args:
            topic_filter: The topic filter.
            handler: Called on the network thread with each message; it must not block and must validate the payload.
            not_local: Do not receive this client's own messages (MQTT 5 only).
        """
        with self._lock:
            self._handlers = {**self._handlers, topic_filter: handler}
            self._new_filters.append(topic_filter)
            if not_local:
                self._not_local = [*self._not_local, topic_filter]
        self._wake()

    def add_listener(self, listener: Listener) -> None:
        """Add a listener; call before `start`."""
        self._listeners.append(listener)

    @property
    def endpoint(self) -> connection_errors.Endpoint:
        """The broker of the connection, or of the last attempt."""
        return self._choice.endpoint

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._current is not None

    @property
    def connection(self) -> int | None:
        """The number of the current connection, counted from 1, for `publish`; None without a connection."""
        return self._current

    @property
    def connections(self) -> int:
        """Number of connections since the start."""
        return self._connections

    @property
    def status_sentence(self) -> str:
        """`connected to …`, `connecting to …`, or `reconnecting: ` and the reason."""
        return self._status

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Trouble with the broker, for health."""
        refused = self.refusals.sentences
        more = f" ({len(refused) - 1} more topics are refused)" if len(refused) > 1 else ""
        found = [Reason("broker.refused", refused[0] + more)] if refused else []
        return (*self._history.reasons, *found)

    @property
    def alive(self) -> bool:
        """Whether the network thread runs; False after `start` means a bug, whose traceback was logged."""
        return self._thread is not None and self._thread.is_alive()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):
                self._wake_write.send(b"\0")

    # The methods below run on the network thread.

    def _run(self) -> None:
        dropped = 0
        self._status = f"connecting to {self.endpoint}"
        while not self._stopping.is_set():
            failure = self._choice.advance()
            lasted_s = None
            if failure is None:
                failure, lasted_s = self._connect_and_serve()
            if failure is not None and lasted_s is None:
                failure = self._choice.failed(failure)
            if failure is None:
                continue
            if lasted_s is not None:
                known = self._culprit_found or self.loss_explained
                dropped = 1 if known else dropped + 1 if lasted_s < _SOON_S else 0
                self._choice.lost(failure, lasted_s)
                if dropped >= _MANY_DROPS and failure.unexplained:
                    failure = connection_errors.of_repeated_drops(self.endpoint)
            self._status = f"reconnecting: {failure.sentence}"
            explained = lasted_s is not None and self._culprit_found
            self._history.failed(failure, was_connected=lasted_s is not None, explained=explained)
            self._stopping.wait(self._wait_s(failure, max(dropped, self._choice.silences)))
        self._status = "stopped"

    def _wait_s(self, failure: connection_errors.ConnectionFailure, dropped: int) -> float:
        """Return the wait before the next attempt; none while there are addresses that were not tried."""
        if not self._choice.round_complete and not dropped:
            return 0.0
        if failure.permanent:
            return self._backoff.refused_s()
        return self._backoff.delay_s(max(self._choice.failed_rounds, min(dropped - 1, 5)))

    def _connect_and_serve(self) -> tuple[connection_errors.ConnectionFailure | None, float | None]:
        """Use one connection until it ends."""
        try:
            options = make_options(
                self._section,
                self.endpoint,
                will_topic=self._topics.status if self._announcing else None,
                answer_timeout_s=self._answer_timeout_s * self._choice.patience,
                login_timeout_s=min(2 * self._answer_timeout_s, self._choice.login_timeout_s),
            )
        except OSError as error:
            return connection_errors.of_credentials(error, error.filename or "mqtt.tls"), None
        connection = Connection(options, self._clock)
        since_s, self.loss_explained = None, False
        try:
            connection.open()
            while connection.failure is None and not self._stopping.is_set():
                connection.step(_TICK_S, self._wake_read)
                self._woken = False
                if connection.established and connection.failure is None:
                    if since_s is None:
                        since_s = self._clock.monotonic()
                        self._announce(connection)
                    else:
                        self._note_age(self._clock.monotonic() - since_s)
                    self._serve(connection)
                self._report(connection)
            if connection.failure is None and since_s is not None:
                self._finish(connection)
        finally:
            self._close(connection, was_announced=since_s is not None)
        self._culprit_found = since_s is not None and self._queue.record_end(connection, self.endpoint)
        return connection.failure, None if since_s is None else self._clock.monotonic() - since_s

    def _note_age(self, age_s: float) -> None:
        """Return to normal once a connection has lasted."""
        if age_s > _SOON_S:
            self._history.stable()
        if age_s > _CAREFUL_S:
            self._queue.careful = False

    def _announce(self, connection: Connection) -> None:
        """Subscribe and publish `online`, in this order: commands to a device that is online must be received."""
        self.local_address = connection.local_address
        self._choice.connected()
        with self._lock:
            filters, self._new_filters = list(self._handlers), []
        self._queue.subscribe(connection, filters, self._not_local)
        if self._announcing:
            self._queue.push(self._status_message(ONLINE))
        with self._lock:
            self._connections += 1
            self._current = self._connections
        self._status = f"connected to {self.endpoint}"
        self._history.connected()
        protocol, client_id = self.endpoint.protocol, self.endpoint.client_id
        log.info("%s: connected (MQTT %s, client id %s)", self.endpoint, protocol, client_id)
        for listener in self._listeners:
            listener.connected()

    def _status_message(self, payload: bytes) -> Message:
        return Message(self._topics.status, payload, qos=1, retain=True, content_type=TEXT)

    def _serve(self, connection: Connection) -> None:
        """Subscribe, pass received messages to their handlers, and send."""
        with self._lock:
            filters, self._new_filters = self._new_filters, []
        if filters:
            self._queue.subscribe(connection, filters, self._not_local)
        while connection.messages:
            incoming = connection.messages.popleft()
            for topic_filter, handler in self._handlers.items():
                if topic_matches_sub(topic_filter, incoming.topic):
                    handler(incoming)
        if self._clock.monotonic() >= self._next_tick_s:
            self._next_tick_s = self._clock.monotonic() + _TICK_S
            for listener in self._listeners:
                listener.tick()
        self._queue.send(connection, self._not_local)

    def _report(self, connection: Connection) -> None:
        """Record the broker's answers and report the outcomes of messages to their senders."""
        if connection.refused_in_group:
            self._queue.subscribe_alone(connection.refused_in_group)
            connection.refused_in_group = []
        while connection.subscribed:
            topic_filter, reason = connection.subscribed.popleft()
            self._queue.record_subscription(topic_filter, reason, self.endpoint)
        for message, outcome, reason in connection.take_outcomes():
            self._queue.record_outcome(message, outcome, reason, self.endpoint)
            if self._published is not None and message.retain and outcome is not PublishOutcome.REFUSED:
                self._published.record(message.topic, empty=not message.payload, outcome=outcome)
            if message.on_outcome is not None:
                message.on_outcome(outcome, reason)

    def _finish(self, connection: Connection) -> None:
        """Send the rest of the queue, then `offline`, then disconnect, until `_stop_at_s`."""
        with self._lock:
            self._current = None  # no new messages
        offline_sent = False
        while connection.failure is None and self._clock.monotonic() < self._stop_at_s:
            self._queue.send(connection, self._not_local)
            late = self._clock.monotonic() > self._stop_at_s - _OFFLINE_RESERVE_S
            urgent = late and connection.in_flight < connection.quota
            if not offline_sent and (urgent or (self._queue.empty and not connection.in_flight)):
                if self._announcing:
                    connection.send(self._status_message(OFFLINE))
                offline_sent = True
            elif offline_sent and connection.in_flight == 0:
                break
            connection.step(0.02, self._wake_read)
            self._woken = False
            self._report(connection)
        if offline_sent and connection.in_flight == 0:
            connection.disconnect()  # otherwise the last will publishes `offline`

    def _close(self, connection: Connection, *, was_announced: bool) -> None:
        with self._lock:
            self._current = None
        connection.close(self._queue.clear())
        self._report(connection)
        if was_announced:
            for listener in self._listeners:
                listener.disconnected()
