"""The state of one device, read from its retained topics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from edge_classifierd.errors import PayloadError

_MOST_REASONS: Final = 100
_LARGEST: Final = 1e15


@dataclass(frozen=True, slots=True)
class DevicePipeline:
    """One pipeline in a device's health document."""

    name: str
    status: str
    """`online`, `offline` or `resting`."""
    model: str | None
    """Name of the model; None while its file cannot be used."""
    model_sha256: str | None
    wanted_sha256: str | None
    """Of the model that is to replace it, during a roll-out."""
    accelerator: str | None
    fps: float | None


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """A device's health document, as far as a fleet is interested in it. What is not known is None."""

    version: str | None
    address: str | None
    time: datetime | None
    """When the document was made, by the device's clock."""
    uptime_s: float | None
    pipelines: tuple[DevicePipeline, ...]
    temperature_c: float | None
    waiting: int | None
    """Events in the outbox."""
    lost: int | None
    """Events dropped since the daemon started."""
    reasons: tuple[str, ...]
    """Why the device is degraded."""


def decode_health(payload: bytes) -> DeviceHealth:
    """Return the health in a payload; unknown keys are ignored. Raises PayloadError."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        raise PayloadError("its health document is not JSON; does another program publish there?") from None
    if not isinstance(document, dict) or not isinstance(document.get("pipelines"), dict):
        raise PayloadError("its health document has no pipelines; does another program publish there?")
    outbox, board = _object(document, "outbox"), _object(document, "board")
    reasons = document.get("reasons")
    return DeviceHealth(
        version=_text(document, "version"),
        address=_text(document, "address"),
        time=_time(_text(document, "time")),
        uptime_s=_number(document, "uptime_s"),
        pipelines=tuple(_pipeline(name, one) for name, one in document["pipelines"].items() if isinstance(one, dict)),
        temperature_c=_number(board, "temperature_c"),
        waiting=_count(outbox, "depth"),
        lost=_count(outbox, "lost"),
        reasons=tuple(str(one) for one in reasons[:_MOST_REASONS]) if isinstance(reasons, list) else (),
    )


def _pipeline(name: str, document: dict[str, Any]) -> DevicePipeline:
    model = _object(document, "model")
    return DevicePipeline(
        name=name,
        status=_text(document, "status") or "unknown",
        model=_text(model, "name"),
        model_sha256=_text(model, "sha256"),
        wanted_sha256=_text(_object(document, "wanted_model"), "sha256"),
        accelerator=_text(document, "accelerator"),
        fps=_number(document, "fps"),
    )


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def _number(document: dict[str, Any], key: str) -> float | None:
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return None
    return float(value)


def _count(document: dict[str, Any], key: str) -> int | None:
    value = document.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(text: str | None) -> datetime | None:
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
