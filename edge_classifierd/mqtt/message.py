"""Messages: what goes to the broker, what comes from it, and how a sending ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "application/json"
TEXT = "text/plain"
JPEG = "image/jpeg"


class PublishOutcome(Enum):
    """How the sending of a message ended."""

    DELIVERED = auto()
    """Acknowledged by the broker; with QoS 0: written to the socket."""
    REFUSED = auto()
    """The broker answered with a reason code that says no (MQTT 5 only)."""
    LOST = auto()
    """The connection ended first; the broker may or may not have it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send. The properties below `retain` exist in MQTT 5 only and are left out in 3.1.1."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    content_type: str | None = None
    expiry_s: int | None = None
    schema: int | None = None
    on_outcome: Callable[[PublishOutcome, str], None] | None = None
    """Called once, on the network thread, with the broker's reason: it may only enqueue."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that came. `retained` means that the broker had kept it: it is not happening now."""

    topic: str
    payload: bytes
    retained: bool
