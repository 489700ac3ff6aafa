"""A pipeline whose classifier has several lanes: Edge TPUs or instances of a model."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import stand_in
from pipelines_scene import Scene, pipeline, until
from workers_scene import Pictures, Run, worker_threads

from edge_classifierd.clock import SystemClock
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.inference.base import Inference
from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.shared import SharedClassifier
from edge_classifierd.mqtt.commands import SetEnabled, SetThreshold
from edge_classifierd.pipeline.reporter import Reporter
from edge_classifierd.pipeline.workers.model_workers import PipelineThreads

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.pipeline.event_builder import FrameResult


def test_two_edge_tpus_make_one_pipeline_faster(tmp_path: Path) -> None:
    compiled, twin = stand_in.model_pair(tmp_path)
    machine = stand_in.Machine(tmp_path / "root")
    machine.add("1-1")
    machine.add("1-2")
    (tmp_path / "slow").touch()
    options = {"mode": "slow", "while": str(tmp_path / "slow")}  # 60 ms an inference
    delegate = str(stand_in.build_delegate(tmp_path))
    tensor = stand_in.pixel(255, 0, 0)

    def classify(count: int) -> tuple[float, set[str]]:
        """Classify 20 frames by so many Edge TPUs; return the seconds and the accelerators."""
        settings = EdgeTpuSettings(delegate, options, 2.0, count=count)
        pool = make_classifier(compiled, "usb", cpu_bundle=twin, edgetpu=settings, root=machine.root)
        threads = PipelineThreads(Heartbeats(SystemClock()))
        start_s = time.monotonic()
        made = Run(Pictures(20), lambda _frame: tensor, SharedClassifier(pool), threads)
        assert made.to_the_end() == list(range(20))
        took_s = time.monotonic() - start_s
        assert made.stop()
        pool.close()
        return took_s, {one.outcome.accelerator for one in made.results if isinstance(one.outcome, Inference)}

    both_s, by = classify(2)
    assert by == {"usb:0", "usb:1"}
    assert both_s < 0.85 * classify(1)[0], "0.6 s of inferences instead of 1.2 s"


def test_a_pipeline_with_two_instances_is_disabled_and_enabled(tmp_path: Path) -> None:
    section = pipeline("driveway", "cat") | {"model": {"threads": 1, "instances": 2}}
    with Scene(tmp_path, section) as scene:
        (one,) = scene.pipelines.pipelines
        until(lambda: one.metrics.snapshot().inferences > 5)
        assert worker_threads()[:3] == ["infer-1", "infer-2", "report-1"]
        scene.pipelines.execute(SetEnabled("driveway", False))
        until(lambda: worker_threads()[0] == "report-1")
        scene.pipelines.execute(SetEnabled("driveway", True))
        so_far = one.metrics.snapshot().inferences
        until(lambda: one.metrics.snapshot().inferences > so_far + 5)
        assert one.failure is None
        assert one.stop(2.0)
        assert worker_threads() == []


def test_a_command_is_not_executed_during_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporting, overlaps = threading.Event(), []
    report, set_threshold = Reporter.report, Reporter.set_threshold

    def slow_report(self: Reporter, frame: Frame, inference: Inference) -> FrameResult:
        reporting.set()
        time.sleep(0.02)
        reporting.clear()
        return report(self, frame, inference)

    def watched_set_threshold(self: Reporter, watch: str, threshold: float) -> None:
        overlaps.append(reporting.is_set())
        set_threshold(self, watch, threshold)

    monkeypatch.setattr(Reporter, "report", slow_report)
    monkeypatch.setattr(Reporter, "set_threshold", watched_set_threshold)
    section = pipeline("driveway", "cat") | {"model": {"threads": 1, "instances": 2}}
    with Scene(tmp_path, section) as scene:
        (one,) = scene.pipelines.pipelines
        until(lambda: one.metrics.snapshot().inferences > 5)
        for number in range(20):
            threshold = 0.5 + number / 100
            scene.pipelines.execute(SetThreshold("driveway", "cat", threshold))
            until(lambda wanted=threshold: one.thresholds() == {"cat": wanted})
    assert overlaps == [False] * 20
