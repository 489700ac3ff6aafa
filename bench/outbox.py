"""Outbox figures: durable appends per second and their latency, draining by pages, memory while many events wait.

    python bench/outbox.py [--events 100000] [--threads 4] [--directory DIR] [--json]

The latency is that of single-event appends, one thread, with nothing else pending: each waits for the disk by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from edge_classifierd.clock import SystemClock
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, RankedLabel


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
    waiting_mb = resident_mb()
    started = time.perf_counter()
    drained = cursor = 0
    while rows := outbox.pending(cursor, 200):
        cursor = rows[-1].seq
        drained += len(rows)
        outbox.acknowledge(row.seq for row in rows)
    drain_per_s = drained / (time.perf_counter() - started)
    drained_mb = resident_mb()
    outbox.close()
    quantiles = statistics.quantiles(latencies, n=1000)
    return {
        "append_per_s": round(single_per_s),
        "append_shared_per_s": round(shared_per_s),
        "append_ms_p50": round(quantiles[499], 3),
        "append_ms_p99": round(quantiles[989], 3),
        "append_ms_max": round(max(latencies), 3),
        "waiting_events": drained,
        "page_and_acknowledge_per_s": round(drain_per_s),
        "idle_mb": round(idle_mb, 1),
        "waiting_extra_mb": round(waiting_mb - idle_mb, 1),
        "drained_extra_mb": round(drained_mb - idle_mb, 1),
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
