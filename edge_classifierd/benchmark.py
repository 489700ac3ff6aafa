"""The benchmark: the time of each stage of a frame, for one model and number of threads."""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
import numpy as np

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.pipeline import PipelineSection
from edge_classifierd.decision.types import WatchRule
from edge_classifierd.errors import InferenceError, counted
from edge_classifierd.frames.base import Frame
from edge_classifierd.health.board import Board
from edge_classifierd.health.metrics import Percentiles
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.options import NO_OPTIONS, ModelOptions
from edge_classifierd.motion.gate import GateSettings, MotionGate
from edge_classifierd.pipeline.event_builder import EventBuilder
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.preprocess import Preprocessor, View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edge_classifierd.health.board import BoardState
    from edge_classifierd.inference.base import Classifier
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.preprocess import Tensor

_WARM_UP_S: Final = 0.5
_WARM_UP_RUNS: Final = 5
_TURN_S: Final = 0.05
"""The bare loop and the classifier alternate, so that a change of the machine's speed affects both."""
_STEADY_DRIFT, _STEADY_VARIATION = 0.10, 0.25
_HEATED_C: Final = 5.0


@dataclass(frozen=True, slots=True)
class Stages:
    """Percentiles of each stage in milliseconds, for frames one after the other on one thread."""

    prepare: Percentiles
    """Crop, scale and quantise a picture of 640x480."""
    inference: Percentiles
    """The runtime's invoke."""
    scores: Percentiles
    """Copy the tensors, and convert scores to confidences."""
    decide: Percentiles
    """Rank and decide."""
    whole: Percentiles
    gate: Percentiles
    """A look of the motion gate at the picture, which is all that a frame costs while nothing moves; not in `whole`."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One model with one number of threads."""

    model: str
    threads: int
    accelerator: str
    runtime: str
    load_ms: float
    first_ms: float
    """The first inference after loading, which runs the model once itself."""
    runs: int
    inference: Percentiles
    """Of the runtime's invoke alone."""
    bare_ms: float | None
    """Median of a loop that only calls invoke; None on an Edge TPU."""
    stages: Stages
    memory_mb: float
    """Growth of the process by the model."""
    drift: float
    """Median of the second half divided by that of the first, minus 1."""
    variation: float
    """Standard deviation divided by mean."""
    temperature_c: float | None
    heat: str | None
    """A sentence about heat or supply voltage of the board during the measurement; None without trouble."""

    @property
    def steady(self) -> bool:
        """Whether the figures are reliable."""
        return abs(self.drift) <= _STEADY_DRIFT and self.variation <= _STEADY_VARIATION

    def verdict(self, fps: float) -> str:
        """Return a sentence: whether the model keeps up with a frame rate."""
        budget_ms = 1000.0 / fps
        whole = self.stages.whole
        name = f"{self.model} with {counted(self.threads, 'thread')}"
        if whole.p95 <= budget_ms:
            said = f"keeps up with {fps:g} fps: 95 of 100 frames take at most {whole.p95:.1f} of {budget_ms:.1f} ms"
        elif whole.p50 <= budget_ms:
            said = f"mostly keeps up with {fps:g} fps: half of the frames take at most {whole.p50:.1f} ms, "
            said += f"but 95 of 100 need {whole.p95:.1f} of {budget_ms:.1f} ms"
        else:
            said = f"does not keep up with {fps:g} fps: it does {1000 / whole.p50:.1f}, {whole.p50:.1f} ms a frame"
        doubt = "" if self.steady else " (the figures vary much: end other work and measure again)"
        return f"{name} {said}{doubt}"

    def meets(self, fps: float) -> bool:
        """Return whether 95 of 100 frames take at most a frame's time."""
        return self.stages.whole.p95 <= 1000.0 / fps


def synthetic_picture(pixel_format: str = "yuv420p", width: int = 640, height: int = 480) -> av.VideoFrame:
    """Return a smooth pattern of colours, always the same."""
    coarse = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    small = av.VideoFrame.from_ndarray(coarse, format="rgb24")
    large = small.reformat(width, height, "rgb24", threads=1)
    return large.reformat(format=pixel_format, threads=1)  # with more threads FFmpeg gets some 10-bit pixels wrong


