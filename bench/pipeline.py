"""How much of the bare runtime's speed the whole pipeline keeps, stage by stage.

usage: python bench/pipeline.py [MODEL.tflite] [--threads 1,2] [--seconds 0.3] [--rounds 60] [--frames N] [--json]

A synthetic camera delivers 640×480 frames as fast as anybody takes them. In each round the bare loop
(`set_tensor; invoke; get_tensor`) and the pipeline (capture thread → slot → classifier → events) run one after the
other in one process; the ratio is the median over many short rounds, so that a machine that speeds up or slows down in
between does not count. `2` is the daemon's `threads: 2`, which it shares out among as many instances of the model as it
does by itself; `1x2` is one instance with two threads, `2x1` two instances with one each. The bare loop always has one
interpreter with all the threads together.
The bare loop runs at one of several speeds, by process, which changes the ratio. `between` does not need it: the median
time from the end of an inference to the next one of the same worker, in microseconds.
With --frames N the pipeline then runs on for N frames and the resident memory on the way is shown.
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
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_classifierd.benchmark import synthetic_picture
from edge_classifierd.clock import SystemClock
from edge_classifierd.config.loading.load import load
from edge_classifierd.daemon.process import tune_allocator
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.frames.base import Frame
from edge_classifierd.health.heartbeat import Heartbeats
from edge_classifierd.health.metrics import PipelineMetrics
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.cpu_pool import share_threads
from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.inference.scores import Scores, top_k
from edge_classifierd.pipeline.cameras import Cameras
from edge_classifierd.pipeline.classifiers import Classifiers
from edge_classifierd.pipeline.event_builder import EventBuilder
from edge_classifierd.pipeline.pipeline import Pipeline
from edge_classifierd.pipeline.planning.validation import preflight
from edge_classifierd.pipeline.rest import RestTimes
from edge_classifierd.pipeline.saved_state import SavedState
from edge_classifierd.pipeline.surroundings import Surroundings
from edge_classifierd.pipeline.workers.model_workers import PipelineThreads
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    import av

    from edge_classifierd.pipeline.planning.plan import Plan


class Camera:
    """Delivers one and the same picture without end and without delay, while it is let."""

    live = True
    skipped = 0
    pauses_until_s = -inf

    def __init__(self, picture: av.VideoFrame, may_deliver: threading.Event) -> None:
        self._picture = picture
        self._may_deliver = may_deliver
        self._clock = SystemClock()
        self._sequence = 0
        self._cancelled = False

    def open(self) -> None:
        pass

    def read(self) -> Frame | None:
        if not self._may_deliver.is_set():  # which costs less than to wait for what is set
            self._may_deliver.wait()
        if self._cancelled:
            return None
        self._sequence += 1
        return Frame(self._picture, self._sequence, self._clock.monotonic(), self._clock.utc())

    def close(self) -> None:
        pass

    def cancel(self) -> None:
        self._cancelled = True


class Sink:
    """Ignores all results."""

    def store_events(self, drafts: Any, state: Any) -> tuple[Any, ...]:  # noqa: ARG002 - the protocol's names
        return ()

    def publish_watches(self, plan: Any, active: Any) -> None:
        pass

    def publish_state(self, plan: Any, state: Any) -> None:
        pass

    def publish_motion(self, plan: Any, *, moving: bool) -> None:
        pass

    def publish_status(self, plan: Any, *, online: bool, resting: bool = False) -> None:
        pass

    def publish_picture(self, plan: Any, frame: Any, event_ids: Any = ()) -> None:
        pass


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def plan_for(model: Path | None, threads: int, folder: Path, instances: int | None = None) -> Plan:
    """A plan over the model; its folder source is replaced by the camera and never read, but must have a picture."""
    (folder / "0.bmp").write_bytes(b"BM")
    config = folder / "config.yaml"
    chosen = {"path": str(model.resolve())} if model else {}
    section = {**chosen, "threads": threads, "instances": instances}
    source = {"type": "folder", "path": "."}
    config.write_text(json.dumps({"pipelines": [{"name": "bench", "source": source, "model": section}]}))
    (plan,) = preflight(load(config))
    return plan


class Bare:
    """The loop over nothing but the runtime."""

    def __init__(self, plan: Plan, threads: int, tensor: np.ndarray[Any, Any]) -> None:
        self._interpreter = find_runtime().make_interpreter(plan.bundle.path, threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[plan.bundle.output_position]["index"]
        self._tensor = tensor

    def rate(self, seconds: float) -> float:
        for _ in range(5):
            self._interpreter.invoke()
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            self._interpreter.set_tensor(self._input, self._tensor)
            self._interpreter.invoke()
            self._interpreter.get_tensor(self._output)
            count += 1
        return count / elapsed


class Timed:
    """An interpreter that notes the time between the end of an inference and the next one of the same thread."""

    def __init__(self, interpreter: Any, ended: threading.local) -> None:
        self._interpreter = interpreter
        self._ended = ended
        self.between_s: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interpreter, name)

    def invoke(self) -> None:
        since_s = getattr(self._ended, "at_s", None)
        if since_s is not None:
            self.between_s.append(time.perf_counter() - since_s)
        self._interpreter.invoke()
        self._ended.at_s = time.perf_counter()


class Running:
    """The real pipeline on the synthetic camera."""

    def __init__(self, plan: Plan, picture: av.VideoFrame, folder: Path) -> None:
        clock = SystemClock()
        self.metrics = PipelineMetrics(clock)
        self._may_deliver = threading.Event()
        self._outbox = outbox = Outbox(folder / "outbox.sqlite3", topic=lambda event: event.pipeline, clock=clock)
        heartbeats = Heartbeats(clock)
        surroundings = Surroundings(
            device="bench",
            sink=Sink(),
            heartbeats=heartbeats,
            saved_state=SavedState(outbox, folder / "state.json", clock),
            clock=clock,
            rest_times=RestTimes(clock),
            cameras=Cameras(clock, lambda *_: Camera(picture, self._may_deliver)),
            threads=PipelineThreads(heartbeats),
        )
        self._shared = Classifiers().get(plan)
        self.pipeline = Pipeline(plan, self._shared, self.metrics, surroundings)
        self.pipeline.start()

    @property
    def count(self) -> int:
        return self.metrics.snapshot().inferences

    def rate(self, seconds: float) -> float:
        """Frames a second while the camera delivers; it does not before and after."""
        self._may_deliver.set()
        self.wait_for(self.count + 10)
        before, start = self.count, time.perf_counter()
        threading.Event().wait(seconds)
        rate = (self.count - before) / (time.perf_counter() - start)
        self._may_deliver.clear()
        time.sleep(0.03)  # for the frames that are on their way
        return rate

    def between_us(self, seconds: float) -> float:
        """Return the median time between two inferences of a worker. Call it last: later rates would be too low."""
        whole: Any = self._shared._classifier
        ended, timed = threading.local(), []
        for member in getattr(whole, "_members", (whole,)):
            member._interpreter = Timed(member._interpreter, ended)
            timed.append(member._interpreter)
        self.rate(seconds)
        return round(statistics.median(one for each in timed for one in each.between_s) * 1e6, 1)

    def wait_for(self, count: int) -> None:
        self._may_deliver.set()
        while self.count < count:
            time.sleep(0.01)
            if self.pipeline.failure:
                raise self.pipeline.failure

    def stop(self) -> None:
        self._may_deliver.set()
        self.pipeline.stop(5.0)
        self._outbox.close()


def microseconds(call: Any, repeat: int = 300) -> float:
    for _ in range(10):
        call()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1e6, 1)


def stages(plan: Plan) -> dict[str, float]:
    """Median microseconds of each stage alone."""
    bundle = plan.bundle
    rgb, yuv = synthetic_picture("rgb24"), synthetic_picture("yuv420p")
    prepare = Preprocessor(bundle.input, bundle.normalisation)
    model = plan.section.model
    classifier = CpuClassifier(bundle, find_runtime(), share_threads(model.threads, model.instances, bundle.size)[0])
    tensor = prepare(rgb)
    inference = classifier.classify(tensor)
    raw = np.zeros(bundle.output.shape, bundle.output.dtype)
    scores = Scores(bundle.output, bundle.output_kind)
    builder = EventBuilder(plan, device="bench", runtime=lambda: classifier.runtime)
    clock = SystemClock()
    frame = Frame(rgb, 0, clock.monotonic(), clock.utc())
    return {
        "prepare 640x480 rgb24": microseconds(lambda: prepare(rgb)),
        "prepare 640x480 yuv420p": microseconds(lambda: prepare(yuv)),
        "classify": microseconds(lambda: classifier.classify(tensor)),
        "scores": microseconds(lambda: scores.confidences(raw)),
        "top 5": microseconds(lambda: top_k(inference.confidences, 5)),
        "events": microseconds(lambda: builder.observe(frame, inference, clock_synchronised=lambda: True)),
    }


def measure(model: Path | None, instances: int | None, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = plan_for(model, threads, folder, instances)
        result: dict[str, Any] = {
            "model": plan.bundle.name,
            "threads": threads,
            "instances": share_threads(threads, instances, plan.bundle.size),
            "runtime": str(find_runtime()),
        }
        for pixel_format in ("rgb24", "yuv420p"):
            picture = synthetic_picture(pixel_format)
            tensor = Preprocessor(plan.bundle.input, plan.bundle.normalisation)(picture)
            loop, running = Bare(plan, threads, tensor), Running(plan, picture, folder)
            running.rate(options.seconds)  # warm
            bare, whole = [loop.rate(options.seconds)], []
            for _ in range(options.rounds):
                whole.append(running.rate(options.seconds))
                bare.append(loop.rate(options.seconds))
            between_us = running.between_us(max(1.0, 5 * options.seconds))
            running.stop()
            # Each pipeline window against the mean of the bare windows before and after it.
            ratios = [rate / ((bare[i] + bare[i + 1]) / 2) for i, rate in enumerate(whole)]
            result[pixel_format] = {
                "bare_fps": round(statistics.median(bare), 1),
                "pipeline_fps": round(statistics.median(whole), 1),
                "ratio": round(statistics.median(ratios), 4),
                "ratio_quartiles": [round(each, 4) for each in statistics.quantiles(ratios, n=4)[::2]],
                "between_us": between_us,
            }
        result["stages_us"] = stages(plan)
        if options.frames:
            result["memory"] = memory(plan, options.frames, folder)
    return result


def memory(plan: Plan, frames: int, folder: Path) -> list[dict[str, float]]:
    running = Running(plan, synthetic_picture("rgb24"), folder)
    samples = []
    for tenth in range(11):
        running.wait_for(round(frames * tenth / 10))
        samples.append({"frames": running.count, "resident_mb": round(resident_mb(), 1)})
        print(f"  {samples[-1]['frames']:>8} frames  {samples[-1]['resident_mb']:.1f} MB", file=sys.stderr, flush=True)
    running.stop()
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tune_allocator()  # as `run` does
    results = []
    for asked in options.threads.split(","):
        instances, _, each = asked.rpartition("x")
        together = int(instances or 1) * int(each)
        results.append(measure(options.model, int(instances) if instances else None, together, options))
    if options.json:
        print(json.dumps(results))
        return
    for result in results:
        each = " + ".join(str(threads) for threads in result["instances"])
        print(f"\n{result['model']}, {result['threads']} thread(s) as {each}, {result['runtime']}")
        for pixel_format in ("rgb24", "yuv420p"):
            row = result[pixel_format]
            low, high = row["ratio_quartiles"]
            print(
                f"  {pixel_format:<8} bare {row['bare_fps']:7.1f} fps   pipeline {row['pipeline_fps']:7.1f} fps   "
                f"ratio {row['ratio']:.3f} (half of the rounds {low:.3f} to {high:.3f})"
            )
        for pixel_format in ("rgb24", "yuv420p"):
            print(f"  {'between ' + pixel_format:<26} {result[pixel_format]['between_us']:9.1f} µs")
        for stage, value in result["stages_us"].items():
            print(f"  {stage:<26} {value:9.1f} µs")


if __name__ == "__main__":
    main()
