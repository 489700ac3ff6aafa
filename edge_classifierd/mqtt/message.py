"""Outgoing and incoming MQTT messages, and the outcome of a publish."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "application/json"
TEXT = "text/plain"
JPEG = "image/jpeg"


class PublishOutcome(Enum):
    """Result of publishing a message."""

    DELIVERED = auto()
    """Acknowledged by the broker; with QoS 0: written to the socket."""
    REFUSED = auto()
    """The broker does not accept the message: a reason code (MQTT 5), a size limit, or it closed the connection."""
    LOST = auto()
    """The connection ended first; the broker may have received it or not."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish. `content_type`, `expiry_s` and `schema` are MQTT 5 properties, omitted under 3.1.1."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    content_type: str | None = None
    expiry_s: int | None = None
    schema: int | None = None
    on_outcome: Callable[[PublishOutcome, str], None] | None = None
    """Called once on the network thread with the outcome and the broker's reason; it must not block."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A received message. `retained`: it was stored on the broker before this subscription."""

    topic: str
    payload: bytes
    retained: bool


class Listener(Protocol):
    """Receives the changes of the connection on the network thread; its methods must not block."""

    def connected(self) -> None:
        """There is a connection and `status` was published; the broker may have lost all retained messages."""

    def disconnected(self) -> None:
        """The connection has ended; messages without an outcome were reported as lost."""

    def tick(self) -> None:
        """Called a few times a second while connected."""
