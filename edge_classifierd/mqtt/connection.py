"""One connection to the broker, from the TCP handshake to its end: paho driven by a single thread, used once.

paho keeps no state across connections this way: what a connection did not deliver is reported as lost, and its owner
sends it again in order. Clean start is right for the same reason: at-least-once is the outbox's work, and commands that
were sent while the device was away must not act an hour later.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from paho.mqtt import MQTTException
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_classifierd.mqtt import connection_errors
from edge_classifierd.mqtt.message import TEXT, Incoming, Message, PublishOutcome

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from edge_classifierd.clock import Clock

_CONNECT_TIMEOUT_S = 10.0
_TCP_USER_TIMEOUT_MS = 30_000
_IN_FLIGHT_311 = 100  # MQTT 3.1.1 has no receive maximum
_LARGEST_INCOMING = 256 * 1024
# What paho's decoders raise on bytes that are not MQTT.
_NONSENSE = (ValueError, LookupError, TypeError, struct.error, MQTTException)


@dataclass(frozen=True, slots=True)
class Options:
    """How to connect. `tls` is None for a plain connection.

    `will_topic` gets `offline`, retained, when we vanish; None when nobody is told of us.
    """

    endpoint: connection_errors.Endpoint
    password: str | None = field(repr=False)
    keepalive_s: int
    tls: ssl.SSLContext | None
    will_topic: str | None
    answer_timeout_s: float = 20.0
    """The connection is given up when an acknowledgement is due and nothing at all comes, or leaves, for so long."""


class Connection:
    """Used by one thread only. After `open`, call `step` until `failure` is set, then `close`."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._version5 = options.endpoint.protocol == "5"
        self._client = self._build()
        self._poll = select.poll()
        self._last_error: str | None = None
        self._refused_topic: str | None = None
        self._flying: dict[int, Message] = {}
        self._written: list[Message] = []
        self._outcomes: deque[tuple[Message, PublishOutcome, str]] = deque()
        self._subscriptions: dict[int, Sequence[str]] = {}
        self._heard_s = self._due_s = clock.monotonic()
        self._backlog = 0
        self._largest: int | None = None
        self._retain_available, self._highest_qos = True, 2
        self.established = False
        """Whether the broker has accepted the login."""
        self.failure: connection_errors.ConnectionFailure | None = None
        """Why the connection ended; None while it lasts."""
        self.quota = 0 if self._version5 else _IN_FLIGHT_311
        """How many QoS 1 messages may be without acknowledgement: the broker's receive maximum."""
        self.messages: deque[Incoming] = deque()
        """What came; the owner takes it."""
        self.refused_filters: deque[tuple[str, str]] = deque()
        """(filter, reason) of subscriptions that the broker refused; the owner takes them."""

    def open(self) -> None:
        """Connect and send the login; blocks for the name look-up and the handshakes. Sets `failure` when it fails."""
        endpoint = self._options.endpoint
        properties = None
        if self._version5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = _LARGEST_INCOMING
        try:
            self._client.connect(
                endpoint.host,
                endpoint.port,
                self._options.keepalive_s,
                clean_start=True if self._version5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
                properties=properties,
            )
        except (OSError, ValueError) as error:
            self._fail(connection_errors.of_exception(error, endpoint))
        self._heard_s = self._due_s = self._clock.monotonic()

    @property
    def in_flight(self) -> int:
        """QoS 1 messages without acknowledgement."""
        return len(self._flying)

    @property
    def writable(self) -> bool:
        """Whether the socket has taken all so far: sending more now does not pile up in memory."""
        return not self._client.want_write()

    def send(self, message: Message) -> None:
        """Give a message to paho; its outcome comes with a later `report`."""
        if self._largest is not None and len(message.payload) + len(message.topic) + 256 > self._largest:
            self._outcomes.append((message, PublishOutcome.REFUSED, "larger than the broker's maximum packet size"))
            return
        qos = min(message.qos, self._highest_qos)
        retain = message.retain and self._retain_available
        properties = None
        if self._version5:
            properties = _properties(message.content_type, message.expiry_s, message.schema)
        if not self._flying:
            self._due_s = self._clock.monotonic()
        info = self._client.publish(message.topic, message.payload, qos, retain, properties)
        if qos:
            self._flying[info.mid] = message
        else:
            self._written.append(message)

    def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for messages, QoS 1."""
        _, mid = self._client.subscribe([(one, 1) for one in filters])
        if mid is not None:
            self._subscriptions[mid] = filters

    def step(self, timeout_s: float, wake: socket.socket) -> None:
        """Wait for the network, a byte on `wake` or the timeout; read, write and keep alive once. May set `failure`."""
        sock = self._client.socket()
        if sock is None or self.failure is not None:
            self._fail_lost()
            return
        descriptor, waker = sock.fileno(), wake.fileno()
        self._poll.register(descriptor, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        self._poll.register(waker, select.POLLIN)
        pending = isinstance(sock, socket.socket) and getattr(sock, "pending", int)() > 0  # decrypted, not read yet
        ready = dict(self._poll.poll(0 if pending else timeout_s * 1000))
        self._poll.unregister(descriptor)
        if waker in ready:
            with contextlib.suppress(BlockingIOError):
                wake.recv(4096)
        try:
            self._drive(readable=pending or bool(ready.get(descriptor, 0) & ~select.POLLOUT))
        except _NONSENSE as error:
            self._fail(connection_errors.of_nonsense(error, self._options.endpoint))
        self._watch_silence()

    def report(self) -> None:
        """Tell the senders what became of their messages."""
        if self._written and self.writable:
            self._outcomes.extend((message, PublishOutcome.DELIVERED, "") for message in self._written)
            self._written.clear()
        while self._outcomes:
            message, outcome, reason = self._outcomes.popleft()
            if message.on_outcome is not None:
                message.on_outcome(outcome, reason)

    def disconnect(self) -> None:
        """Say goodbye, so that the broker does not publish the last will."""
        self._client.disconnect()
        with contextlib.suppress(OSError, ValueError):
            self._client.loop_write()

    def close(self, unsent: Sequence[Message] = ()) -> None:
        """Drop the socket; what was in flight, and `unsent`, is reported as lost."""
        sock = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()
        lost = [*self._flying.values(), *self._written, *unsent]
        self._flying.clear()
        self._written.clear()
        self._outcomes.extend((message, PublishOutcome.LOST, "the connection ended") for message in lost)
        self.report()

    def _build(self) -> paho.Client:
        endpoint = self._options.endpoint
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            clean_session=None if self._version5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if self._version5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(0)  # none of paho's queueing: the quota is kept here
        if self._options.will_topic is not None:
            client.will_set(self._options.will_topic, b"offline", qos=1, retain=True)
        if endpoint.username is not None:
            client.username_pw_set(endpoint.username, self._options.password)
        if self._options.tls is not None:
            client.tls_set_context(self._options.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_log = self._on_log
        return client

    def _drive(self, *, readable: bool) -> None:
        result = self._client.loop_read() if readable else MQTTErrorCode.MQTT_ERR_SUCCESS
        if readable:
            self._heard_s = self._clock.monotonic()
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS and self._client.want_write():
            result = self._client.loop_write()
        if result == MQTTErrorCode.MQTT_ERR_SUCCESS:
            result = self._client.loop_misc()
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._fail_lost()

    def _watch_silence(self) -> None:
        now_s, limit_s = self._clock.monotonic(), self._options.answer_timeout_s
        silent_s = now_s - max(self._heard_s, self._due_s)
        if self._flying and silent_s > limit_s / 4 and self._backlog_shrinks():
            self._due_s = now_s  # on a slow link what is to be answered has not even left
        elif (self._flying or not self.established) and silent_s > limit_s:
            before = not self.established
            self._fail(connection_errors.of_silence(self._options.endpoint, limit_s, before_answer=before))

    def _backlog_shrinks(self) -> bool:
        """Whether the other end takes what waits in the kernel, and some of it waits still."""
        sock = self._client.socket()
        before, self._backlog = self._backlog, 0
        if sock is not None:
            with contextlib.suppress(OSError):
                (self._backlog,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
        return 0 < self._backlog < before

    def _fail_lost(self) -> None:
        endpoint, before = self._options.endpoint, not self.established
        error, refused = self._last_error, self._refused_topic
        self._fail(connection_errors.of_loss(endpoint, error, before_answer=before, refused=refused))

    def _fail(self, failure: connection_errors.ConnectionFailure) -> None:
        if self.failure is None:  # the first cause is the one that explains
            self.failure = failure

    # paho's callbacks: they only note what happened.

    def _on_connect(
        self, _client: object, _userdata: object, _flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._fail(connection_errors.of_refusal(reason, self._options.endpoint))
            return
        self.established = True
        if self._version5:
            self.quota = getattr(properties, "ReceiveMaximum", 65535)
            self._largest = getattr(properties, "MaximumPacketSize", None)
            self._retain_available = bool(getattr(properties, "RetainAvailable", 1))
            self._highest_qos = getattr(properties, "MaximumQoS", 2)

    def _on_disconnect(
        self, _client: object, _userdata: object, flags: paho.DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._fail(connection_errors.of_disconnect(reason, self._options.endpoint))

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        self.messages.append(Incoming(message.topic, bytes(message.payload), message.retain))

    def _on_publish(self, _client: object, _userdata: object, mid: int, reason: ReasonCode, _props: object) -> None:
        message = self._flying.pop(mid, None)
        if message is not None:
            refused = reason.is_failure
            outcome = PublishOutcome.REFUSED if refused else PublishOutcome.DELIVERED
            self._refused_topic = message.topic if refused else self._refused_topic
            self._outcomes.append((message, outcome, str(reason.getName()).lower() if refused else ""))

    def _on_subscribe(
        self, _client: object, _userdata: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        for one, reason in zip(self._subscriptions.pop(mid, ()), reasons, strict=False):
            if reason.is_failure:
                self.refused_filters.append((one, str(reason.getName()).lower()))

    def _on_socket_open(self, _client: object, _userdata: object, sock: paho.SocketLike) -> None:
        if not isinstance(sock, socket.socket):
            return
        with contextlib.suppress(OSError):  # absent on some kernels; a slower connection is one still
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)

    def _on_log(self, _client: object, _userdata: object, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._last_error = text


@lru_cache(maxsize=64)
def _properties(content_type: str | None, expiry_s: int | None, schema: int | None) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if content_type is not None:
        properties.ContentType = content_type
    if content_type is not None and (content_type == TEXT or content_type.endswith("json")):
        properties.PayloadFormatIndicator = 1
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    if schema is not None:
        properties.UserProperty = ("schema", str(schema))
    return properties
