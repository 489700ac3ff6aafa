"""The pipelines of a device with fake cameras and a fake broker; all other parts are real."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import yaml
from moving_pictures import picture

from edge_classifierd.clock import SystemClock
from edge_classifierd.daemon.pipelines import Pipelines
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.frames.base import Frame
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.inference.trial import ModelTrials
from edge_classifierd.mqtt.refusals import Refusals
from edge_classifierd.mqtt.retained_topics import RetainedTopics
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.cameras import Cameras
from edge_classifierd.pipeline.event_pictures import EventPictures
from edge_classifierd.pipeline.mqtt_sink import MqttSink
from edge_classifierd.pipeline.planning.validation import plan_pipelines
from edge_classifierd.pipeline.rest import RestTimes
from edge_classifierd.pipeline.saved_state import SavedState
from edge_classifierd.pipeline.surroundings import Surroundings
from edge_classifierd.pipeline.watch_statistics import WatchStatistics
from edge_classifierd.pipeline.workers.model_workers import PipelineThreads

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.mqtt.client import MqttClient
    from edge_classifierd.mqtt.message import Listener, Message
    from edge_classifierd.pipeline.observation.observer import ResultObserver
    from edge_classifierd.pipeline.observation.tap import FrameTap
    from edge_classifierd.pipeline.planning.plan import AnyPlan

BASE = "edge-classifierd/porch"


class FakeBroker:
    """Replaces the MQTT client and records what a broker would retain."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.sent: list[tuple[str, bytes]] = []
        self.refusals = Refusals(SystemClock())

    def publish(self, message: Message) -> bool:
        self.sent.append((message.topic, message.payload))
        if message.payload:
            self.retained[message.topic] = message.payload
        else:
            self.retained.pop(message.topic, None)
        return True

    def add_listener(self, listener: Listener) -> None:
        pass


class Camera:
    """Delivers the same picture again and again. `trouble` is an exception to raise, `deaf` makes `read` hang."""

    skipped = 0
    pauses_until_s = -inf

    def __init__(self, pipeline: str, *, live: bool) -> None:
        self.pipeline = pipeline
        self.live = live
        self.trouble: BaseException | None = None
        self.deaf = False
        self.heals = threading.Event()
        self.opened = self.closed = 0
        self.ends = False
        self._cancelled = threading.Event()
        self._picture = picture(100, noise=True)

    def open(self) -> None:
        self.opened += 1

    def read(self) -> Frame | None:
        if self.ends:
            return None
        if self.deaf:
            self.heals.wait(10)
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        self._cancelled.wait(0.02)
        return Frame(self._picture, 1, time.monotonic(), datetime.now(UTC))

    def close(self) -> None:
        self.closed += 1
        self._cancelled.clear()

    def cancel(self) -> None:
        self._cancelled.set()


def until(condition: Callable[[], Any], timeout_s: float = 15.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not become true"
        time.sleep(0.01)


class WallClock(SystemClock):
    """The clock for `active` times, which a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 11, 28, 12, tzinfo=UTC)
        self.since_boot_s = 1000.0
        self.is_synchronised = True

    def utc(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.since_boot_s

    def synchronised(self) -> bool:
        return self.is_synchronised

    def set_to(self, hour: int, minute: int = 0) -> None:
        self.now = self.now.replace(hour=hour, minute=minute)


class Scene:
    """The pipelines of the device `porch`; a context manager that starts and stops them."""

    def __init__(
        self,
        folder: Path,
        *pipelines: dict[str, Any],
        cameras: tuple[str, ...] = (),
        tap: FrameTap | None = None,
        observer: ResultObserver | None = None,
    ) -> None:
        self.folder = folder
        self.configured_cameras = [
            {"name": name, "source": {"type": "v4l2", "device": f"/dev/{name}"}} for name in cameras
        ]
        self.clock = SystemClock()
        self.wall_clock = WallClock()
        self.broker = FakeBroker()
        self.cameras: list[Camera] = []
        self.live = True
        topics = Topics("edge-classifierd", "porch")
        self.states = RetainedTopics(cast("MqttClient", self.broker), self.clock, min_interval_s=0.0)
        self.outbox = Outbox(folder / "outbox.sqlite3", topic=lambda event: event.pipeline, clock=self.clock)
        self.statistics = WatchStatistics(self.outbox, topics, self.states, self.clock)
        self.saved_state = SavedState(self.outbox, folder / "state.json", self.clock)
        self.sink = MqttSink(
            topics,
            self.outbox,
            self.states,
            self.statistics,
            snapshots=folder / "snapshots",
            event_pictures=EventPictures(folder / "event-pictures", folder / "outbox.sqlite3", self.clock, most=500),
            after_events=lambda call: call(),
        )
        self.heartbeats = Heartbeats(self.clock)
        self.around = Surroundings(
            device="porch",
            sink=self.sink,
            heartbeats=self.heartbeats,
            saved_state=self.saved_state,
            clock=self.clock,
            rest_times=RestTimes(self.wall_clock, UTC),
            cameras=Cameras(self.clock, self._camera, tap),
            threads=PipelineThreads(self.heartbeats),
            observer=observer,
        )
        self.trials = ModelTrials(folder / "models.json", self.clock)
        self.pipelines = Pipelines(self.plans(*pipelines), self.around, self.sink, self.trials)

    def __enter__(self) -> Self:
        self.pipelines.start()
        until(self.tried)
        return self

    def __exit__(self, *_: object) -> None:
        self.pipelines.stop(1.0)
        self.pipelines.close()
        self.outbox.close()

    def tried(self) -> bool:
        self.pipelines.tick()
        return self.pipelines.tried

    def execute(self, command: Any) -> None:
        """Execute a command and store it without the pause between two stores."""
        self.pipelines.execute(command)
        self.pipelines.store_commands(at_once=True)

    def plans(self, *pipelines: dict[str, Any]) -> tuple[AnyPlan, ...]:
        config = self.folder / "config.yaml"
        data = {"cameras": self.configured_cameras, "pipelines": list(pipelines)}
        config.write_text(yaml.safe_dump(data, sort_keys=False))
        _, plans = plan_pipelines(config)
        return plans

    def change_to(self, *pipelines: dict[str, Any]) -> int:
        return self.pipelines.change_to(self.plans(*pipelines))

    def retained(self, pipeline: str) -> dict[str, bytes]:
        """Return the retained messages of a pipeline, by the last part of the topic."""
        start = f"{BASE}/{pipeline}/"
        return {topic[len(start) :]: value for topic, value in self.broker.retained.items() if topic.startswith(start)}

    def remove_topics(self) -> None:
        """Remove withdrawn topics now, instead of after some seconds."""
        for topic in self.states._removals:
            self.states._removals[topic] = 0.0
        self.states.tick()

    def camera(self, pipeline: str) -> Camera:
        """Return the newest camera of that pipeline; `cameras` is in the order of the thread starts."""
        return next(camera for camera in reversed(self.cameras) if camera.pipeline == pipeline)

    def _camera(self, source: Any, *_: object) -> Any:
        self.cameras.append(Camera(Path(source.device).name, live=self.live))
        return self.cameras[-1]


def pipeline(name: str = "driveway", *watches: str, **keys: Any) -> dict[str, Any]:
    """Return a pipeline section with watches of these names, which never detect anything."""
    source = {"type": "v4l2", "device": f"/dev/{name}"}
    listed = [{"name": watch, "labels": [281], "threshold": 0.99} for watch in watches]
    return {"name": name, "source": source, "model": {"threads": 1}, "watches": listed, **keys}
