"""Metrics of one pipeline: counters since the start of the daemon, and recent rates and latencies."""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from edge_classifierd.health.ambiguity import AmbiguityHour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.clock import Clock

FPS_WINDOW_S = 10.0
PERCENTILE_WINDOW_S = 60.0
_NEWEST = 1024  # frames kept in memory; above 17 frames a second the percentiles cover less than 60 s
_WARM_UP_S = 1.0  # no rate is computed from a shorter time


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is degraded. `flag` is stable and for programs; the sentence is for people and may change."""

    flag: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles (each is a value that was measured), in milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> Percentiles | None:
        """Return the percentiles of the values; None without any."""
        if not values_ms:
            return None
        ordered = sorted(values_ms)
        return cls(*(ordered[ceil(rank / 100 * len(ordered)) - 1] for rank in (50, 95, 99)))


@dataclass(frozen=True, slots=True)
class PipelineSnapshot:
    """The metrics of one pipeline at one moment. Counters start with the daemon and never decrease."""

    fps: float | None
    """Processed frames (classified, gated or failed) per second over the last 10 s; None in the first second."""
    frames: int
    """Frames that the source delivered."""
    inferences: int
    inference_ms: Percentiles | None
    """Time of the runtime's invoke over the last minute (at most 1,024 frames); None without any."""
    latency_ms: Percentiles | None
    """From the frame's delivery to the decision, over the same frames."""
    dropped: int
    """Frames replaced by a newer one before the classifier was free."""
    gated: int
    """Frames that the motion gate kept from the classifier."""
    skipped: int
    """Pictures that could not be decoded or prepared."""
    errors: int
    """Frames whose inference failed."""
    restarts: int
    accelerator: str | None
    reasons: tuple[Reason, ...]
    """Why it is degraded, without what is wrong with the picture."""
    ambiguous_share: float | None
    hint: str | None
    picture_problem: Reason | None = None
    """What is wrong with the camera's picture."""
    wanted_model: tuple[str, str] | None = None
    """Name and SHA-256 of the model that is to replace the one that runs."""


