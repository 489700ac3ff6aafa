"""The health document: the state of the daemon, the reasons why it is degraded, and the JSON of both."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from edge_classifierd.clock import timestamp
from edge_classifierd.health.metrics import Percentiles, Reason

if TYPE_CHECKING:
    from datetime import datetime

    from edge_classifierd.health.board import BoardState, Throttling
    from edge_classifierd.health.metrics import PipelineSnapshot

SCHEMA_VERSION = 1
PERIOD_S = 30.0
"""Interval of publication. Health is also published at once when `degradation_changed`."""

_BOARD_SENTENCES = {
    "under_voltage": "the board's supply voltage is too low; use a stronger power supply",
    "frequency_capped": "the board's CPU is slowed down (frequency capped); cool it or use a stronger supply",
    "throttled": "the board's CPU is slowed down (throttled); cool it or use a stronger supply",
    "soft_temperature_limit": "the board reached its soft temperature limit; cool it",
}


@dataclass(frozen=True, slots=True)
class EdgeTpuHealth:
    """Temperature of an Edge TPU (PCIe only) and the clock rate that follows from it."""

    name: str
    temperature_c: float
    clock_mhz: float


@dataclass(frozen=True, slots=True)
class PipelineHealth:
    """Status and metrics of one pipeline."""

    name: str
    status: Literal["online", "offline", "resting"]
    status_reason: str | None
    """Why it is offline, one sentence; None when that is intended (starting, disabled, source at its end)."""
    figures: PipelineSnapshot
    edgetpus: tuple[EdgeTpuHealth, ...] = ()
    model: tuple[str, str] | None = None
    """Name and SHA-256 of the model; None while its file cannot be used."""


@dataclass(frozen=True, slots=True)
class OutboxHealth:
    """State of the outbox."""

    depth: int
    """Events not yet acknowledged by the broker."""
    lost: int
    """Events dropped since the daemon started: too old, or too many."""
    sent: int
    """Events acknowledged since the daemon started."""
    durable: bool
    """Whether a decided event survives a loss of power."""
    durable_reason: str | None
    """Why it does not, one sentence."""
    oldest_age_s: float | None
    """Age of the oldest waiting event; None without any."""


@dataclass(frozen=True, slots=True)
class MqttHealth:
    """The connection to the broker."""

    connected_since_s: float | None
    """Age of the connection in seconds; None while there is none."""
    reconnects: int
    broker: str | None = None
    """Host and port of the connection, or of the last attempt."""
    protocol: str | None = None
    """Version of MQTT: `5` or `3.1.1`."""
    reasons: tuple[Reason, ...] = ()
    """Trouble with the broker."""


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the daemon at one moment. A part that does not exist yet is None."""

    version: str
    time: datetime
    uptime_s: float
    clock_synchronised: bool
    pipelines: tuple[PipelineHealth, ...]
    outbox: OutboxHealth | None
    board: BoardState
    mqtt: MqttHealth | None
    address: str | None = None
    """The device's IP address on the last connection to the broker."""
    configuration_sha256: str | None = None
    """SHA-256 of the configuration file as it was last loaded."""
    page: Reason | None = None
    """Why the page cannot be reached; None when it can, or there is none."""

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Return why the daemon is degraded: pipelines first, with the pipeline's name before flag and sentence."""
        found = [
            Reason(f"{pipeline.name}.{reason.flag}", f"{pipeline.name}: {reason.sentence}")
            for pipeline in self.pipelines
            for reason in _pipeline_reasons(pipeline)
        ]
        if self.outbox is not None and not self.outbox.durable:
            why = self.outbox.durable_reason or "the outbox's file cannot be written"
            found.append(Reason("outbox", f"events would not survive a loss of power: {why}"))
        if self.mqtt is not None:
            found += self.mqtt.reasons
        if self.board.throttling is not None:
            found += [
                Reason(f"board.{flag}", sentence)
                for flag, sentence in _BOARD_SENTENCES.items()
                if getattr(self.board.throttling.now, flag)
            ]
        if self.page is not None:
            found.append(self.page)
        return tuple(found)

    @property
    def degraded(self) -> bool:
        """Return whether there is any reason."""
        return bool(self.reasons)


def degradation_changed(before: Health | None, now: Health) -> bool:
    """Return whether a reason was added or removed. A change of wording does not count."""
    if before is None:
        return True
    return {reason.flag for reason in before.reasons} != {reason.flag for reason in now.reasons}


