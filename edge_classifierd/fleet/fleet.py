"""All devices below one base topic, from what they have published: their state and what is wrong with each."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import PayloadError
from edge_classifierd.fleet.device import decode_health
from edge_classifierd.health.report import PERIOD_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_classifierd.clock import Clock
    from edge_classifierd.fleet.device import DeviceHealth
    from edge_classifierd.mqtt.message import Incoming

_SILENT_S: Final = 3 * PERIOD_S
"""An online device publishes its health this often at least; the broker or the network may delay one document."""
_REMEMBERED_STARTS: Final = 8
_SAME_START_S: Final = 5.0
"""The start of one process, computed from two documents, differs by less than this."""


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """One device and what is wrong with it."""

    id: str
    online: bool
    health: DeviceHealth | None
    """None when it has published none, or none that can be read."""
    problems: tuple[str, ...]
    """A sentence for each."""


@dataclass(frozen=True, slots=True)
class ExpectedModel:
    """A model that is to be in use on every device."""

    name: str
    """The model's name, or `model` for the model of every pipeline."""
    sha256: str
    """The first characters of its SHA-256, in lower case."""

    def missing(self, devices: Iterable[FleetDevice]) -> tuple[str, ...]:
        """Return a sentence for each pipeline that uses another model, and for each device of unknown models.

        Only pipelines that use a model of this name count; with the name `model` all of them.
        """
        found = []
        for device in devices:
            if device.health is None:
                found.append(f"{device.id}: its models are not known")
                continue
            for pipeline in device.health.pipelines:
                known = pipeline.model_sha256 or ""
                if self.name in {"model", pipeline.model} and not known.startswith(self.sha256):
                    has = f"{pipeline.model} {known[:8]}" if known else "no model"
                    if (pipeline.wanted_sha256 or "").startswith(self.sha256):
                        has += ", and is to get it"
                    found.append(f"{device.id}/{pipeline.name}: has {has}")
        return tuple(found)

    def used_by(self, devices: Iterable[FleetDevice]) -> int:
        """Return how many pipelines use the model."""
        pipelines = (pipeline for device in devices if device.health for pipeline in device.health.pipelines)
        return sum(
            self.name in {"model", one.model} and (one.model_sha256 or "").startswith(self.sha256) for one in pipelines
        )


@dataclass(slots=True)
class _Heard:
    """What a device has published."""

    status: bytes | None = None
    health: DeviceHealth | None = None
    health_s: float = 0.0
    """Monotonic time at which the health arrived."""
    fresh: bool = False
    """Whether the health was published while the fleet was watched, not retained before."""
    unreadable: str | None = None
    starts_s: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_STARTS))
    """When the processes that published as this device have started, by their own clocks, in the order heard."""


class Fleet:
    """Collects the status and the health of devices. `hear` may be called by another thread than the rest."""

    def __init__(self, base_topic: str, clock: Clock) -> None:
        """`base_topic` is what all devices have in common: `<base_topic>/<device>/health`."""
        self._base_topic = base_topic
        self._clock = clock
        self._lock = threading.Lock()
        self._heard: dict[str, _Heard] = {}
        self._retained = 0

    @property
    def filters(self) -> tuple[str, str]:
        """The topics to subscribe to."""
        return f"{self._base_topic}/+/status", f"{self._base_topic}/+/health"

    @property
    def retained(self) -> int:
        """Number of messages so far that the broker had retained."""
        return self._retained

    def hear(self, message: Incoming) -> None:
        """Record a status or a health document."""
        device, _, topic = message.topic.removeprefix(f"{self._base_topic}/").partition("/")
        with self._lock:
            self._retained += message.retained
            if not message.payload:  # removed from the broker
                heard = self._heard.get(device)
                if heard is not None and topic == "status":
                    del self._heard[device]
                return
            heard = self._heard.setdefault(device, _Heard())
            if topic == "status":
                heard.status = message.payload
            else:
                self._hear_health(heard, message)

    def devices(self) -> tuple[FleetDevice, ...]:
        """Return all devices by id."""
        with self._lock:
            return tuple(self._device(name, heard) for name, heard in sorted(self._heard.items()))

    def _hear_health(self, heard: _Heard, message: Incoming) -> None:
        try:
            heard.health, heard.unreadable = decode_health(message.payload), None
        except PayloadError as error:
            heard.unreadable = str(error)
            return
        heard.health_s, heard.fresh = self._clock.monotonic(), not message.retained
        health = heard.health
        if health.time is not None and health.uptime_s is not None:
            start_s = health.time.timestamp() - health.uptime_s
            if not heard.starts_s or abs(start_s - heard.starts_s[-1]) > _SAME_START_S:
                heard.starts_s.append(start_s)

    def _device(self, name: str, heard: _Heard) -> FleetDevice:
        online = heard.status == b"online" or (heard.status is None and self._publishes(heard))
        return FleetDevice(name, online, heard.health, tuple(self._problems(heard, online=online)))

    def _publishes(self, heard: _Heard) -> bool:
        """Return whether the device publishes health now: a broker such as RabbitMQ does not deliver its status."""
        return heard.fresh and self._clock.monotonic() - heard.health_s <= _SILENT_S

    def _problems(self, heard: _Heard, *, online: bool) -> list[str]:
        found = []
        if not online:
            found.append("offline" if heard.status is not None else "its status is not known")
        if heard.unreadable is not None:
            found.append(heard.unreadable)
        health = heard.health
        if health is None:
            if heard.unreadable is None:
                found.append("it has published no health document")
            return found
        if online:
            found += health.reasons
            silent_s = self._silent_s(heard, health)
            if silent_s > _SILENT_S:
                found.append(f"its newest health document is {_duration(silent_s)} old; is its clock right?")
        if health.lost:
            found.append(f"{health.lost:,} events were lost since its start")
        if _is_doubled(heard.starts_s):
            found.append("two devices have this id; give each its own `device.id`")
        return found

    def _silent_s(self, heard: _Heard, health: DeviceHealth) -> float:
        if heard.fresh:
            return self._clock.monotonic() - heard.health_s
        return 0.0 if health.time is None else (self._clock.utc() - health.time).total_seconds()


def _is_doubled(starts_s: deque[float]) -> bool:
    """Return whether two processes publish in turn: one is heard again after another. After a restart it is not."""
    known = list(starts_s)
    return any(
        abs(earlier - later) <= _SAME_START_S for at, later in enumerate(known) for earlier in known[: max(0, at - 1)]
    )


def _duration(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"
