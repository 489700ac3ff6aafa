"""One connection to the broker, from the TCP handshake to its end: a paho client that is used once, by one thread.

paho keeps no state across connections: messages that a connection did not deliver are reported as lost, and the sender
sends them again in order. Clean start is used for the same reason: the outbox provides at-least-once delivery, and
commands that were sent while the device was away must not be executed an hour later.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paho.mqtt import MQTTException
from paho.mqtt import client as paho
from paho.mqtt.enums import LogLevel, MQTTErrorCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_classifierd.mqtt import connection_errors
from edge_classifierd.mqtt.message import Incoming, Message, PublishOutcome
from edge_classifierd.mqtt.paho_client import PacketTooLargeError, connect, new_client, publish_properties, tcp_socket
from edge_classifierd.mqtt.refusals import TOO_LARGE

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from edge_classifierd.clock import Clock
    from edge_classifierd.mqtt.paho_client import ConnectionOptions

_TCP_USER_TIMEOUT_MS = 30_000
_IN_FLIGHT_311 = 100  # MQTT 3.1.1 has no receive maximum
_PROPERTIES_BYTES = 256  # at most, of a PUBLISH
_MAX_UNPROVEN = 200  # more are in flight only with many small messages
# Raised by paho's decoders for bytes that are not MQTT.
_DECODE_ERRORS = (ValueError, LookupError, TypeError, struct.error, MQTTException)


@dataclass(frozen=True, slots=True)
class Subscription:
    """Topic filters of one SUBSCRIBE."""

    filters: tuple[str, ...]


class Connection:
    """Used by one thread only. After `open`, call `step` until `failure` is set, then `close`."""

    def __init__(self, options: ConnectionOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._version5 = options.endpoint.protocol == "5"
        self._client = new_client(options)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_socket_open = self._on_socket_open
        self._client.on_log = self._on_log
        self._poll = select.poll()
        self._last_error: str | None = None
        self._flying: dict[int, Message] = {}
        self._written: list[Message] = []
        self._outcomes: list[tuple[Message, PublishOutcome, str]] = []
        self._subscriptions: dict[int, Subscription] = {}
        self._heard_s = self._due_s = clock.monotonic()
        self._backlog = 0
        self._max_packet_bytes: int | None = None
        self._retain_available, self._highest_qos = True, 2
        self.established = False
        """Whether the broker has accepted the login."""
        self.failure: connection_errors.ConnectionFailure | None = None
        """Why the connection ended; None while it lasts."""
        self.quota = 0 if self._version5 else _IN_FLIGHT_311
        """Maximum number of unacknowledged QoS 1 messages: the broker's receive maximum."""
        self.messages: deque[Incoming] = deque()
        """Received messages; the owner removes them."""
        self.subscribed: deque[tuple[str, str | None]] = deque()
        """(filter, reason) of answered subscriptions; the reason is None if it was accepted. The owner removes them."""
        self.refused_in_group: list[str] = []
        """Filters refused in one SUBSCRIBE with others. Some brokers refuse all after the first refused one."""
        self.unproven: list[Message | Subscription] = []
        """What was sent, in order, and may not be processed yet; an answer proves all earlier ones, also with QoS 0."""
        self.sent_s = float("-inf")
        """Time of the last message or subscription sent."""
        self.refused: tuple[float, Message | Subscription] | None = None
        """What the broker last refused with a reason code, and when."""
        self.acknowledged: tuple[float, Message] | None = None
        """The last message that the broker acknowledged, and when."""

    def open(self) -> None:
        """Connect and send the login; blocks during the handshakes. Sets `failure` if it fails."""
        try:
            connect(self._client, self._options)
        except (OSError, ValueError) as error:
            self._fail(connection_errors.of_exception(error, self._options.endpoint))
        self._heard_s = self._due_s = self._clock.monotonic()

    @property
    def in_flight(self) -> int:
        """Number of unacknowledged QoS 1 messages."""
        return len(self._flying)

    @property
    def awaiting_answer(self) -> bool:
        """Whether any message or subscription is unanswered."""
        return bool(self._flying or self._subscriptions)

    @property
    def local_address(self) -> str | None:
        """This machine's address on the connection."""
        sock = self._client.socket()
        try:
            return None if sock is None else str(tcp_socket(sock).getsockname()[0])
        except OSError:
            return None

    @property
    def writable(self) -> bool:
        """Whether the socket has accepted all data so far; sending more then does not fill the memory."""
        return not self._client.want_write()

    def send(self, message: Message) -> None:
        """Send a message; `take_outcomes` returns its outcome later."""
        limit = self._max_packet_bytes
        if limit is not None and len(message.payload) + len(message.topic) + _PROPERTIES_BYTES > limit:
            self._outcomes.append((message, PublishOutcome.REFUSED, TOO_LARGE))
            return
        qos = min(message.qos, self._highest_qos)
        retain = message.retain and self._retain_available
        properties = None
        if self._version5:
            properties = publish_properties(message.content_type, message.expiry_s, message.schema)
        if not self._flying:
            self._due_s = self._clock.monotonic()
        info = self._client.publish(message.topic, message.payload, qos, retain, properties)
        self.sent_s = self._clock.monotonic()
        self.unproven = [*self.unproven[-_MAX_UNPROVEN:], message]
        if qos:
            self._flying[info.mid] = message
        else:
            self._written.append(message)

    def subscribe(self, filters: Sequence[str], not_local: Container[str] = ()) -> None:
        """Subscribe with QoS 1; MQTT 5 brokers return no message of this client for filters in `not_local`."""
        if self._version5:
            options = [(one, SubscribeOptions(qos=1, noLocal=one in not_local)) for one in filters]
            _, mid = self._client.subscribe(options)
        else:
            _, mid = self._client.subscribe([(one, 1) for one in filters])
        if mid is not None:
            self._subscriptions[mid] = Subscription(tuple(filters))
            self.unproven.append(self._subscriptions[mid])
            self.sent_s = self._clock.monotonic()

    def step(self, timeout_s: float, wake: socket.socket) -> None:
        """Wait for the network, a byte on `wake` or the timeout, then read, write and ping. May set `failure`."""
        sock = self._client.socket()
        if sock is None or self.failure is not None:
            self._fail_lost()
            return
        descriptor, waker = sock.fileno(), wake.fileno()
        self._poll.register(descriptor, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        self._poll.register(waker, select.POLLIN)
        pending = getattr(sock, "pending", int)() > 0  # decrypted or unpacked, not read yet
        ready = dict(self._poll.poll(0 if pending else timeout_s * 1000))
        self._poll.unregister(descriptor)
        if waker in ready:
            with contextlib.suppress(BlockingIOError):
                wake.recv(4096)
        try:
            self._drive(readable=pending or bool(ready.get(descriptor, 0) & ~select.POLLOUT))
        except PacketTooLargeError as error:
            self._fail(connection_errors.of_too_large(error, self._options.endpoint))
        except _DECODE_ERRORS as error:
            before = not self.established
            self._fail(connection_errors.of_nonsense(error, self._options.endpoint, before_answer=before))
        self._watch_silence()

    def take_outcomes(self) -> list[tuple[Message, PublishOutcome, str]]:
        """Return and remove the outcomes of messages, each with the broker's reason."""
        if self._written and self.writable:
            self._outcomes.extend((message, PublishOutcome.DELIVERED, "") for message in self._written)
            self._written.clear()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def disconnect(self) -> None:
        """Send DISCONNECT, so that the broker does not publish the last will."""
        self._client.disconnect()
        with contextlib.suppress(OSError, ValueError):
            self._client.loop_write()

    def close(self, unsent: Sequence[Message] = ()) -> None:
        """Close the socket; unacknowledged messages and `unsent` are lost."""
        sock = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()
        lost = [*self._flying.values(), *self._written, *unsent]
        self._flying.clear()
        self._written.clear()
        self._outcomes.extend((message, PublishOutcome.LOST, "the connection ended") for message in lost)

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
        now_s = self._clock.monotonic()
        limit_s = self._options.answer_timeout_s if self.established else self._options.login_timeout_s
        silent_s = now_s - max(self._heard_s, self._due_s)
        if self._flying and silent_s > limit_s / 4 and self._backlog_shrinks():
            self._due_s = now_s  # on a slow link the message has not left this machine yet
        elif (self._flying or not self.established) and silent_s > limit_s:
            before = not self.established
            self._fail(connection_errors.of_silence(self._options.endpoint, limit_s, before_answer=before))

    def _backlog_shrinks(self) -> bool:
        """Whether the kernel's send buffer is not empty and shrinks."""
        sock = self._client.socket()
        before, self._backlog = self._backlog, 0
        if sock is not None:
            with contextlib.suppress(OSError):
                (self._backlog,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
        return 0 < self._backlog < before

    def _fail_lost(self) -> None:
        endpoint, before = self._options.endpoint, not self.established
        self._fail(connection_errors.of_loss(endpoint, self._last_error, before_answer=before))

    def _fail(self, failure: connection_errors.ConnectionFailure) -> None:
        if self.failure is None:  # later errors are consequences of the first
            self.failure = failure

    # paho's callbacks record what happened.

    def _on_connect(
        self, _client: object, _userdata: object, _flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._fail(connection_errors.of_refusal(reason, self._options.endpoint))
            return
        self.established = True
        if self._version5:
            self.quota = getattr(properties, "ReceiveMaximum", 65535)
            self._max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
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
            answer = (self._clock.monotonic(), message)
            if refused:
                self.refused = answer
            else:
                self.acknowledged = answer
            self._prove(message)
            self._outcomes.append((message, outcome, str(reason.getName()).lower() if refused else ""))

    def _on_subscribe(
        self, _client: object, _userdata: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        subscription = self._subscriptions.pop(mid, None)
        if subscription is None:
            return
        self._prove(subscription)
        for one, reason in zip(subscription.filters, reasons, strict=False):
            self.subscribed.append((one, str(reason.getName()).lower() if reason.is_failure else None))
        if len(subscription.filters) > 1:
            self.refused_in_group += [one for one, reason in self.subscribed if reason is not None]
            self.subscribed = deque(one for one in self.subscribed if one[1] is None)
        elif reasons[0].is_failure:
            self.refused = (self._clock.monotonic(), subscription)

    def _prove(self, answered: Message | Subscription) -> None:
        """Remove what was sent up to `answered`: a broker processes packets in order."""
        for place, sent in enumerate(self.unproven):
            if sent is answered:
                del self.unproven[: place + 1]
                return

    def _on_socket_open(self, _client: object, _userdata: object, sock: paho.SocketLike) -> None:
        tcp = tcp_socket(sock)
        with contextlib.suppress(OSError):  # some kernels lack the options; the connection works without them
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)

    def _on_log(self, _client: object, _userdata: object, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._last_error = text
