"""The figures of one pipeline: what it counted since the daemon started and how fast it has been of late."""

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
_NEWEST = 1024  # memory is bounded by this many frames; above 17 frames a second the percentiles cover less than 60 s
_WARM_UP_S = 1.0  # no rate is told from a shorter time


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is degraded: `flag` is stable and machine-readable, the sentence is for people and may vary."""

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
        """The percentiles of any number of values; None without any."""
        if not values_ms:
            return None
        ordered = sorted(values_ms)
        return cls(*(ordered[ceil(rank / 100 * len(ordered)) - 1] for rank in (50, 95, 99)))


@dataclass(frozen=True, slots=True)
class PipelineSnapshot:
    """One pipeline's figures at one moment; counts are since the daemon started and never fall."""

    fps: float | None
    """Frames worked off (classified, gated or failed) per second over the last 10 s; None in the first second."""
    frames: int
    """Frames that the source delivered."""
    inferences: int
    inference_ms: Percentiles | None
    """The runtime's invoke alone, over the last minute (at most its newest 1,024 frames); None without any."""
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
    ambiguous_share: float | None
    hint: str | None


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
        self._worked = _Ring()  # when each frame was worked off
        self._judged = _Ring()  # when each frame was classified, beside:
        self._inference_ms = array("d", bytes(8 * _NEWEST))
        self._latency_ms = array("d", bytes(8 * _NEWEST))
        self._frames = self._dropped = self._skipped = 0
        self._capture = (0, 0, 0)
        self._gated = self._errors = self._restarts = 0
        self._accelerator: str | None = None
        self._reasons: dict[str, Reason] = {}

    def classified(self, *, inference_ms: float, latency_ms: float) -> None:
        """One frame was classified and judged; `latency_ms` runs from its delivery to the decision."""
        now = self._clock.monotonic()
        with self._lock:
            self._worked.add(now)
            slot = self._judged.add(now)
            self._inference_ms[slot] = inference_ms
            self._latency_ms[slot] = latency_ms

    def gated(self) -> None:
        """One frame was kept from the classifier because nothing moved."""
        now = self._clock.monotonic()
        with self._lock:
            self._worked.add(now)
            self._gated += 1

    def failed(self) -> None:
        """One frame's inference failed."""
        now = self._clock.monotonic()
        with self._lock:
            self._worked.add(now)
            self._errors += 1

    def captured(self, *, frames: int, dropped: int, skipped: int) -> None:
        """Take over a capture's own totals, as often as wanted and when it ends; lower ones are a new one's."""
        with self._lock:
            totals = (frames, dropped, skipped)
            fresh = any(now < before for now, before in zip(totals, self._capture, strict=True))
            before = (0, 0, 0) if fresh else self._capture
            self._frames += frames - before[0]
            self._dropped += dropped - before[1]
            self._skipped += skipped - before[2]
            self._capture = totals

    def restarted(self) -> None:
        """The pipeline was started again after a failure or a reload: its next capture counts from zero."""
        with self._lock:
            self._restarts += 1
            self._capture = (0, 0, 0)

    def computes_on(self, accelerator: str) -> None:
        """Say what computes now: `cpu`, `usb:0`, `pci:0`."""
        self._accelerator = accelerator

    def degrade(self, flag: str, sentence: str) -> None:
        """Say that the pipeline works less well than configured, and why; the same flag again changes the sentence."""
        with self._lock:
            self._reasons[flag] = Reason(flag, sentence)

    def recover(self, flag: str) -> None:
        """Take a reason back; no matter when it was never given."""
        with self._lock:
            self._reasons.pop(flag, None)

    def snapshot(self) -> PipelineSnapshot:
        """The figures now; takes about a millisecond, meant for once in a while."""
        now = self._clock.monotonic()
        with self._lock:
            recent = self._judged.slots_since(now - PERCENTILE_WINDOW_S)
            inference_ms = [self._inference_ms[slot] for slot in recent]
            latency_ms = [self._latency_ms[slot] for slot in recent]
            fps = self._worked.rate(now, self._started_s)
            reasons = tuple(self._reasons.values())
            frames, dropped, skipped = self._frames, self._dropped, self._skipped
            gated, errors, restarts = self._gated, self._errors, self._restarts
            inferences = self._judged.count
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
            ambiguous_share=self.ambiguity.share(),
            hint=self.ambiguity.hint(),
        )


class _Ring:
    """The moments of the newest `_NEWEST` happenings and the count of all; its owner holds the lock."""

    __slots__ = ("count", "times_s")

    def __init__(self) -> None:
        self.count = 0
        self.times_s = array("d", bytes(8 * _NEWEST))

    def add(self, now_s: float) -> int:
        """Keep one moment; returns the slot it went to."""
        slot = self.count % _NEWEST
        self.times_s[slot] = now_s
        self.count += 1
        return slot

    def slots_since(self, moment_s: float) -> list[int]:
        """The slots of the kept moments at or after `moment_s`."""
        return [slot for slot in range(min(self.count, _NEWEST)) if self.times_s[slot] >= moment_s]

    def rate(self, now_s: float, started_s: float) -> float | None:
        """Happenings per second over the last `FPS_WINDOW_S`, or over as much of it as is known."""
        since_s = max(started_s, now_s - FPS_WINDOW_S)
        known = self.slots_since(since_s)
        if self.count > _NEWEST and len(known) == _NEWEST:
            # The ring is shorter than the window: count the gaps between its first and last moment.
            oldest_s = self.times_s[self.count % _NEWEST]
            return (_NEWEST - 1) / (now_s - oldest_s) if now_s > oldest_s else None
        return len(known) / (now_s - since_s) if now_s - since_s >= _WARM_UP_S else None
