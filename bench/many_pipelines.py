"""What many pipelines cost: the age of their results, processor time, memory and threads.

usage: python bench/many_pipelines.py [age] [cpu] [threads] [--seconds 5]

age: a stub model of 7, 50 and 150 ms (it sleeps) behind a camera of 30 frames per second; the median time from the
delivery of a frame to its report, for one pipeline, two pipelines with a camera each, and two on one camera. The least
possible for a slow model is its own time and half the time between two frames, also where two pipelines use it in turn.
cpu: 1 and 16 pipelines at 5 frames per second on one 640x480 camera of 30; processor time against that of the camera
and of every frame's preparation and inference alone, and the resident memory of a further pipeline.
threads: those of 64 pipelines on one camera, and with a camera each.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import threading
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pipeline import Sink, resident_mb

from edge_classifierd.benchmark import synthetic_picture
from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.daemon.process import tune_allocator
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.frames.base import Frame
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.health.metrics import PipelineMetrics
from edge_classifierd.inference.base import Classifier, Inference
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.inference.shared import SharedClassifier
from edge_classifierd.pipeline.cameras import Cameras
from edge_classifierd.pipeline.classifiers import Classifiers
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.pipeline.rest import RestTimes
from edge_classifierd.pipeline.saved_state import SavedState
from edge_classifierd.pipeline.surroundings import Surroundings
from edge_classifierd.pipeline.workers.model_workers import PipelineThreads

if TYPE_CHECKING:
    import av

    from edge_classifierd.pipeline.planning.plan import Plan

FPS = 30.0


class PacedCamera:
    """Delivers one picture `FPS` times a second; a copy of it, as a decoder makes one for each frame."""

    live = True
    skipped = 0
    pauses_until_s = -inf

    def __init__(self, picture: av.VideoFrame) -> None:
        self._picture = picture
        self._clock = SystemClock()
        self._due_s = 0.0
        self._sequence = 0
        self._cancelled = threading.Event()

    def open(self) -> None:
        self._due_s = time.monotonic()

    def read(self) -> Frame | None:
        self._due_s = max(self._due_s + 1 / FPS, time.monotonic() - 1 / FPS)
        if self._cancelled.wait(max(0.0, self._due_s - time.monotonic())):
            return None
        self._sequence += 1
        return Frame(self._picture, self._sequence, self._clock.monotonic(), self._clock.utc())

    def close(self) -> None:
        pass

    def cancel(self) -> None:
        self._cancelled.set()


class SleepingModel(Classifier):
    """A model with one lane that takes a given time and no processor."""

    runtime = "stub"
    accelerator = "cpu"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._confidences = np.full(1000, 0.001, np.float32)

    def classify(self, tensor: Any) -> Inference:  # noqa: ARG002 - the interface
        time.sleep(self._seconds)
        return Inference(self._confidences, self._seconds * 1000, "cpu")

    def close(self) -> None:
        pass


class AgeMetrics(PipelineMetrics):
    """Keeps every frame's age."""

    def __init__(self, clock: SystemClock) -> None:
        super().__init__(clock)
        self.ages_ms: list[float] = []

    def classified(self, *, inference_ms: float, latency_ms: float) -> None:
        self.ages_ms.append(latency_ms)
        super().classified(inference_ms=inference_ms, latency_ms=latency_ms)


class Pipelines:
    """Running pipelines on fake cameras."""

    def __init__(self, plans: list[Plan], folder: Path, classifier: SharedClassifier | None = None) -> None:
        clock = SystemClock()
        picture = synthetic_picture("yuv420p")
        heartbeats = Heartbeats(clock)
        self._outbox = Outbox(folder / "outbox.sqlite3", topic=lambda event: event.pipeline, clock=clock)
        cameras = Cameras(clock, lambda *_: PacedCamera(picture))
        cameras.set_plans(plans)
        around = Surroundings(
            device="bench",
            sink=Sink(),
            heartbeats=heartbeats,
            saved_state=SavedState(self._outbox, folder / "state.json", clock),
            clock=clock,
            rest_times=RestTimes(clock),
            cameras=cameras,
            threads=PipelineThreads(heartbeats),
        )
        self._classifiers = Classifiers()
        self.metrics = [AgeMetrics(clock) for _ in plans]
        self._pipelines = [
            Pipeline(plan, classifier or self._classifiers.get(plan), metrics, around)
            for plan, metrics in zip(plans, self.metrics, strict=True)
        ]
        for one in self._pipelines:
            one.start()
        while not all(metrics.ages_ms for metrics in self.metrics):
            time.sleep(0.05)

    def ages_ms(self, seconds: float) -> list[float]:
        before = [len(metrics.ages_ms) for metrics in self.metrics]
        time.sleep(seconds)
        return [age for metrics, first in zip(self.metrics, before, strict=True) for age in metrics.ages_ms[first:]]

    def stop(self) -> None:
        for one in self._pipelines:
            one.request_stop()
        for one in self._pipelines:
            one.stop(5.0)
        self._classifiers.close()
        self._outbox.close()


