"""paho's client and MQTT 5 properties, as the connection uses them."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_classifierd.mqtt.message import TEXT
from edge_classifierd.mqtt.tls import tls_context

if TYPE_CHECKING:
    import ssl

    from edge_classifierd.config.sections.mqtt import MqttSection
    from edge_classifierd.mqtt.connection_errors import Endpoint

_CONNECT_TIMEOUT_S = 10.0
_MAX_INCOMING_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Settings of a connection."""

    endpoint: Endpoint
    password: str | None = field(repr=False)
    keepalive_s: int
    tls: ssl.SSLContext | None
    """None for a connection without TLS."""
    will_topic: str | None
    """The broker publishes `offline` here, retained, when the connection is lost; None for no last will."""
    answer_timeout_s: float = 10.0
    """Time without any received data after which an unanswered message ends the connection."""
    login_timeout_s: float = 5.0
    """The same for the login, so that a silent node is left for the next one."""
    websocket_path: str | None = None
    """None for TCP without WebSocket."""


def make_options(
    section: MqttSection,
    endpoint: Endpoint,
    *,
    will_topic: str | None,
    answer_timeout_s: float,
    login_timeout_s: float,
) -> ConnectionOptions:
    """Return the options for a connection with the section's settings. Raises OSError if a TLS file is not usable."""
    return ConnectionOptions(
        endpoint,
        section.password.get_secret_value() if section.password is not None else None,
        keepalive_s=max(1, round(section.keepalive)),
        tls=tls_context(section.tls, endpoint.host) if section.tls is not None else None,
        will_topic=will_topic,
        answer_timeout_s=answer_timeout_s,
        login_timeout_s=login_timeout_s,
        websocket_path=section.websocket_path if section.transport == "websockets" else None,
    )


class PacketTooLargeError(Exception):
    """The broker announces a packet that is larger than this client accepts."""


class _BoundedClient(paho.Client):
    """Refuses a packet by its announced length, before it is read: MQTT 3.1.1 has no maximum packet size."""

    def _sock_recv(self, bufsize: int) -> bytes:
        """Receive up to `bufsize` bytes; `bufsize` is the rest of a packet."""
        if bufsize > _MAX_INCOMING_BYTES:
            raise PacketTooLargeError(
                f"sent a packet of {bufsize:,} bytes, and at most {_MAX_INCOMING_BYTES:,} are read; publish nothing so "
                "large to the command topics or to Home Assistant's status topic"
            )
        return super()._sock_recv(bufsize)


def new_client(options: ConnectionOptions) -> paho.Client:
    """Return a client that is not connected yet. Network data is read and written by its user."""
    endpoint = options.endpoint
    version5 = endpoint.protocol == "5"
    client = _BoundedClient(
        CallbackAPIVersion.VERSION2,
        client_id=endpoint.client_id,
        clean_session=None if version5 else True,
        protocol=MQTTProtocolVersion.MQTTv5 if version5 else MQTTProtocolVersion.MQTTv311,
        transport="tcp" if options.websocket_path is None else "websockets",
        reconnect_on_failure=False,
    )
    if options.websocket_path is not None:
        client.ws_set_options(options.websocket_path, {"Host": str(endpoint)})
    client.connect_timeout = _CONNECT_TIMEOUT_S
    client.max_inflight_messages_set(0)  # disables paho's queue; `quota` limits the messages in flight
    if options.will_topic is not None:
        client.will_set(options.will_topic, b"offline", qos=1, retain=True)
    if endpoint.username is not None:
        client.username_pw_set(endpoint.username, options.password)
    if options.tls is not None:
        client.tls_set_context(options.tls)
    return client


def connect(client: paho.Client, options: ConnectionOptions) -> None:
    """Connect and send the login; blocks during the handshakes. Raises OSError or ValueError."""
    endpoint = options.endpoint
    version5 = endpoint.protocol == "5"
    properties = None
    if version5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = _MAX_INCOMING_BYTES
    client.connect(
        endpoint.address or endpoint.host,
        endpoint.port,
        options.keepalive_s,
        clean_start=True if version5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
        properties=properties,
    )


def tcp_socket(sock: paho.SocketLike) -> socket.socket:
    """Return the socket itself, or the one inside paho's WebSocket."""
    inner = sock if isinstance(sock, socket.socket) else getattr(sock, "_socket", None)
    if not isinstance(inner, socket.socket):
        raise TypeError(f"{sock!r} has no socket")
    return inner


@lru_cache(maxsize=64)
def publish_properties(content_type: str | None, expiry_s: int | None, schema: int | None) -> Properties:
    """Return the properties of a PUBLISH."""
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