def measure(
    path: Path, labels: Path | None, threads: int, *, seconds: float, device: str, options: ModelOptions = NO_OPTIONS
) -> Measurement:
    """Measure in a child process, so that memory and threads of one model do not affect the next one.

    Takes about a second longer than `seconds`; for the main thread only. Raises ModelError, MissingError,
    InferenceError, UsageError.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL)) as pool:
        try:
            # Ctrl-C reaches the child too: ignored while it starts, after that it ends it without a traceback.
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                measured = pool.submit(measure_here, path, labels, threads, seconds, device, options)
            finally:
                signal.signal(signal.SIGINT, before)
            return measured.result()
        except BrokenProcessPool as error:
            raise InferenceError(
                f"{path}: the process that measured it was killed, perhaps because memory ran out; see `dmesg`"
            ) from error


def measure_here(  # noqa: PLR0917 - the arguments of `submit`
    path: Path,
    labels: Path | None,
    threads: int,
    seconds: float,
    device: str,
    options: ModelOptions = NO_OPTIONS,
) -> Measurement:
    """Measure in this process; see `measure`."""
    clock = SystemClock()
    board = Board(clock)
    bundle = load_bundle(path, labels, options=options, log_guess=False)
    before = board.read()
    start_s = time.perf_counter()
    classifier = make_classifier(bundle, device, threads, clock=clock)
    load_ms = (time.perf_counter() - start_s) * 1000
    try:
        picture = synthetic_picture()
        prepare = Preprocessor(bundle.input, bundle.normalisation)
        tensor = prepare(picture)
        first_ms = classifier.classify(tensor).inference_ms
        _warm_up(lambda: classifier.classify(tensor))
        grown = (board.read().rss_mb or 0.0) - (before.rss_mb or 0.0)
        # The same interpreter: the threads of a second one would run on other cores.
        bare = classifier.invoke if isinstance(classifier, CpuClassifier) else None
        ours_ms, bare_ms = _in_turns(classifier, tensor, bare, seconds * 2 / 3)
        stages, after = _stages(bundle, classifier, picture, seconds / 3), board.read()
        accelerator, runtime = classifier.accelerator, classifier.runtime
    finally:
        classifier.close()
    half = len(ours_ms) // 2
    return Measurement(
        model=bundle.name,
        threads=threads,
        accelerator=accelerator,
        runtime=runtime,
        load_ms=load_ms,
        first_ms=first_ms,
        runs=len(ours_ms),
        inference=_percentiles(ours_ms),
        bare_ms=statistics.median(bare_ms) if bare_ms else None,
        stages=stages,
        memory_mb=max(0.0, grown),
        drift=statistics.median(ours_ms[half:]) / statistics.median(ours_ms[:half]) - 1,
        variation=statistics.pstdev(ours_ms) / statistics.fmean(ours_ms),
        temperature_c=after.temperature_c,
        heat=_heat(before, after),
    )


def _warm_up(run: Callable[[], object]) -> None:
    start_s, runs = time.perf_counter(), 0
    while runs < _WARM_UP_RUNS or time.perf_counter() - start_s < _WARM_UP_S:
        run()
        runs += 1


def _in_turns(
    classifier: Classifier, tensor: Tensor, bare: Callable[[], None] | None, seconds: float
) -> tuple[list[float], list[float]]:
    """Return milliseconds of the classifier's inferences and of the bare ones; at least two in each turn."""
    ours_ms: list[float] = []
    bare_ms: list[float] = []
    last_s = time.perf_counter() + seconds
    while time.perf_counter() < last_s:
        end_s, runs = time.perf_counter() + _TURN_S, 0
        while runs < 2 or time.perf_counter() < end_s:
            ours_ms.append(classifier.classify(tensor).inference_ms)
            runs += 1
        end_s, runs = time.perf_counter() + _TURN_S, 0
        while bare is not None and (runs < 2 or time.perf_counter() < end_s):
            start_s = time.perf_counter()
            bare()
            bare_ms.append((time.perf_counter() - start_s) * 1000)
            runs += 1
    return ours_ms, bare_ms


def _stages(bundle: ModelBundle, classifier: Classifier, picture: av.VideoFrame, seconds: float) -> Stages:
    """Measure whole frames with the parts of the daemon, without its threads."""
    clock = SystemClock()
    prepare = Preprocessor(bundle.input, bundle.normalisation)
    section = PipelineSection.model_validate({"name": "bench", "source": {"type": "v4l2"}})
    plan = Plan(section, bundle, None, (WatchRule("any", None, 0.6, 0.4),), None)
    events = EventBuilder(plan, device="bench", runtime=lambda: classifier.runtime)
    gate = MotionGate(GateSettings(), View())
    rows: list[tuple[float, ...]] = []
    end_s = time.perf_counter() + seconds
    while len(rows) < 10 or time.perf_counter() < end_s:
        frame = Frame(picture, len(rows), clock.monotonic(), clock.utc())
        start_s = time.perf_counter()
        tensor = prepare(frame.picture)
        prepared_s = time.perf_counter()
        inference = classifier.classify(tensor)
        classified_s = time.perf_counter()
        events.observe(frame, inference, clock_synchronised=lambda: True)
        decided_s = time.perf_counter()
        gate.look(picture, frame.captured_s)
        looked_s = time.perf_counter()
        classify_ms = (classified_s - prepared_s) * 1000
        rows.append(
            (
                (prepared_s - start_s) * 1000,
                inference.inference_ms,
                classify_ms - inference.inference_ms,
                (decided_s - classified_s) * 1000,
                (decided_s - start_s) * 1000,
                (looked_s - decided_s) * 1000,
            )
        )
    return Stages(*(_percentiles(column) for column in zip(*rows, strict=True)))


def _percentiles(values_ms: Sequence[float]) -> Percentiles:
    found = Percentiles.of(values_ms)
    assert found is not None
    return found


def _heat(before: BoardState, after: BoardState) -> str | None:
    now = after.throttling.now if after.throttling is not None else None
    if now is not None and (now.throttled or now.frequency_capped or now.soft_temperature_limit):
        return "the board lowered its clock during the measurement; cool it and measure again"
    if now is not None and now.under_voltage:
        return "the board's supply voltage was too low during the measurement; use a stronger power supply"
    if before.temperature_c is not None and after.temperature_c is not None:
        risen_c = after.temperature_c - before.temperature_c
        if risen_c >= _HEATED_C:
            warmed = f"the board warmed by {risen_c:.0f} °C to {after.temperature_c:.0f} °C"
            return f"{warmed}; measure longer to see the final temperature"
    return None
