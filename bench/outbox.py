"""Outbox figures: durable appends per second and their latency, memory while many events wait, draining to a mosquitto.

    python bench/outbox.py [--events 100000] [--threads 4] [--directory DIR] [--json]

The latency of appending is that of single events, one thread, nothing else pending: each waits for the disk by itself.
`append_to_puback_ms` is from the call of append to the outbox's knowing of the acknowledgement. Without a mosquitto on
this machine the figures of draining are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.mqtt import MqttSection
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, RankedLabel
from edge_classifierd.mqtt.client import MqttClient
from edge_classifierd.mqtt.publisher import Publisher
from edge_classifierd.mqtt.topics import Topics

BINARIES = f"{os.environ.get('PATH', '')}:/usr/sbin"


def draft(clock: SystemClock, pipeline: str) -> EventDraft:
    return EventDraft(
        type=EventType.DETECTED,
        device="bench",
        pipeline=pipeline,
        watch="dog",
        label="Labrador retriever",
        confidence=0.8342,
        top=tuple(RankedLabel(208 + i, "Labrador retriever", 0.5 / (i + 1)) for i in range(3)),
        time=clock.utc(),
        clock_synchronised=True,
        model=ModelIdentity("efficientnet_lite0_int8", "0" * 64, "ai-edge-litert 2.3.0", "cpu"),
        inference_ms=5.1,
    )


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(directory: Path, events: int, threads: int) -> dict[str, float]:
    clock = SystemClock()
    outbox = Outbox(directory / "outbox.sqlite3", topic=lambda event: f"bench/{event.pipeline}/event", clock=clock)
    for _ in range(50):
        outbox.append([draft(clock, "warm")])
    idle_mb = resident_mb()
    latencies = []
    started = time.perf_counter()
    for _ in range(2000):
        one = draft(clock, "single")
        before = time.perf_counter()
        outbox.append([one])
        latencies.append((time.perf_counter() - before) * 1000)
    single_per_s = len(latencies) / (time.perf_counter() - started)

    def produce(name: str) -> None:
        for _ in range(2000):
            outbox.append([draft(clock, name)])

    workers = [threading.Thread(target=produce, args=(f"p{i}",)) for i in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    shared_per_s = 2000 * threads / (time.perf_counter() - started)
    while outbox.depth < events:
        outbox.append([draft(clock, "fill") for _ in range(min(200, events - outbox.depth))])
    outbox.pending(0, 200)
    waiting, waiting_mb = outbox.depth, resident_mb()
    drained = drain(directory, outbox, clock) if shutil.which("mosquitto", path=BINARIES) else {}
    outbox.close()
    quantiles = statistics.quantiles(latencies, n=1000)
    return {
        "append_per_s": round(single_per_s),
        "append_shared_per_s": round(shared_per_s),
        "append_ms_p50": round(quantiles[499], 3),
        "append_ms_p99": round(quantiles[989], 3),
        "append_ms_max": round(max(latencies), 3),
        "waiting_events": waiting,
        "idle_mb": round(idle_mb, 1),
        "waiting_extra_mb": round(waiting_mb - idle_mb, 1),
        **drained,
    }


def wait_for_empty(outbox: Outbox, step_s: float) -> None:
    while outbox.depth:
        time.sleep(step_s)


def drain(directory: Path, outbox: Outbox, clock: SystemClock) -> dict[str, float]:
    """To a mosquitto with its own defaults (receive maximum 20)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = directory / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    binary = shutil.which("mosquitto", path=BINARIES) or ""
    broker = subprocess.Popen([binary, "-c", str(configuration)], stderr=subprocess.DEVNULL)
    session = MqttClient(MqttSection(host="127.0.0.1", port=port), topics=Topics("bench", "bench"), clock=clock)
    publisher = Publisher(outbox, session, clock)
    time.sleep(0.5)
    waiting = outbox.depth
    session.start()
    while not session.connected:
        time.sleep(0.005)
    started = time.perf_counter()
    publisher.start()
    wait_for_empty(outbox, 0.005)
    seconds = time.perf_counter() - started
    resident = resident_mb()
    latencies = []
    for _ in range(500):
        before = time.perf_counter()
        outbox.append([draft(clock, "single")])
        wait_for_empty(outbox, 0.0002)
        latencies.append((time.perf_counter() - before) * 1000)
    publisher.stop()
    session.stop()
    broker.terminate()
    broker.wait()
    return {
        "drain_per_s": round(waiting / seconds),
        "drained_mb": round(resident, 1),
        "append_to_puback_ms_p50": round(statistics.median(latencies), 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=100_000, help="how many wait at once")
    parser.add_argument("--threads", type=int, default=4, help="pipelines that append at once")
    parser.add_argument("--directory", type=Path, default=Path(), help="on the disk to measure")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="outbox-bench-") as directory:
        figures = measure(Path(directory), arguments.events, arguments.threads)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value:>10}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
