"""The event: its fields in memory, and its JSON form on the broker and in the outbox."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, astuple, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from edge_classifierd.clock import timestamp
from edge_classifierd.errors import PayloadError

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

SCHEMA_VERSION = 1
"""The `schema` of every event; grows only when a subscriber would have to change."""


class EventType(StrEnum):
    """What happened to a watch."""

    DETECTED = "detected"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class RankedLabel:
    """One of a frame's best classes; `confidence` is between 0 and 1."""

    index: int
    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model behind an event: its name and the file's SHA-256, the runtime with version, the accelerator."""

    name: str
    sha256: str
    runtime: str
    accelerator: str


@dataclass(frozen=True, slots=True)
class EventBox:
    """A part of the upright frame, in fractions of its width and height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """An event before the outbox has numbered it.

    `time` is aware: when the frame was taken. `active_s` is how long a `cleared` watch was on; None for `detected`, and
    when it is unknown because the clock was stepped over a restart. `box` is what moved, for a pipeline that follows.

    Raises:
        ValueError: a number is not finite, or `time` has no zone.
    """

    type: EventType
    device: str
    pipeline: str
    watch: str
    label: str
    confidence: float
    top: tuple[RankedLabel, ...]
    time: datetime
    clock_synchronised: bool
    model: ModelIdentity
    inference_ms: float
    active_s: float | None = None
    box: EventBox | None = None

    def __post_init__(self) -> None:
        numbers = [self.confidence, self.inference_ms, self.active_s or 0.0, *(one.confidence for one in self.top)]
        numbers += () if self.box is None else astuple(self.box)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"event of {self.pipeline}/{self.watch} holds a number that is not finite: {numbers}")
        if self.time.tzinfo is None:
            raise ValueError(f"event of {self.pipeline}/{self.watch} has a time without a zone: {self.time}")

    def __str__(self) -> str:
        """One line for people: `driveway/dog detected: Labrador retriever (83%)`."""
        lasted = "" if self.active_s is None else f" after {self.active_s:.1f} s"
        return f"{self.pipeline}/{self.watch} {self.type.value}{lasted}: {self.label} ({self.confidence:.0%})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(EventDraft):
    """An event as subscribers see it.

    `event_id` is unique and time-ordered. `seq` grows by one per event of a device, across restarts; it is None, and
    `durable` False, for an event that the disk did not take.
    """

    event_id: str
    seq: int | None
    durable: bool
    schema: int = SCHEMA_VERSION


_DRAFT_FIELDS = tuple(field.name for field in fields(EventDraft))


def number(draft: EventDraft, *, seq: int | None, event_id: str) -> Event:
    """Return the draft as an event; without a number it is not durable."""
    content = {name: getattr(draft, name) for name in _DRAFT_FIELDS}
    return Event(seq=seq, durable=seq is not None, event_id=event_id, **content)


def encode(event: Event) -> bytes:
    """Return compact UTF-8 JSON, keys in the documented order; the same event always gives the same bytes."""
    document = {
        "schema": event.schema,
        "event_id": event.event_id,
        "seq": event.seq,
        "durable": event.durable,
        "type": event.type.value,
        "device": event.device,
        "pipeline": event.pipeline,
        "watch": event.watch,
        "label": event.label,
        "confidence": round(event.confidence, 4),
        "top": ranked_documents(event.top),
        "time": timestamp(event.time),
        "clock_synchronised": event.clock_synchronised,
        "model": {
            "name": event.model.name,
            "sha256": event.model.sha256,
            "runtime": event.model.runtime,
            "accelerator": event.model.accelerator,
        },
        "inference_ms": round(event.inference_ms, 2),
        "active_s": None if event.active_s is None else round(event.active_s, 3),
        "box": None if event.box is None else {key: round(value, 4) for key, value in asdict(event.box).items()},
    }
    return dump(document)


def decode(payload: bytes | str) -> Event:
    """Return the event in a payload; unknown keys are ignored. Raises PayloadError."""
    try:
        document: Any = json.loads(payload)
        model = document["model"]
        return Event(
            schema=_integer(document["schema"]),
            event_id=_text(document["event_id"]),
            seq=None if document["seq"] is None else _integer(document["seq"]),
            durable=bool(document.get("durable", True)),
            type=EventType(document["type"]),
            device=_text(document["device"]),
            pipeline=_text(document["pipeline"]),
            watch=_text(document["watch"]),
            label=_text(document["label"]),
            confidence=float(document["confidence"]),
            top=tuple(
                RankedLabel(_integer(one["index"]), _text(one["label"]), float(one["confidence"]))
                for one in _list(document["top"])
            ),
            time=datetime.fromisoformat(document["time"]),
            clock_synchronised=bool(document["clock_synchronised"]),
            model=ModelIdentity(
                _text(model["name"]), _text(model["sha256"]), _text(model["runtime"]), _text(model["accelerator"])
            ),
            inference_ms=float(document["inference_ms"]),
            active_s=None if document["active_s"] is None else float(document["active_s"]),
            box=_box(document.get("box")),
        )
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PayloadError(f"not an event of schema {SCHEMA_VERSION} ({reason}); who else publishes here?") from error


def ranked_documents(top: tuple[RankedLabel, ...]) -> list[dict[str, int | str | float]]:
    """Return the JSON form of a frame's best classes."""
    return [{"index": one.index, "label": one.label, "confidence": round(one.confidence, 4)} for one in top]


def dump(document: object) -> bytes:
    """Return compact UTF-8 JSON; a lone surrogate in a label becomes `?`."""
    return _ENCODER.encode(document).encode("utf-8", "replace")


def _box(value: Any) -> EventBox | None:  # noqa: ANN401 - of a JSON document
    if value is None:
        return None
    return EventBox(*(float(value[key]) for key in ("x", "y", "width", "height")))


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r:.60} is not a whole number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is not a text")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.60} is not a list")
    return value
