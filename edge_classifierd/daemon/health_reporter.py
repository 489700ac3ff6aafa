"""Collects the health of all parts in one document, publishes it and writes it to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edge_classifierd import __version__
from edge_classifierd.errors import counted
from edge_classifierd.health.report import (
    PERIOD_S,
    SCHEMA_VERSION,
    EdgeTpuHealth,
    Health,
    MqttHealth,
    OutboxHealth,
    PipelineHealth,
    degradation_changed,
    encode,
)
from edge_classifierd.mqtt.message import JSON
from edge_classifierd.pipeline.planning.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_classifierd.clock import Clock
    from edge_classifierd.daemon.starting_pipeline import AnyPipeline
    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.health.board import Board
    from edge_classifierd.health.health_file import HealthFile
    from edge_classifierd.health.heartbeat import Heartbeats
    from edge_classifierd.health.metrics import Reason
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
    from edge_classifierd.mqtt.publisher import Publisher
    from edge_classifierd.mqtt.retained_topics import RetainedTopics

_CHECK_EVERY_S = 1.0


class HealthReporter:
    """Publishes health. Used by the service's thread."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        session: MqttClient,
        publisher: Publisher,
        states: RetainedTopics,
        own_topics: OwnTopicMonitor,
        board: Board,
        clock: Clock,
        file: HealthFile,
        volatile: str | None = None,
        heartbeats: Heartbeats | None = None,
        page_reason: Callable[[], Reason | None] = lambda: None,
    ) -> None:
        """Publish nothing yet.

        Args:
            outbox: The outbox.
            session: The connection to the broker.
            publisher: The publisher.
            states: The retained topics.
            own_topics: Reports who else writes to the device's topics.
            board: The board's sensors.
            clock: The clock.
            file: The health file.
            volatile: Why the outbox's file does not survive a power loss, although it can be written.
            heartbeats: The supervised stages.
            page_reason: Returns why the page cannot be reached.
        """
        self._outbox = outbox
        self._session = session
        self._publisher = publisher
        self._states = states
        self._own_topics = own_topics
        self._board = board
        self._clock = clock
        self._file = file
        self._volatile = volatile
        self._heartbeats = heartbeats
        self._page_reason = page_reason
        self._newest: Health | None = None
        self._started_s = clock.monotonic()
        self._connection: int | None = None
        self._connected_s = 0.0
        self._lost_at_start = sum(outbox.lost.values())
        self._published: Health | None = None
        self._published_s = float("-inf")
        self._checked_s = float("-inf")
        self.configuration_sha256: str | None = None
        """Set by the service when it has loaded the configuration."""

    def tick(self, topic: str, pipelines: Iterable[AnyPipeline]) -> None:
        """Publish health and write its file every 30 s, and within a second of an important change.

        Important changes: a reason is added or removed, a pipeline goes online or offline, the connection to the broker
        is made or lost, a figure has its first value.
        """
        now_s = self._clock.monotonic()
        if now_s - self._checked_s < _CHECK_EVERY_S:
            return
        self._checked_s = now_s
        health = self._newest = self.health(pipelines)
        before = self._published
        due = now_s - self._published_s >= PERIOD_S
        if due or before is None or degradation_changed(before, health) or _changed(before, health):
            self._published, self._published_s = health, now_s
            document = encode(health)
            self._states.set(topic, document, content_type=JSON, schema=SCHEMA_VERSION, qos=0)
            self._file.write(document)

    def document(self) -> Health | None:
        """Return the newest health, at most about a second old; None before the first `tick`. Any thread."""
        return self._newest

    def alive(self) -> bool:
        """Return whether every supervised stage makes progress or waits on purpose. Any thread."""
        return self._heartbeats is None or not self._heartbeats.stuck()

    def health(self, pipelines: Iterable[AnyPipeline]) -> Health:
        """Return the state of all parts at this moment."""
        now_s = self._clock.monotonic()
        return Health(
            version=__version__,
            time=self._clock.utc(),
            uptime_s=now_s - self._started_s,
            clock_synchronised=self._clock.synchronised(),
            pipelines=tuple(_pipeline(pipeline) for pipeline in pipelines),
            outbox=OutboxHealth(
                depth=self._outbox.depth,
                lost=sum(self._outbox.lost.values()) - self._lost_at_start,
                sent=self._publisher.delivered,
                durable=self._outbox.durable and self._volatile is None,
                durable_reason=self._outbox.trouble or self._volatile,
                oldest_age_s=self._outbox.oldest_age_s,
            ),
            board=self._board.read(),
            mqtt=self._mqtt(now_s),
            address=self._session.local_address,
            configuration_sha256=self.configuration_sha256,
            page=self._page_reason(),
        )

    def status_line(self, pipelines: Iterable[AnyPipeline]) -> str:
        """Return the line of `systemctl status`: `3 pipelines, 9.8 fps, connected to …`; `starting` without a rate."""
        all_pipelines = list(pipelines)
        rates = {pipeline.name: pipeline.metrics.snapshot().fps for pipeline in all_pipelines}
        resting = [pipeline.name for pipeline in all_pipelines if pipeline.resting]
        starting = all(_starts(pipeline, rates[pipeline.name]) for pipeline in all_pipelines)
        words = [
            counted(len(all_pipelines), "pipeline"),
            "starting" if starting else f"{sum(fps or 0.0 for fps in rates.values()):.1f} fps",
        ]
        if offline := [pipeline.name for pipeline in all_pipelines if pipeline.offline_reason]:
            words.append(f"no frames from {', '.join(offline)}")
        if resting:
            words.append(f"{', '.join(resting)} resting")
        return ", ".join([*words, self._session.status_sentence])

    def _mqtt(self, now_s: float) -> MqttHealth:
        client = self._session
        return MqttHealth(
            self._connected_for(now_s),
            max(0, client.connections - 1),
            broker=str(client.endpoint),
            protocol=client.endpoint.protocol,
            reasons=(*client.reasons, *self._own_topics.reasons),
        )

    def _connected_for(self, now_s: float) -> float | None:
        connection = self._session.connection
        if connection != self._connection:
            self._connection, self._connected_s = connection, now_s
        return None if connection is None else now_s - self._connected_s


