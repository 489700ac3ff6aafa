"""The metrics of the daemon in the exposition format of Prometheus, collected when they are read."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import Response

from edge_classifierd import __version__
from edge_classifierd.web.live.results import BOUNDS_S
from edge_classifierd.web.route import PageRoute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric
    from starlette.requests import Request

    from edge_classifierd.health.report import Health
    from edge_classifierd.web.access.admission import Access
    from edge_classifierd.web.live.preview import Previews
    from edge_classifierd.web.live.results import Timings
    from edge_classifierd.web.live.viewers import Viewers
    from edge_classifierd.web.parts import Parts

_PREFIX: Final = "edge_classifierd_"
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BY_PIPELINE: Final = ("pipeline",)


@dataclass(frozen=True, slots=True)
class TeachingFigures:
    """What *Teach* counts."""

    running: bool
    """Whether a training runs."""
    results: Mapping[str, int]
    """Number of trainings since the start, by result."""
    pictures: Mapping[str, int]
    """Number of pictures by model."""


class TeachingSource(Protocol):
    """Gives the figures of *Teach*."""

    async def figures(self) -> TeachingFigures:
        """Return the present figures."""


class MetricRoutes:
    """Serves `/metrics`. Used by the page's thread."""

    def __init__(
        self, parts: Parts, access: Access, viewers: Viewers, previews: Previews, teaching: TeachingSource | None
    ) -> None:
        """`teaching` gives the figures of *Teach*, if it is switched on."""
        token = parts.section.metrics_token
        self._token = None if token is None else token.get_secret_value()
        self._registry = CollectorRegistry()
        self._collector = _DaemonCollector(parts, access, viewers, previews)
        self._registry.register(self._collector)
        self._teaching = teaching
        ProcessCollector(registry=self._registry)

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the route of the metrics."""
        return (PageRoute("GET", "/metrics", self._metrics, bearer=self._token),)

    async def _metrics(self, _request: Request) -> Response:
        if self._teaching is not None:
            self._collector.teaching = await self._teaching.figures()
        return Response(generate_latest(self._registry), headers={"Content-Type": _CONTENT_TYPE})


class _DaemonCollector(Collector):
    """Makes the metrics from what the daemon counts anyway. Labels are names of the configuration only."""

    def __init__(self, parts: Parts, access: Access, viewers: Viewers, previews: Previews) -> None:
        self._parts = parts
        self._access = access
        self._viewers = viewers
        self._previews = previews
        self.teaching: TeachingFigures | None = None
        """Read before each collection; None without *Teach*."""

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        info = InfoMetricFamily(f"{_PREFIX}build", "Version of the daemon.")
        info.add_metric([], {"version": __version__})
        yield info
        yield from self._pipelines()
        yield from self._watches()
        yield from self._timings()
        health = self._parts.health.document()
        if health is not None:
            yield from _outbox_and_broker(health)
            yield from _board(health)
            yield from _edgetpus(health)
        yield from self._page()
        if self.teaching is not None:
            yield from _teaching(self.teaching)

    def _pipelines(self) -> Iterator[Metric]:
        enabled = _gauge("pipeline_enabled", "Whether the pipeline is switched on.", _BY_PIPELINE)
        online = _gauge("pipeline_online", "Whether the pipeline's camera delivers frames.", _BY_PIPELINE)
        resting = _gauge("pipeline_resting", "Whether no frame is classified on purpose.", ("pipeline", "why"))
        degraded = _gauge("pipeline_degraded", "Reasons why the pipeline is degraded.", ("pipeline", "reason"))
        frames = _counter("frames", "Frames of the camera by what became of them.", ("pipeline", "result"))
        restarts = _counter("pipeline_restarts", "Restarts after a failure or a reload.", _BY_PIPELINE)
        accelerator = _gauge("accelerator_info", "What computes the inferences.", ("pipeline", "accelerator"))
        for view in self._parts.control.view():
            figures = view.figures
            enabled.add_metric([view.name], float(view.enabled))
            online.add_metric([view.name], float(view.online))
            for why in ("gate", "schedule", "training"):
                resting.add_metric([view.name, why], float(view.resting is not None and view.resting.why == why))
            problem = () if figures.picture_problem is None else (figures.picture_problem,)
            for reason in (*problem, *figures.reasons):
                degraded.add_metric([view.name, reason.flag], 1.0)
            results = {
                "classified": figures.inferences,
                "gated": figures.gated,
                "dropped": figures.dropped,
                "skipped": figures.skipped,
                "failed": figures.errors,
            }
            for result, count in results.items():
                frames.add_metric([view.name, result], count)
            restarts.add_metric([view.name], figures.restarts)
            if figures.accelerator is not None:
                accelerator.add_metric([view.name, figures.accelerator], 1.0)
        yield from (enabled, online, resting, degraded, frames, restarts, accelerator)

    def _watches(self) -> Iterator[Metric]:
        labels = ("pipeline", "watch")
        active = _gauge("watch_active", "Whether the watch is on.", labels)
        confidence = _gauge("watch_confidence_ratio", "Confidence of the watch in the newest frame.", labels)
        threshold = _gauge("watch_threshold_ratio", "Threshold of the watch.", labels)
        events = _counter("events", "Events since the daemon started.", (*labels, "type"))
        for view in self._parts.control.view():
            newest = self._parts.results.newest(view.name)
            states = newest[1].watches if newest is not None else {}
            for rule in view.plan.rules:
                names = [view.name, rule.name]
                threshold.add_metric(names, view.commands.thresholds.get(rule.name, rule.threshold))
                if rule.name in states:
                    active.add_metric(names, float(states[rule.name].active))
                    confidence.add_metric(names, states[rule.name].confidence)
                for kind in ("detected", "cleared"):
                    count = self._parts.results.event_counts[view.name, rule.name, kind]
                    events.add_metric([*names, kind], count)
        yield from (active, confidence, threshold, events)

    def _timings(self) -> Iterator[Metric]:
        results = self._parts.results
        for name, words, timings in (
            ("inference_duration_seconds", "Time of the runtime's invoke.", results.inference),
            ("frame_latency_seconds", "Time from a frame's delivery to its decision.", results.latency),
        ):
            family = HistogramMetricFamily(f"{_PREFIX}{name}", words, labels=_BY_PIPELINE)
            for view in self._parts.control.view():
                if view.name in timings:
                    family.add_metric([view.name], _buckets(timings[view.name]), timings[view.name].total_s)
            yield family

    def _page(self) -> Iterator[Metric]:
        yield _single("web_viewers", "Browsers that see live pictures.", self._viewers.count)
        previews = _counter("web_previews", "Pictures encoded for the page.", _BY_PIPELINE)
        for view in self._parts.control.view():
            previews.add_metric([view.name], self._previews.counts.get(view.name, 0))
        yield previews
        encoding = _counter("web_preview_encode_seconds", "CPU time of encoding pictures for the page.", ())
        encoding.add_metric([], self._previews.encoding_s)
        yield encoding
        logins = _counter("web_logins", "Logins by result.", ("result",))
        for result, count in self._access.logins.items():
            logins.add_metric([result], count)
        yield logins


def _teaching(figures: TeachingFigures) -> Iterator[Metric]:
    yield _single("training_running", "Whether a model is being trained.", figures.running)
    trainings = _counter("trainings", "Trainings since the daemon started.", ("result",))
    for result, count in figures.results.items():
        trainings.add_metric([result], count)
    yield trainings
    pictures = _gauge("taught_pictures", "Pictures of a taught model, those to sort included.", ("model",))
    for model, count in figures.pictures.items():
        pictures.add_metric([model], count)
    yield pictures


def _outbox_and_broker(health: Health) -> Iterator[Metric]:
    if (outbox := health.outbox) is not None:
        yield _single("outbox_events", "Events that the broker has not acknowledged.", outbox.depth)
        yield _single("outbox_oldest_event_age_seconds", "Age of the oldest of them.", outbox.oldest_age_s or 0.0)
        yield _total("outbox_sent_events", "Events acknowledged since the daemon started.", outbox.sent)
        yield _total("outbox_lost_events", "Events dropped since the daemon started.", outbox.lost)
        yield _single("outbox_durable", "Whether events survive a loss of power.", outbox.durable)
    if (mqtt := health.mqtt) is not None:
        yield _single("mqtt_connected", "Whether the broker is connected.", mqtt.connected_since_s is not None)
        yield _total("mqtt_reconnects", "Connections after the first.", mqtt.reconnects)
    yield _single("clock_synchronised", "Whether the wall clock was set from a time source.", health.clock_synchronised)


def _board(health: Health) -> Iterator[Metric]:
    board = health.board
    if board.temperature_c is not None:
        yield _single("board_temperature_celsius", "Temperature of the processor.", board.temperature_c)
    if board.disk_free_mb is not None:
        yield _single("disk_free_bytes", "Free space for the state directory.", board.disk_free_mb * 1e6)
    if board.throttling is not None:
        throttled = _gauge("board_throttled", "Whether the board is slowed down now.", ("cause",))
        now = board.throttling.now
        for cause in ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit"):
            if getattr(now, cause) is not None:
                throttled.add_metric([cause], float(getattr(now, cause)))
        yield throttled


def _edgetpus(health: Health) -> Iterator[Metric]:
    temperature = _gauge("edgetpu_temperature_celsius", "Temperature of an Edge TPU.", ("device",))
    clock = _gauge("edgetpu_clock_hertz", "Clock of an Edge TPU.", ("device",))
    tpus = {tpu.name: tpu for pipeline in health.pipelines for tpu in pipeline.edgetpus}
    for name, tpu in tpus.items():
        temperature.add_metric([name], tpu.temperature_c)
        clock.add_metric([name], tpu.clock_mhz * 1e6)
    yield from (temperature, clock)


def _buckets(timings: Timings) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    return list(zip(bounds, map(float, accumulate(timings.counts)), strict=True))


def _gauge(name: str, words: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, words, labels=labels)


def _counter(name: str, words: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, words, labels=labels)


def _single(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, words, value=float(value))


def _total(name: str, words: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, words, value=float(value))
