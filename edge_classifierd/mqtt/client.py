"""The session with the broker: one thread that connects, keeps the connection, and comes back calmly."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import socket
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from paho.mqtt.client import topic_matches_sub

from edge_classifierd.backoff import Backoff
from edge_classifierd.mqtt import connection_errors
from edge_classifierd.mqtt.connection import Connection, Options
from edge_classifierd.mqtt.message import TEXT, Incoming, Message
from edge_classifierd.mqtt.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.mqtt import MqttSection
    from edge_classifierd.mqtt.topics import Topics

log = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"

_TICK_S = 0.25
_QUEUED_MESSAGES = 2000
_QUEUED_BYTES = 8_000_000
_SOON_S = 3.0  # a connection that ends so soon after its login counts as dropped
_DROPS = 3
_GOODBYE_S = 0.6
_MACHINE_ID = Path("/etc/machine-id")


class Listener(Protocol):
    """Hears of the connection, on the network thread: it may publish and enqueue, never wait."""

    def connected(self) -> None:
        """A connection stands, `status` was published; what the broker may have lost is to be said again."""

    def disconnected(self) -> None:
        """The connection is gone; nothing more was delivered than was reported."""

    def tick(self) -> None:
        """Called a few times a second while connected."""


class MqttClient:
    """Connects in the background and stays: `start` never waits for the broker.

    It announces `online` on `topics.status` with every connection and leaves `offline` as its last will. Messages are
    taken only while connected and die with the connection: the outbox and the retained states send them again. Methods
    may be called from any thread.
    """

    def __init__(
        self,
        section: MqttSection,
        *,
        topics: Topics,
        clock: Clock,
        backoff: Backoff | None = None,
        answer_timeout_s: float = 20.0,
        announce: bool = True,
    ) -> None:
        """`announce` False is for those who only listen: no `online`, no `offline`, no last will."""
        self._section = section
        self._topics = topics
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._answer_timeout_s = answer_timeout_s
        self._announcing = announce
        self.endpoint = connection_errors.Endpoint(
            host=section.host,
            port=section.port,
            tls=section.tls is not None,
            username=section.username,
            client_id=section.client_id or default_client_id(topics.device),
            protocol=str(section.protocol),
        )
        self._listeners: list[Listener] = []
        self._handlers: dict[str, Callable[[Incoming], None]] = {}
        self._lock = threading.Lock()  # over the four below
        self._outgoing: deque[Message] = deque()
        self._queued_bytes = 0
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
        self._careful = False  # one message at a time, because connections end soon
        self._told: set[str] = set()  # the sentences of this cycle that were said aloud
        self._refused_filters: set[str] = set()  # said aloud once for all connections
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to connect, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Send what was taken, publish `offline`, disconnect; False when that was not done in time. For good."""
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
        """Take a message for sending, in order; False when there is no connection (or not that one), or no room."""
        with self._lock:
            if self._current is None or connection not in {None, self._current}:
                return False
            if len(self._outgoing) >= _QUEUED_MESSAGES or self._queued_bytes > _QUEUED_BYTES:
                return False
            self._outgoing.append(message)
            self._queued_bytes += len(message.payload)
        self._wake()
        return True

    def subscribe(self, topic_filter: str, handler: Callable[[Incoming], None]) -> None:
        """Have `handler` called on the network thread with what comes, now and after every reconnection.

        It may only enqueue. It must judge the payload itself: size, content, and whether it is `retained`.
        """
        with self._lock:
            self._handlers = {**self._handlers, topic_filter: handler}
            self._new_filters.append(topic_filter)
        self._wake()

    def add_listener(self, listener: Listener) -> None:
        """Before `start`: have `listener` hear of connections."""
        self._listeners.append(listener)

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._current is not None

    @property
    def connection(self) -> int | None:
        """The number of the present connection, counted from 1, for `publish`; None when there is none."""
        return self._current

    @property
    def connections(self) -> int:
        """How many connections there were."""
        return self._connections

    @property
    def status_sentence(self) -> str:
        """`connected to …`, `connecting to …`, or `reconnecting: ` and why."""
        return self._status

    @property
    def alive(self) -> bool:
        """Whether the network thread runs; False after `start` means that a bug killed it (its traceback is logged)."""
        return self._thread is not None and self._thread.is_alive()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):
                self._wake_write.send(b"\0")

    # Below: the network thread

    def _run(self) -> None:
        failed = dropped = 0
        while not self._stopping.is_set():
            self._status = self._status if failed else f"connecting to {self.endpoint}"
            failure, lasted_s = self._connect_and_serve()
            if self._stopping.is_set() or failure is None:
                break
            if lasted_s is None:
                failed += 1
            else:
                failed = 0
                if lasted_s >= _SOON_S:
                    self._told.clear()
                dropped = dropped + 1 if lasted_s < _SOON_S else 0
                self._careful = dropped >= _DROPS - 1
            if dropped >= _DROPS and failure.wordless:
                failure = connection_errors.of_repeated_drops(self.endpoint)
            self._tell(failure)
            wait_s = self._backoff.delay_s(max(failed, min(dropped - 1, 5)))
            self._stopping.wait(self._backoff.refused_s() if failure.permanent else wait_s)
        self._status = "stopped"

    def _connect_and_serve(self) -> tuple[connection_errors.ConnectionFailure | None, float | None]:
        """One connection: why it ended, and how long it lasted after the login (None: there was none)."""
        try:
            tls = tls_context(self._section.tls) if self._section.tls is not None else None
        except OSError as error:
            return connection_errors.of_credentials(error, error.filename or "mqtt.tls"), None
        secret = self._section.password
        connection = Connection(
            Options(
                self.endpoint,
                secret.get_secret_value() if secret is not None else None,
                max(1, round(self._section.keepalive)),
                tls,
                self._topics.status if self._announcing else None,
                self._answer_timeout_s,
            ),
            self._clock,
        )
        since_s = None
        try:
            connection.open()
            while connection.failure is None and not self._stopping.is_set():
                connection.step(_TICK_S, self._wake_read)
                self._woken = False
                if connection.established and connection.failure is None:
                    if since_s is None:
                        since_s = self._clock.monotonic()
                        self._announce(connection)
                    elif self._careful and self._clock.monotonic() - since_s > _SOON_S:
                        self._careful = False
                    self._attend(connection)
                connection.report()
            if connection.failure is None and since_s is not None:
                self._say_goodbye(connection)
        finally:
            self._leave(connection, was_announced=since_s is not None)
        return connection.failure, None if since_s is None else self._clock.monotonic() - since_s

    def _announce(self, connection: Connection) -> None:
        with self._lock:
            filters, self._new_filters = list(self._handlers), []
        if filters:  # before `online` is said: who commands a device that is online must be heard
            connection.subscribe(filters)
        if self._announcing:
            connection.send(Message(self._topics.status, ONLINE, qos=1, retain=True, content_type=TEXT))
        with self._lock:
            self._connections += 1
            self._current = self._connections
        self._status = f"connected to {self.endpoint}"
        protocol, client_id = self.endpoint.protocol, self.endpoint.client_id
        log.info("%s: connected (MQTT %s, client id %s)", self.endpoint, protocol, client_id)
        for listener in self._listeners:
            listener.connected()

    def _attend(self, connection: Connection) -> None:
        """Whatever is due: subscriptions, what came, what is to be sent."""
        with self._lock:
            filters, self._new_filters = self._new_filters, []
        if filters:
            connection.subscribe(filters)
        while connection.refused_filters:
            topic_filter, reason = connection.refused_filters.popleft()
            level = logging.DEBUG if topic_filter in self._refused_filters else logging.WARNING
            self._refused_filters.add(topic_filter)
            log.log(level, "%s: subscribing to %s is refused (%s); check the ACL", self.endpoint, topic_filter, reason)
        while connection.messages:
            incoming = connection.messages.popleft()
            for topic_filter, handler in self._handlers.items():
                if topic_matches_sub(topic_filter, incoming.topic):
                    handler(incoming)
        if self._clock.monotonic() >= self._next_tick_s:
            self._next_tick_s = self._clock.monotonic() + _TICK_S
            for listener in self._listeners:
                listener.tick()
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        # A broker that hangs up over a message says so just before; sending more at once would lose its word.
        quota = 1 if self._careful else connection.quota
        while connection.writable:
            with self._lock:
                if not self._outgoing or (self._outgoing[0].qos and connection.in_flight >= quota):
                    return
                message = self._outgoing.popleft()
                self._queued_bytes -= len(message.payload)
            connection.send(message)

    def _say_goodbye(self, connection: Connection) -> None:
        with self._lock:
            self._current = None  # nothing new is taken
        offline = Message(self._topics.status, OFFLINE, qos=1, retain=True, content_type=TEXT)
        said = False
        while connection.failure is None and self._clock.monotonic() < self._stop_at_s:
            self._send(connection)
            hurry = self._clock.monotonic() > self._stop_at_s - _GOODBYE_S and connection.in_flight < connection.quota
            if not said and (hurry or not (self._outgoing or connection.in_flight)):
                if self._announcing:
                    connection.send(offline)
                said = True
            elif said and connection.in_flight == 0:
                break
            connection.step(0.02, self._wake_read)
            self._woken = False
            connection.report()
        if said and connection.in_flight == 0:
            connection.disconnect()  # otherwise the last will says it

    def _leave(self, connection: Connection, *, was_announced: bool) -> None:
        with self._lock:
            self._current = None
            unsent = list(self._outgoing)
            self._outgoing.clear()
            self._queued_bytes = 0
        connection.close(unsent)
        if was_announced:
            for listener in self._listeners:
                listener.disconnected()

    def _tell(self, failure: connection_errors.ConnectionFailure) -> None:
        self._status = f"reconnecting: {failure.sentence}"
        if failure.sentence in self._told:
            log.debug("%s", failure.sentence)
        else:
            self._told.add(failure.sentence)
            log.warning("%s", failure.sentence)


def default_client_id(device: str) -> str:
    """`edge-classifierd-<device>-<8 hex>`, unique to the machine: two devices with one id throw each other out."""
    try:
        identity = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        identity = ""
    # The machine id itself is confidential, see machine-id(5).
    digest = hashlib.sha256(f"edge-classifierd:{identity or socket.gethostname()}".encode()).hexdigest()
    return f"edge-classifierd-{device}-{digest[:8]}"
