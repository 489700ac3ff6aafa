from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.clock import SystemClock
from edge_classifierd.health.metrics import Percentiles, PipelineMetrics, Reason

if TYPE_CHECKING:
    from health_clock import HandClock


def classify(metrics: PipelineMetrics, inference_ms: float = 5.0, latency_ms: float = 12.0) -> None:
    metrics.classified(inference_ms=inference_ms, latency_ms=latency_ms)


def test_every_outcome_is_counted_apart(clock: HandClock) -> None:
    metrics = PipelineMetrics(clock)
    for _ in range(5):
        classify(metrics)
    for _ in range(3):
        metrics.gated()
    for _ in range(2):
        metrics.failed()
    metrics.restarted()
    now = metrics.snapshot()
    assert (now.inferences, now.gated, now.errors, now.restarts) == (5, 3, 2, 1)


def test_rate_is_that_of_the_last_ten_seconds(clock: HandClock) -> None:
    metrics = PipelineMetrics(clock)
    for _ in range(300):  # 30 a second
        clock.pass_s(1 / 30)
        classify(metrics)
    assert metrics.snapshot().fps == pytest.approx(30, rel=0.01)
    for _ in range(50):  # then 5 a second, of which the gate keeps some
        clock.pass_s(0.2)
        metrics.gated()
    assert metrics.snapshot().fps == pytest.approx(5, rel=0.03)
    clock.pass_s(11)
    assert metrics.snapshot().fps == 0


def test_rate_is_right_when_frames_come_faster_than_are_kept(clock: HandClock) -> None:
    metrics = PipelineMetrics(clock)
    for _ in range(5000):  # 500 a second: ten seconds hold more than the ring does
        clock.pass_s(1 / 500)
        classify(metrics)
    assert metrics.snapshot().fps == pytest.approx(500, rel=0.01)


def test_rate_right_after_the_start_covers_only_the_time_since(clock: HandClock) -> None:
    metrics = PipelineMetrics(clock)
    clock.pass_s(0.1)
    classify(metrics)
    assert metrics.snapshot().fps is None
    for _ in range(19):
        clock.pass_s(0.1)
        classify(metrics)
    assert metrics.snapshot().fps == pytest.approx(10)


def test_percentiles_forget_what_is_older_than_a_minute(clock: HandClock) -> None:
    metrics = PipelineMetrics(clock)
    classify(metrics, inference_ms=900, latency_ms=901)
    clock.pass_s(59)
    classify(metrics, inference_ms=5, latency_ms=6)
    assert metrics.snapshot().inference_ms == Percentiles(5, 900, 900)
    clock.pass_s(2)
    now = metrics.snapshot()
    assert now.inference_ms == Percentiles(5, 5, 5)
    assert now.latency_ms == Percentiles(6, 6, 6)
    clock.pass_s(60)
    assert metrics.snapshot().inference_ms is None
    assert metrics.snapshot().inferences == 2


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_percentiles_equal_numpy_s_nearest_rank(values: list[float]) -> None:
    found = Percentiles.of(values)
    assert found is not None
    expected = np.percentile(values, (50, 95, 99), method="inverted_cdf")
    assert (found.p50, found.p95, found.p99) == tuple(expected)


def test_capture_totals_are_taken_over_across_captures(clock: HandClock) -> None:
    metrics = PipelineMetrics(clock)
    metrics.captured(frames=100, dropped=10, skipped=1)
    metrics.captured(frames=150, dropped=12, skipped=1)
    metrics.captured(frames=20, dropped=3, skipped=0)  # a new capture, noticed by its lower totals
    metrics.restarted()
    metrics.captured(frames=70, dropped=4, skipped=2)  # a new capture, already past the totals of the last
    now = metrics.snapshot()
    assert (now.frames, now.dropped, now.skipped) == (150 + 20 + 70, 12 + 3 + 4, 1 + 2)


def test_reasons_come_change_and_go(clock: HandClock) -> None:
    metrics = PipelineMetrics(clock)
    metrics.set_accelerator("usb:0")
    metrics.degrade("accelerator", "usb:0 hung; computing on the CPU")
    metrics.degrade("accelerator", "usb:0 hung twice; computing on the CPU")
    metrics.degrade("threshold", "something else")
    metrics.set_accelerator("cpu")
    now = metrics.snapshot()
    assert now.accelerator == "cpu"
    assert now.reasons == (
        Reason("accelerator", "usb:0 hung twice; computing on the CPU"),
        Reason("threshold", "something else"),
    )
    metrics.recover("accelerator")
    metrics.recover("never given")
    assert [reason.flag for reason in metrics.snapshot().reasons] == ["threshold"]


def test_counts_from_several_threads_are_complete() -> None:
    metrics = PipelineMetrics(SystemClock())

    def work() -> None:
        for _ in range(5000):
            classify(metrics)
            metrics.gated()
            metrics.ambiguity.record(ambiguous=True)

    threads = [threading.Thread(target=work, name=f"worker {number}") for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        snapshot = metrics.snapshot()
        assert snapshot.inference_ms in (None, Percentiles(5, 5, 5))
    for thread in threads:
        thread.join(10)
    now = metrics.snapshot()
    assert (now.inferences, now.gated) == (20_000, 20_000)
    assert now.ambiguous_share == 1.0


def test_recording_a_frame_costs_microseconds_and_no_memory() -> None:
    import tracemalloc

    metrics = PipelineMetrics(SystemClock())
    for _ in range(2000):
        classify(metrics)
    best_us = min(_microseconds_per_frame(metrics) for _ in range(20))
    assert best_us < 10  # about 1 µs on a PC; the bound only tells a list that grows from a ring
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(20_000):
        classify(metrics)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2000


def _microseconds_per_frame(metrics: PipelineMetrics) -> float:
    start_s = time.perf_counter()
    for _ in range(1000):
        metrics.classified(inference_ms=5.0, latency_ms=12.0)
    return (time.perf_counter() - start_s) * 1e3
