"""Devices for bench/fleet.py: the delivery parts of many daemons in one process, without camera and classifier."""

from __future__ import annotations

import itertools
import logging
import os
import random
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from edge_classifierd.clock import SystemClock
from edge_classifierd.daemon.health_reporter import HealthReporter
from edge_classifierd.daemon.home_assistant import HomeAssistantDevice
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.pipeline_state import PipelineState
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, RankedLabel
from edge_classifierd.health.board import Board
from edge_classifierd.health.health_file import HealthFile
from edge_classifierd.health.metrics import PipelineMetrics
from edge_classifierd.mqtt import client as mqtt_client
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.command_queue import CommandQueue
from edge_classifierd.mqtt.own_topics import OwnTopicMonitor
from edge_classifierd.mqtt.published_topics import PublishedTopics
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.retained_topics import RetainedTopics
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.event_pictures import EventPictures
from edge_classifierd.pipeline.mqtt_sink import MqttSink
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.pipeline.planning.validation import plan_pipelines
from edge_classifierd.pipeline.watch_statistics import WatchStatistics
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from edge_classifierd.config.sections.configuration import Configuration

TURN_S: Final = 5.0
"""Interval of a device's housekeeping; four times a second in the daemon, which has a machine of its own."""
CLIENT_TURN_S: Final = 2.5
"""The same for the MQTT client's listeners, also four times a second there. Messages do not wait for it."""
_SAMPLE_S: Final = 0.5
_LABEL: Final = "Labrador retriever"
_CONFIGURATION: Final = """
pipelines:
  - name: driveway
    source: {type: folder, path: /tmp}
    watches: [{name: dog, labels: ["Labrador retriever"], threshold: 0.6}]
"""


@dataclass(frozen=True, slots=True)
class Share:
    """The devices of one process."""

    folder: Path
    names: tuple[str, ...]
    passwords: dict[str, str]
    mqtt: dict[str, Any]
    """Keys of the section `mqtt` that all devices have in common."""
    rate: float
    """Events per second of all devices of this process together."""
    starts: float
    """Devices that are started in each second."""
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The devices of one process at one moment."""

    at_s: float
    connected: int
    depth: int
    """Events that wait in all outboxes together."""
    deepest: int
    """The same in the fullest one."""
    resident_mb: float
    cpu_s: float
    reconnects: int


@dataclass(frozen=True, slots=True)
class Appended:
    """An event, and when its append was called and returned, in seconds of the monotonic clock."""

    device: str
    seq: int
    event_id: str
    called_s: float
    durable_s: float


@dataclass(slots=True)
class _Pipeline:
    """What health reads of a pipeline."""

    name: str
    plan: Plan
    metrics: PipelineMetrics
    online: bool = True
    resting: bool = False
    finished: bool = False
    enabled: bool = True
    offline_reason: str | None = None
    temperatures: tuple[()] = field(default=())

    def refresh_metrics(self) -> None:
        self.metrics.classified(inference_ms=12.0, latency_ms=20.0)


class Device:
    """The delivery parts of a daemon, put together as `daemon/service.py` does."""

    def __init__(self, folder: Path, configuration: Configuration, plan: Plan) -> None:
        folder.mkdir()
        clock = SystemClock()
        self.name = configuration.device.id
        self._plan, self._clock = plan, clock
        self._topics = topics = Topics(configuration.mqtt.base_topic, self.name)
        path = folder / "outbox.sqlite3"
        self.outbox = Outbox(path, topic=lambda event: topics.event(event.pipeline), clock=clock)
        self._published = PublishedTopics(folder / "published.json", topics.base)
        self.client = MqttClient(configuration.mqtt, topics=topics, clock=clock, published=self._published)
        self._monitor = monitor = OwnTopicMonitor(self.client, topics, clock)
        board = Board(clock, state=folder)
        self._home_assistant = HomeAssistantDevice(
            self.client,
            topics,
            configuration,
            board.read(),
            clock,
            state=folder,
            published=self._published,
            publish_states=self._repeat_states,
        )
        self._states = RetainedTopics(self.client, clock)
        self._statistics = WatchStatistics(self.outbox, topics, self._states, clock)
        self.publisher = Publisher(self.outbox, self.client, clock, monitor=monitor)
        self._sink = MqttSink(
            topics,
            self.outbox,
            self._states,
            self._statistics,
            snapshots=folder / "snapshots",
            event_pictures=EventPictures(folder / "event-pictures", path, clock, most=0),
            after_events=self.publisher.after_events,
        )
        self._health = HealthReporter(
            outbox=self.outbox,
            session=self.client,
            publisher=self.publisher,
            states=self._states,
            own_topics=monitor,
            board=board,
            clock=clock,
            file=HealthFile(folder),
        )
        self._commands = CommandQueue(self.client, topics, {"driveway": frozenset({"dog"})}, clock)
        self._pipeline: Any = _Pipeline("driveway", plan, PipelineMetrics(clock))
        self._on = False

    def start(self) -> None:
        plan = self._plan
        self._home_assistant.announce([plan])
        self.client.start()
        self.publisher.start()
        self._sink.publish_settings(plan, enabled=True, region=Region(), thresholds={"dog": 0.6})
        self._sink.publish_status(plan, online=True)
        self._publish_states()
        self.turn()

    def event(self) -> Appended:
        """Report a detection or, in turn, its end."""
        self._on = not self._on
        bundle = self._plan.bundle
        draft = EventDraft(
            type=EventType.DETECTED if self._on else EventType.CLEARED,
            device=self.name,
            pipeline="driveway",
            watch="dog",
            label=_LABEL,
            confidence=0.8342,
            top=_top(),
            time=self._clock.utc(),
            clock_synchronised=True,
            model=ModelIdentity(bundle.name, bundle.sha256, "ai-edge-litert 2.3.0", "cpu"),
            inference_ms=5.1,
            active_s=None if self._on else 12.5,
        )
        called_s = time.monotonic()
        (event,) = self._sink.store_events([draft], {"watch/driveway/dog": "on" if self._on else None})
        durable_s = time.monotonic()
        self._publish_states()
        if event.seq is None:
            raise RuntimeError(f"{self.name}: the disk did not take an event: {self.outbox.trouble}")
        return Appended(self.name, event.seq, event.event_id, called_s, durable_s)

    def turn(self) -> None:
        """Do what the daemon's main loop does."""
        while self._commands.take() is not None:
            pass
        self._health.tick(self._topics.health, [self._pipeline])
        self._statistics.tick()
        self._published.save()
        self._home_assistant.tick()

    def close(self) -> None:
        self.publisher.stop()
        self.client.stop()
        self.outbox.close()

    def _repeat_states(self) -> None:
        self._monitor.publish_online()
        self._states.repeat()

    def _publish_states(self) -> None:
        active = ("dog",) if self._on else ()
        state = PipelineState(label=_LABEL, confidence=0.8342, top=_top(), active=active, since=self._clock.utc())
        self._sink.publish_watches(self._plan, frozenset(active))
        self._sink.publish_state(self._plan, state)