def encode(health: Health) -> bytes:
    """Return the document as compact UTF-8 JSON (docs/health.schema.json)."""
    return json.dumps(document(health), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def document(health: Health) -> dict[str, Any]:
    """Return the document as JSON types."""
    reasons = health.reasons
    return {
        "schema": SCHEMA_VERSION,
        "version": health.version,
        "time": timestamp(health.time),
        "uptime_s": round(health.uptime_s, 1),
        "clock_synchronised": health.clock_synchronised,
        "address": health.address,
        "configuration_sha256": health.configuration_sha256,
        "degraded": bool(reasons),
        "reasons": [reason.sentence for reason in reasons],
        "pipelines": {pipeline.name: _pipeline(pipeline) for pipeline in health.pipelines},
        "outbox": None if health.outbox is None else _outbox(health.outbox),
        "board": _board(health.board),
        "mqtt": None if health.mqtt is None else _mqtt(health.mqtt),
    }


def _pipeline_reasons(pipeline: PipelineHealth) -> tuple[Reason, ...]:
    figures = pipeline.figures
    if pipeline.status == "online":
        picture = figures.picture_problem
        return figures.reasons if picture is None else (picture, *figures.reasons)
    if pipeline.status_reason is None:
        return figures.reasons
    return (Reason("offline", pipeline.status_reason), *figures.reasons)


def _pipeline(pipeline: PipelineHealth) -> dict[str, Any]:
    figures = pipeline.figures
    reasons = _pipeline_reasons(pipeline)
    return {
        "status": pipeline.status,
        "degraded": bool(reasons),
        "reasons": [reason.sentence for reason in reasons],
        "picture": _picture(pipeline),
        "model": _model(pipeline.model),
        "wanted_model": _model(figures.wanted_model),
        "accelerator": figures.accelerator,
        "fps": _rounded(figures.fps, 2),
        "frames": figures.frames,
        "inferences": figures.inferences,
        "dropped": figures.dropped,
        "gated": figures.gated,
        "skipped": figures.skipped,
        "errors": figures.errors,
        "restarts": figures.restarts,
        "inference_ms": _percentiles(figures.inference_ms),
        "latency_ms": _percentiles(figures.latency_ms),
        "ambiguous_share": _rounded(figures.ambiguous_share, 3),
        "hint": figures.hint,
        "edgetpus": {
            tpu.name: {"temperature_c": round(tpu.temperature_c, 1), "clock_mhz": tpu.clock_mhz}
            for tpu in pipeline.edgetpus
        },
    }


def _model(model: tuple[str, str] | None) -> dict[str, str] | None:
    return None if model is None else {"name": model[0], "sha256": model[1]}


def _picture(pipeline: PipelineHealth) -> str | None:
    if pipeline.status != "online":
        return None
    problem = pipeline.figures.picture_problem
    return "ok" if problem is None else problem.flag


def _percentiles(percentiles: Percentiles | None) -> dict[str, float | None]:
    if percentiles is None:
        return {"p50": None, "p95": None, "p99": None}
    return {name: round(value_ms, 2) for name, value_ms in asdict(percentiles).items()}


def _outbox(outbox: OutboxHealth) -> dict[str, Any]:
    return {
        "depth": outbox.depth,
        "lost": outbox.lost,
        "sent": outbox.sent,
        "durable": outbox.durable,
        "oldest_age_s": _rounded(outbox.oldest_age_s, 1),
    }


def _board(board: BoardState) -> dict[str, Any]:
    return {
        "model": board.model,
        "temperature_c": _rounded(board.temperature_c, 1),
        "throttled": _throttled(board.throttling),
        "memory": {"rss_mb": _rounded(board.rss_mb, 1), "available_mb": _rounded(board.available_mb, 1)},
        "load": board.load,
        "disk_free_mb": _rounded(board.disk_free_mb, 0),
    }


def _throttled(throttling: Throttling | None) -> dict[str, dict[str, bool | None]]:
    if throttling is None:
        unknown = dict.fromkeys(_BOARD_SENTENCES)
        return {"now": {**unknown}, "since_boot": {**unknown}}
    return {"now": asdict(throttling.now), "since_boot": asdict(throttling.since_boot)}


def _mqtt(mqtt: MqttHealth) -> dict[str, Any]:
    return {
        "connected_since_s": _rounded(mqtt.connected_since_s, 1),
        "reconnects": mqtt.reconnects,
        "broker": mqtt.broker,
        "protocol": mqtt.protocol,
        "reasons": [reason.sentence for reason in mqtt.reasons],
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