def _starts(pipeline: AnyPipeline, fps: float | None) -> bool:
    """Return whether a pipeline still waits for its first frames. False when its camera is known to fail."""
    intended = pipeline.resting or pipeline.finished or not pipeline.enabled
    awaited = not intended and not pipeline.offline_reason
    return awaited and (fps is None or not (pipeline.online or fps))


def _changed(before: Health, now: Health) -> bool:
    """Return whether a pipeline's status or the connection changed, or a figure has its first value.

    Without this, `unknown` would be shown for half a minute after a start.
    """
    return _links(before) != _links(now) or bool(_known(now) - _known(before))


def _links(health: Health) -> tuple[bool, dict[str, str]]:
    """Return whether the broker is connected, and the status of each pipeline."""
    connected = health.mqtt is not None and health.mqtt.connected_since_s is not None
    return connected, {pipeline.name: pipeline.status for pipeline in health.pipelines}


def _known(health: Health) -> set[tuple[str, str]]:
    return {
        (pipeline.name, figure)
        for pipeline in health.pipelines
        for figure in ("fps", "inference_ms", "accelerator")
        if getattr(pipeline.figures, figure) is not None
    }


def _status(pipeline: AnyPipeline) -> Literal["online", "offline", "resting"]:
    if pipeline.online:
        return "online"
    return "resting" if pipeline.resting and pipeline.offline_reason is None else "offline"


def _pipeline(pipeline: AnyPipeline) -> PipelineHealth:
    pipeline.refresh_metrics()
    plan = pipeline.plan
    return PipelineHealth(
        name=pipeline.name,
        status=_status(pipeline),
        status_reason=pipeline.offline_reason,
        figures=pipeline.metrics.snapshot(),
        model=(plan.bundle.name, plan.bundle.sha256) if isinstance(plan, Plan) else None,
        edgetpus=tuple(EdgeTpuHealth(name, at.temperature_c, at.clock_mhz) for name, at in pipeline.temperatures),
    )
