"""How long an event takes from the frame's delivery to the broker's acknowledgement, and what of that is inference.

usage: python bench/latency.py [--events 300] [--json]

Starts a mosquitto on a free loopback port and runs the real chain in this process (capture → classifier → events →
durable outbox → publisher → PUBACK) on two bundled photographs in turn, so that every frame makes an event.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.health.metrics import PipelineMetrics
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.retained_topics import RetainedTopics
from edge_classifierd.mqtt.topics import Topics
from edge_classifierd.pipeline.cameras import Cameras
from edge_classifierd.pipeline.classifiers import Classifiers
from edge_classifierd.pipeline.event_pictures import EventPictures
from edge_classifierd.pipeline.mqtt_sink import MqttSink
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.pipeline.rest import RestTimes
from edge_classifierd.pipeline.saved_state import SavedState
from edge_classifierd.pipeline.surroundings import Surroundings
from edge_classifierd.pipeline.watch_statistics import WatchStatistics
from edge_classifierd.pipeline.workers.model_workers import PipelineThreads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edge_classifierd.events.schema import Event, EventDraft

PHOTOS = Path(__file__).resolve().parents[1] / "edge_classifierd" / "demo_photos"


class TimedOutbox(Outbox):
    """Notes when each event's frame came, when it was durable, and when the broker had it."""

    def __init__(self, path: Path, topics: Topics) -> None:
        self.made: dict[int, tuple[float, float, float]] = {}
        self.total_ms: list[float] = []
        self.inference_ms: list[float] = []
        self.durable_ms: list[float] = []
        super().__init__(path, topic=lambda event: topics.event(event.pipeline), clock=SystemClock())

    def append(self, drafts: Sequence[EventDraft], state: Mapping[str, str | None] | None = None) -> tuple[Event, ...]:
        start = time.time()
        events = super().append(drafts, state)
        for event in events:
            assert event.seq is not None, self.trouble
            self.made[event.seq] = (event.time.timestamp(), event.inference_ms, (time.time() - start) * 1000)
        return events

    def acknowledge(self, positions: Iterable[int]) -> None:
        now, seqs = time.time(), list(positions)
        super().acknowledge(seqs)
        for seq in seqs:
            while seq not in self.made:  # the broker was faster than the return of `append`
                time.sleep(0.0001)
            frame, inference_ms, durable_ms = self.made.pop(seq)
            self.total_ms.append((now - frame) * 1000)
            self.inference_ms.append(inference_ms)
            self.durable_ms.append(durable_ms)


def a_broker(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    binary = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if binary is None:
        raise SystemExit("mosquitto is not installed; apt-get install mosquitto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    (folder / "mosquitto.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([binary, "-c", str(folder / "mosquitto.conf")], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    return process, port


def measure(folder: Path, port: int, events: int) -> dict[str, float]:
    photos = folder / "photos"
    photos.mkdir()
    for number, photo in enumerate(("cat", "coffee")):
        shutil.copy(PHOTOS / f"{photo}.jpg", photos / f"{number}.jpg")
    source = {"type": "folder", "path": str(photos), "fps": 20, "loop": True}
    watch = {"name": "cat", "labels": ["*cat*"], "threshold": 0.5, "release": 0.3}
    off = {"enabled": False}
    one = {"name": "bench", "source": source, "watches": [watch], "snapshot": off}
    (folder / "config.yaml").write_text(json.dumps({"mqtt": {"host": "127.0.0.1", "port": port}, "pipelines": [one]}))
    document = load(folder / "config.yaml")
    (plan,) = preflight(document)
    clock = SystemClock()
    topics = Topics("bench", "bench")
    outbox = TimedOutbox(folder / "outbox.sqlite3", topics)
    session = MqttClient(document.configuration.mqtt, topics=topics, clock=clock)
    publisher = Publisher(outbox, session, clock)
    states = RetainedTopics(session, clock)
    tally = WatchStatistics(outbox, topics, states, clock)
    outlet = MqttSink(
        topics,
        outbox,
        states,
        tally,
        snapshots=folder,
        event_pictures=EventPictures(folder / "event-pictures", folder / "outbox.sqlite3", clock, most=500),
        after_events=publisher.after_events,
    )
    heartbeats = Heartbeats(clock)
    surroundings = Surroundings(
        device="bench",
        sink=outlet,
        heartbeats=heartbeats,
        saved_state=SavedState(outbox, folder / "state.json", clock),
        clock=clock,
        rest_times=RestTimes(clock),
        cameras=Cameras(clock),
        threads=PipelineThreads(heartbeats),
    )
    pipeline = Pipeline(plan, Classifiers().get(plan), PipelineMetrics(clock), surroundings)
    session.start()
    publisher.start()
    while not session.connected:
        time.sleep(0.01)
    outlet.publish_settings(plan, enabled=True, thresholds={}, region=plan.region)
    pipeline.start()
    while len(outbox.total_ms) < events:
        time.sleep(0.1)
    pipeline.stop(2)
    publisher.stop()
    session.stop()
    outbox.close()
    beyond = [total - inference for total, inference in zip(outbox.total_ms, outbox.inference_ms, strict=True)]
    return {
        "events": len(beyond),
        "total_ms": round(statistics.median(outbox.total_ms), 2),
        "inference_ms": round(statistics.median(outbox.inference_ms), 2),
        "durable_ms": round(statistics.median(outbox.durable_ms), 2),
        "beyond_inference_ms": round(statistics.median(beyond), 2),
        "beyond_inference_p95_ms": round(statistics.quantiles(beyond, n=20)[18], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        broker, port = a_broker(Path(name))
        try:
            result = measure(Path(name), port, options.events)
        finally:
            broker.terminate()
            broker.wait()
    if options.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:<26} {value}")


if __name__ == "__main__":
    main()
