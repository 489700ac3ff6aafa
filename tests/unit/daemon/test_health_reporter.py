"""The vitals: what health says, and how soon it says that something has changed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from edge_classifierd import __version__
from edge_classifierd.daemon.health_reporter import HealthReporter
from edge_classifierd.health.board import BoardState
from edge_classifierd.health.metrics import PipelineMetrics, Reason
from edge_classifierd.mqtt.connection_errors import Endpoint

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.health.board import Board
    from edge_classifierd.health.health_file import HealthFile
    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
    from edge_classifierd.mqtt.publisher import Publisher
    from edge_classifierd.mqtt.retained_topics import RetainedTopics


class OnePipeline:
    """A pipeline as the vitals see it."""

    name = "driveway"
    online = True
    offline_reason: str | None = None
    enabled = True
    finished = False
    resting = False
    plan = None  # without a usable model
    temperatures = (("pci:0", SimpleNamespace(temperature_c=61.25, clock_mhz=500.0)),)

    def __init__(self, clock: Clock) -> None:
        self.metrics = PipelineMetrics(clock)
        self.refreshed = 0

    def refresh_metrics(self) -> None:
        self.refreshed += 1


class Daemon:
    """Stands for the clock and everything that the vitals ask."""

    def __init__(self, volatile: str | None = None) -> None:
        self.now_s = 1000.0
        self.said: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.written: list[dict[str, Any]] = []
        lost = {"age": 3, "count": 4}
        self.outbox = SimpleNamespace(lost=lost, depth=5, durable=True, trouble=None, oldest_age_s=7.5)
        self.session = SimpleNamespace(
            connection=None,
            connections=0,
            status_sentence="connecting to b:1883",
            endpoint=Endpoint("b", 1883, tls=False, username=None, client_id="c", protocol="5"),
            reasons=(),
            local_address="192.0.2.7",
        )
        self.own_topics = SimpleNamespace(reasons=())
        self.publisher = SimpleNamespace(delivered=11)
        self.pipeline = OnePipeline(cast("Clock", self))
        self.vitals = HealthReporter(
            outbox=cast("Outbox", self.outbox),
            session=cast("MqttClient", self.session),
            publisher=cast("Publisher", self.publisher),
            states=cast("RetainedTopics", self),
            own_topics=cast("OwnTopicMonitor", self.own_topics),
            board=cast("Board", SimpleNamespace(read=lambda: BoardState(None, 45.0, None, None, None, None, None))),
            clock=cast("Clock", self),
            file=cast("HealthFile", self),
            volatile=volatile,
        )

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC)

    def synchronised(self) -> bool:
        return True

    def set(self, topic: str, payload: bytes, **manner: Any) -> None:
        self.said.append((topic, json.loads(payload), manner))

    def write(self, document: bytes) -> None:
        self.written.append(json.loads(document))

    def after(self, seconds: float) -> list[dict[str, Any]]:
        """What is said when so much time has passed."""
        self.now_s += seconds
        self.said.clear()
        self.vitals.tick("base/health", [self.pipeline])  # type: ignore[list-item]
        return [document for _, document, _ in self.said]


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


def test_health_is_said_at_once_and_then_every_30_seconds(daemon: Daemon) -> None:
    assert len(daemon.after(2.0)) == 1
    topic, _, manner = daemon.said[0]
    assert (topic, manner) == ("base/health", {"content_type": "application/json", "schema": 1, "qos": 0})
    assert [len(daemon.after(1.0)) for _ in range(61)] == ([0] * 29 + [1]) * 2 + [0]


def test_a_trouble_is_said_within_a_second_and_so_is_its_end(daemon: Daemon) -> None:
    daemon.after(0)
    daemon.pipeline.metrics.degrade("edgetpu", "it is hot; cool it")
    assert daemon.after(0.9) == [], "it looks once a second"
    (told,) = daemon.after(0.1)
    assert told["reasons"] == ["driveway: it is hot; cool it"]
    assert daemon.after(1.0) == []
    daemon.pipeline.metrics.degrade("edgetpu", "it is 1 °C hotter; cool it")
    assert daemon.after(1.0) == [], "another wording of the same trouble can wait"
    daemon.pipeline.metrics.recover("edgetpu")
    (told,) = daemon.after(1.0)
    assert told["degraded"] is False


def test_a_first_figure_is_said_within_a_second_and_its_changes_are_not(daemon: Daemon) -> None:
    (told,) = daemon.after(0)
    assert told["pipelines"]["driveway"]["accelerator"] is None
    daemon.pipeline.metrics.set_accelerator("cpu")
    (told,) = daemon.after(1.0)
    assert told["pipelines"]["driveway"]["accelerator"] == "cpu"
    daemon.pipeline.metrics.classified(inference_ms=5.0, latency_ms=9.0)
    (told,) = daemon.after(1.0)
    assert told["pipelines"]["driveway"]["inference_ms"]["p50"] == 5.0
    assert told["pipelines"]["driveway"]["fps"] is not None
    daemon.pipeline.metrics.classified(inference_ms=6.0, latency_ms=9.0)
    assert daemon.after(1.0) == []


def test_the_document_tells_what_each_part_says(daemon: Daemon) -> None:
    daemon.outbox.lost = {"age": 4, "count": 6}
    daemon.now_s += 60
    daemon.vitals.health([])
    daemon.session.connection, daemon.session.connections = 1, 1
    daemon.vitals.health([])
    (told,) = daemon.after(2.5)
    assert (told["version"], told["uptime_s"], told["clock_synchronised"]) == (__version__, 62.5, True)
    assert told["outbox"] == {"depth": 5, "lost": 3, "sent": 11, "durable": True, "oldest_age_s": 7.5}
    assert told["mqtt"] == {
        "connected_since_s": 2.5,
        "reconnects": 0,
        "broker": "b:1883",
        "protocol": "5",
        "reasons": [],
    }
    assert told["board"]["temperature_c"] == 45.0
    assert (told["address"], told["configuration_sha256"]) == ("192.0.2.7", None)
    assert told["pipelines"]["driveway"]["model"] is None
    assert told["pipelines"]["driveway"]["status"] == "online"
    assert told["pipelines"]["driveway"]["edgetpus"] == {"pci:0": {"temperature_c": 61.2, "clock_mhz": 500.0}}
    assert daemon.pipeline.refreshed == 1
    daemon.pipeline.online, daemon.pipeline.offline_reason = False, "no such device; connect it"
    (told,) = daemon.after(1.0)
    assert told["pipelines"]["driveway"]["status"] == "offline"
    assert told["reasons"] == ["driveway: no such device; connect it"]


def test_each_connection_counts_from_its_own_beginning(daemon: Daemon) -> None:
    def connected() -> tuple[float | None, int]:
        (health,) = [daemon.vitals.health([])]
        assert health.mqtt is not None
        return health.mqtt.connected_since_s, health.mqtt.reconnects

    assert connected() == (None, 0)
    daemon.session.connection = daemon.session.connections = 1
    assert connected() == (0.0, 0)
    daemon.now_s += 10
    assert connected() == (10.0, 0)
    daemon.session.connection = None
    assert connected() == (None, 0)
    daemon.now_s += 5
    daemon.session.connection = daemon.session.connections = 2
    assert connected() == (0.0, 1)
    daemon.session.connection = daemon.session.connections = 4
    daemon.now_s += 5
    assert connected() == (0.0, 3), "two were lost between two looks"


@pytest.mark.parametrize(
    ("volatile", "durable", "trouble", "reason"),
    [
        (None, True, None, None),
        (None, False, "disk full; free some", "disk full; free some"),
        ("in memory; move it", True, None, "in memory; move it"),
        ("in memory; move it", False, "disk full; free some", "disk full; free some"),
    ],
)
def test_an_outbox_that_would_lose_events_is_a_trouble_and_the_reason_is_told(
    volatile: str | None, durable: bool, trouble: str | None, reason: str | None
) -> None:
    daemon = Daemon(volatile)
    daemon.outbox.durable, daemon.outbox.trouble = durable, trouble
    (told,) = daemon.after(0)
    assert told["outbox"]["durable"] is (reason is None)
    expected = [] if reason is None else [f"events would not survive a loss of power: {reason}"]
    assert told["reasons"] == expected


def test_trouble_with_the_broker_and_with_own_topics_is_a_reason(daemon: Daemon) -> None:
    daemon.after(0)
    daemon.session.reasons = (Reason("broker.refused", "b:1883: the broker refuses messages; check its ACL"),)
    daemon.own_topics.reasons = (Reason("device.same_id", "b:1883: another device; change the id"),)
    (told,) = daemon.after(1.0)
    sentences = ["b:1883: the broker refuses messages; check its ACL", "b:1883: another device; change the id"]
    assert told["reasons"] == told["mqtt"]["reasons"] == sentences
    daemon.session.reasons = daemon.own_topics.reasons = ()
    (told,) = daemon.after(1.0)
    assert told["degraded"] is False


def test_the_first_rate_is_said_within_a_second(daemon: Daemon) -> None:
    (told,) = daemon.after(0)
    assert told["pipelines"]["driveway"]["fps"] is None
    (told,) = daemon.after(1.0)
    assert told["pipelines"]["driveway"]["fps"] == 0.0
    assert daemon.after(1.0) == []


def test_a_figure_that_is_no_longer_known_can_wait(daemon: Daemon) -> None:
    daemon.pipeline.metrics.classified(inference_ms=5.0, latency_ms=9.0)
    daemon.after(2.0)
    said = [daemon.after(1.0) for _ in range(80)]
    assert [at_s for at_s, documents in enumerate(said, 1) if documents] == [30, 60]
    (last,) = daemon.after(10.0)
    assert last["pipelines"]["driveway"]["inference_ms"]["p50"] is None


def test_a_camera_that_is_switched_off_is_offline_without_a_trouble(daemon: Daemon) -> None:
    daemon.pipeline.online = False
    (told,) = daemon.after(0)
    assert (told["pipelines"]["driveway"]["status"], told["degraded"]) == ("offline", False)


def test_a_lost_connection_and_a_camera_that_delivers_again_are_said_within_a_second(daemon: Daemon) -> None:
    daemon.after(0)
    daemon.session.connection = daemon.session.connections = 1
    (told,) = daemon.after(1.0)
    assert told["mqtt"]["connected_since_s"] == 0.0
    assert daemon.after(1.0) == []
    daemon.session.connection = None
    assert len(daemon.after(1.0)) == 1
    daemon.pipeline.online = False
    (told,) = daemon.after(1.0)
    assert told["pipelines"]["driveway"]["status"] == "offline"
    assert told["reasons"] == [], "it is meant to be offline"


def test_the_file_holds_what_was_published(daemon: Daemon) -> None:
    first = daemon.after(0)
    assert daemon.written == first
    daemon.after(1.0)
    daemon.after(1.0)
    assert len(daemon.written) == 2, "not once a second: the first rate, and then nothing new"
    assert daemon.after(30.0) == [daemon.written[-1]]