def plans_for(folder: Path, count: int, *, shared: bool, **keys: Any) -> list[Plan]:
    """Plans whose cameras are replaced by the fake one."""
    sources = [{"type": "v4l2", "device": f"/dev/video{number}"} for number in range(count)]
    cameras = [{"name": "yard", "source": sources[0]}] if shared else []
    sections = [
        {
            "name": f"p{number}",
            "model": {"threads": 1},
            **({"camera": "yard"} if shared else {"source": source}),
            **keys,
        }
        for number, source in enumerate(sources)
    ]
    (folder / "config.yaml").write_text(json.dumps({"cameras": cameras, "pipelines": sections}))
    return list(preflight(load(folder / "config.yaml")))


def ages(seconds: float) -> None:
    for model_ms in (7, 50, 150):
        cells = []
        for title, count, shared in (
            ("1 pipeline", 1, False),
            ("2, a camera each", 2, False),
            ("2, one camera", 2, True),
        ):
            with tempfile.TemporaryDirectory() as name:
                plans = plans_for(Path(name), count, shared=shared)
                running = Pipelines(plans, Path(name), SharedClassifier(SleepingModel(model_ms / 1000)))
                found = running.ages_ms(seconds)
                counts = [len(metrics.ages_ms) for metrics in running.metrics]
                running.stop()
            fair = f", {min(counts)} and {max(counts)} frames" if count == 2 else ""
            cells.append(f"{title} {statistics.median(found):.0f} ms{fair}")
        print(f"model {model_ms} ms: " + "; ".join(cells), flush=True)


def cpu(seconds: float) -> None:
    fps = 5.0
    rows: dict[int, tuple[float, float, int, float]] = {}
    for count in (1, 16):
        with tempfile.TemporaryDirectory() as name:
            plans = plans_for(Path(name), count, shared=True, max_fps=fps)
            running = Pipelines(plans, Path(name))
            time.sleep(1.0)
            gc.collect()
            used_s, start_s = time.process_time(), time.monotonic()
            frames = len(running.ages_ms(seconds))
            took_s = time.monotonic() - start_s
            rows[count] = (time.process_time() - used_s, took_s, frames, resident_mb())
            if count == 1:
                capture_s, each_s = alone(plans[0], seconds)
            running.stop()
    for count, (used_s, took_s, frames, _) in rows.items():
        allowed_s = capture_s * took_s + frames * each_s
        print(
            f"{count:>2} pipelines: {frames / took_s:.1f} frames/s, {used_s / took_s:.3f} of a core; camera, "
            f"preparation and inference alone {allowed_s / took_s:.3f}; ratio {used_s / allowed_s:.3f}"
        )
    print(f"a further pipeline: {(rows[16][3] - rows[1][3]) / 15:.2f} MB resident")


def alone(plan: Plan, seconds: float) -> tuple[float, float]:
    """Processor seconds per second of the camera's loop, and of one frame's preparation and inference."""
    camera = PacedCamera(synthetic_picture("yuv420p"))
    camera.open()
    used_s, end_s = time.thread_time(), time.monotonic() + seconds
    frame = camera.read()
    while time.monotonic() < end_s:
        frame = camera.read()
    capture_s = (time.thread_time() - used_s) / seconds
    assert frame is not None
    classifier, preprocess = CpuClassifier(plan.bundle, find_runtime(), 1), plan.preprocessor()
    used_s = time.thread_time()
    for _ in range(100):
        time.sleep(1 / 50)  # with the caches as cold as between the frames of a pipeline
        classifier.classify(preprocess(frame.for_model(preprocess.needs)))
    return capture_s, (time.thread_time() - used_s) / 100


def threads() -> None:
    for shared in (True, False):
        with tempfile.TemporaryDirectory() as name:
            running = Pipelines(plans_for(Path(name), 64, shared=shared, max_fps=0.5), Path(name))
            print(f"64 pipelines, {'one camera' if shared else '64 cameras'}: {threading.active_count() - 1} threads")
            running.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["age", "cpu", "threads", []])
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    tune_allocator()  # as `run` does
    what = options.what or ["age", "cpu", "threads"]
    if "age" in what:
        ages(options.seconds)
    if "cpu" in what:
        cpu(options.seconds)
    if "threads" in what:
        threads()


if __name__ == "__main__":
    main()