def run(share: Share, pipe: Connection) -> None:
    """Run the devices of a process.

    Sends its resident memory without devices, `made`, then a Sample twice a second. Receives `events` (begin), `quiet`
    (no more events) and `end`; then the list of all events is sent.
    """
    logging.disable(logging.WARNING)  # each device logs each loss of its connection
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    share.folder.mkdir()
    plan, configuration = _configuration(share.folder)
    pipe.send(_resident_mb())
    devices = _devices(share, configuration, plan)
    pipe.send("made")
    os.nice(5)  # the brokers go first: devices have processors of their own
    mqtt_client._TICK_S = CLIENT_TURN_S
    appended: list[Appended] = []
    dice = random.Random(share.seed)  # noqa: S311 - no secret
    started = 0
    now_s = time.monotonic()
    start_s, turn_s, sample_s, event_s, making = now_s, now_s, now_s, now_s, False
    turns = itertools.cycle(devices)
    while True:
        now_s = time.monotonic()
        order = pipe.recv() if pipe.poll() else None
        if order == "end":
            break
        if order is not None:
            making, event_s = order == "events", now_s
        if making and now_s >= event_s:
            appended.append(dice.choice(devices).event())
            event_s += dice.expovariate(share.rate)
        if started < len(devices) and now_s >= start_s + started / share.starts:
            devices[started].start()
            started += 1
        if started == len(devices) and now_s >= turn_s:
            next(turns).turn()
            turn_s = max(turn_s + TURN_S / len(devices), now_s - 1.0)
        if now_s >= sample_s:
            pipe.send(_sample(devices))
            sample_s = now_s + _SAMPLE_S
        next_s = min(turn_s, sample_s, event_s if making else sample_s)
        time.sleep(min(0.05, max(0.0, next_s - time.monotonic())))
    with ThreadPoolExecutor(32) as closers:
        list(closers.map(Device.close, devices))
    pipe.send(appended)
    pipe.close()


def _configuration(folder: Path) -> tuple[Plan, Configuration]:
    os.environ["STATE_DIRECTORY"] = str(folder)
    file = folder / "config.yaml"
    file.write_text(_CONFIGURATION)
    document, (plan,) = plan_pipelines(file)
    assert isinstance(plan, Plan)
    return plan, document.configuration


def _devices(share: Share, configuration: Configuration, plan: Plan) -> list[Device]:
    hosts = list(share.mqtt["host"])
    devices = []
    for number, name in enumerate(share.names):
        first = number % len(hosts)
        mqtt = type(configuration.mqtt).model_validate({**share.mqtt, "host": hosts[first:] + hosts[:first]})
        mqtt = mqtt.model_copy(update={"username": name, "password": SecretStr(share.passwords[name])})
        about = configuration.device.model_copy(update={"id": name, "name": f"Device {name}"})
        own = configuration.model_copy(update={"device": about, "mqtt": mqtt})
        devices.append(Device(share.folder / name, own, plan))
    return devices


def _sample(devices: list[Device]) -> Sample:
    depths = [device.outbox.depth for device in devices]
    used = os.times()
    return Sample(
        at_s=time.monotonic(),
        connected=sum(device.client.connected for device in devices),
        depth=sum(depths),
        deepest=max(depths),
        resident_mb=_resident_mb(),
        cpu_s=used.user + used.system,
        reconnects=sum(max(0, device.client.connections - 1) for device in devices),
    )


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _top() -> tuple[RankedLabel, ...]:
    return tuple(RankedLabel(208 + place, _LABEL, 0.5 / (place + 1)) for place in range(5))