class PipelineMetrics:
    """Counts what one pipeline does; any thread may call anything.

    `classified` and `gated` are on the way of every frame: they take under 2 µs and allocate nothing that stays.
    The object outlives restarts of its pipeline.
    """

    def __init__(self, clock: Clock) -> None:
        self.ambiguity = AmbiguityHour(clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._started_s = clock.monotonic()
        self._processed = _Ring()  # when each frame was worked off
        self._classified = _Ring()  # when each frame was classified, beside:
        self._inference_ms = array("d", bytes(8 * _NEWEST))
        self._latency_ms = array("d", bytes(8 * _NEWEST))
        self._frames = self._dropped = self._skipped = 0
        self._capture = (0, 0, 0)
        self._gated = self._errors = self._restarts = 0
        self._accelerator: str | None = None
        self._reasons: dict[str, Reason] = {}
        self._picture_problem: Reason | None = None
        self._wanted_model: tuple[str, str] | None = None

    def classified(self, *, inference_ms: float, latency_ms: float) -> None:
        """Count a classified frame. `latency_ms` is the time from its delivery to the decision."""
        now = self._clock.monotonic()
        with self._lock:
            self._processed.add(now)
            slot = self._classified.add(now)
            self._inference_ms[slot] = inference_ms
            self._latency_ms[slot] = latency_ms

    def gated(self) -> None:
        """Count a frame that the motion gate kept from the classifier."""
        now = self._clock.monotonic()
        with self._lock:
            self._processed.add(now)
            self._gated += 1

    def failed(self) -> None:
        """Count a frame whose inference failed."""
        now = self._clock.monotonic()
        with self._lock:
            self._processed.add(now)
            self._errors += 1

    def captured(self, *, frames: int, dropped: int, skipped: int) -> None:
        """Add the growth of a capture's totals since the last call. Lower totals come from a new capture."""
        with self._lock:
            totals = (frames, dropped, skipped)
            fresh = any(now < before for now, before in zip(totals, self._capture, strict=True))
            before = (0, 0, 0) if fresh else self._capture
            self._frames += frames - before[0]
            self._dropped += dropped - before[1]
            self._skipped += skipped - before[2]
            self._capture = totals

    def restarted(self) -> None:
        """Count a restart after a failure or a reload. The next capture counts from zero."""
        with self._lock:
            self._restarts += 1
            self._capture = (0, 0, 0)

    def set_accelerator(self, accelerator: str) -> None:
        """Set the device that runs the model: `cpu`, `usb:0`, `pci:0`."""
        self._accelerator = accelerator

    def degrade(self, flag: str, sentence: str) -> None:
        """Add a reason why the pipeline is degraded. The same flag again replaces the sentence."""
        with self._lock:
            self._reasons[flag] = Reason(flag, sentence)

    def recover(self, flag: str) -> None:
        """Remove a reason. Does nothing when it was never added."""
        if flag in self._reasons:  # called often, and rarely true
            with self._lock:
                self._reasons.pop(flag, None)

    def set_picture_problem(self, problem: Reason | None) -> None:
        """Set what is wrong with the camera's picture; it counts as a reason."""
        self._picture_problem = problem

    @property
    def wanted_model(self) -> tuple[str, str] | None:
        """Name and SHA-256 of the model that is to replace the one that runs; None outside a roll-out."""
        return self._wanted_model

    def set_wanted_model(self, model: tuple[str, str] | None) -> None:
        """Set name and SHA-256 of the model that is to replace the one that runs."""
        self._wanted_model = model

    def snapshot(self) -> PipelineSnapshot:
        """Return the metrics at this moment. Takes about a millisecond."""
        now = self._clock.monotonic()
        with self._lock:
            recent = self._classified.slots_since(now - PERCENTILE_WINDOW_S)
            inference_ms = [self._inference_ms[slot] for slot in recent]
            latency_ms = [self._latency_ms[slot] for slot in recent]
            fps = self._processed.rate(now, self._started_s)
            reasons = tuple(self._reasons.values())
            frames, dropped, skipped = self._frames, self._dropped, self._skipped
            gated, errors, restarts = self._gated, self._errors, self._restarts
            inferences = self._classified.count
        return PipelineSnapshot(
            fps=fps,
            frames=frames,
            inferences=inferences,
            inference_ms=Percentiles.of(inference_ms),
            latency_ms=Percentiles.of(latency_ms),
            dropped=dropped,
            gated=gated,
            skipped=skipped,
            errors=errors,
            restarts=restarts,
            accelerator=self._accelerator,
            reasons=reasons,
            picture_problem=self._picture_problem,
            wanted_model=self._wanted_model,
            ambiguous_share=self.ambiguity.share(),
            hint=self.ambiguity.hint(),
        )


class _Ring:
    """Times of the newest `_NEWEST` frames and the count of all. The owner holds the lock."""

    __slots__ = ("count", "times_s")

    def __init__(self) -> None:
        self.count = 0
        self.times_s = array("d", bytes(8 * _NEWEST))

    def add(self, now_s: float) -> int:
        """Store a time; return its slot."""
        slot = self.count % _NEWEST
        self.times_s[slot] = now_s
        self.count += 1
        return slot

    def slots_since(self, moment_s: float) -> list[int]:
        """Return the slots with a time at or after `moment_s`."""
        return [slot for slot in range(min(self.count, _NEWEST)) if self.times_s[slot] >= moment_s]

    def rate(self, now_s: float, started_s: float) -> float | None:
        """Return frames per second over the last `FPS_WINDOW_S`, or over the part of it that is known."""
        since_s = max(started_s, now_s - FPS_WINDOW_S)
        known = self.slots_since(since_s)
        if self.count > _NEWEST and len(known) == _NEWEST:
            # The ring is shorter than the window: count the intervals between its first and last time.
            oldest_s = self.times_s[self.count % _NEWEST]
            return (_NEWEST - 1) / (now_s - oldest_s) if now_s > oldest_s else None
        return len(known) / (now_s - since_s) if now_s - since_s >= _WARM_UP_S else None
