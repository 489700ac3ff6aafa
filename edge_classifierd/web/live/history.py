"""The last day of each pipeline: the peak confidence of every ten seconds, when a watch was on and when it rested."""

from __future__ import annotations

import threading
from array import array
from collections import deque
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_classifierd.decision.types import WatchState

BUCKET_S: Final = 10.0
DAY_S: Final = 86_400
_MOST_BUCKETS: Final = int(DAY_S / BUCKET_S)
_MOST_BYTES: Final = 4_000_000
"""For the peaks of all watches together; with more than about 230 watches they reach back less than a day."""
_MOST_POINTS: Final = 720
_MOST_INTERVALS: Final = 256
_MOST_RESTS: Final = 1000
_NO_VALUE: Final = 0xFFFF
_STEPS: Final = 10_000


Interval = tuple[float, float | None]
"""Start and end in monotonic seconds; None while it lasts."""


@dataclass(frozen=True, slots=True)
class WatchCurve:
    """The past of one watch."""

    peaks: tuple[float | None, ...]
    """Highest confidence of each step, oldest first; None without a classified frame."""
    on: tuple[Interval, ...]
    """When it was on, oldest first."""


@dataclass(frozen=True, slots=True)
class Curves:
    """The past of the watches of one pipeline."""

    step_s: float
    end_s: float
    """Monotonic seconds at which the last step ends."""
    watches: Mapping[str, WatchCurve]
    resting: tuple[Interval, ...]
    """When no frame was classified although nothing failed, oldest first."""


class History:
    """Records the confidences of all pipelines. Thread-safe; `record` takes about a microsecond a watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[str, dict[str, _WatchPeaks]] = {}
        self._rests: dict[str, _Intervals] = {}

    def record(self, pipeline: str, watches: Mapping[str, WatchState], at_s: float) -> None:
        """Record the state of a pipeline's watches after a frame that was captured at `at_s`, monotonic seconds."""
        bucket = int(at_s / BUCKET_S)
        with self._lock:
            known = self._watches.get(pipeline)
            if known is None or known.keys() != watches.keys():
                known = self._changed(pipeline, watches)
            for name, state in watches.items():
                known[name].record(bucket, state, at_s)

    def record_rest(self, pipeline: str, resting: bool, at_s: float) -> None:  # noqa: FBT001 - the value itself
        """Record whether a pipeline rests at `at_s`, monotonic seconds."""
        with self._lock:
            rests = self._rests.setdefault(pipeline, _Intervals(_MOST_RESTS))
            if resting:
                rests.begin(at_s)
            else:
                rests.end(at_s)

    def curves(self, pipeline: str, span_s: float, now_s: float) -> Curves:
        """Return the last `span_s` seconds of a pipeline, its watches in at most 720 steps."""
        wanted = max(1, min(_MOST_BUCKETS, ceil(span_s / BUCKET_S)))
        each = ceil(wanted / _MOST_POINTS)
        last = int(now_s / BUCKET_S)
        first = last - ceil(wanted / each) * each + 1
        with self._lock:
            watches = {
                name: WatchCurve(watch.peaks(first, last, each), watch.intervals(now_s - span_s))
                for name, watch in self._watches.get(pipeline, {}).items()
            }
            rests = self._rests.get(pipeline)
            resting = rests.after(now_s - span_s) if rests is not None else ()
        return Curves(each * BUCKET_S, (last + 1) * BUCKET_S, watches, resting)

    def _changed(self, pipeline: str, watches: Mapping[str, WatchState]) -> dict[str, _WatchPeaks]:
        """Keep the curves of watches that still exist, within the memory that all may take."""
        before = self._watches.get(pipeline, {})
        others = sum(len(known) for name, known in self._watches.items() if name != pipeline)
        buckets = min(_MOST_BUCKETS, max(1, _MOST_BYTES // 2 // (others + len(watches) or 1)))
        self._watches[pipeline] = {name: before.get(name) or _WatchPeaks(buckets) for name in watches}
        for known in self._watches.values():
            for name, watch in known.items():
                if watch.size > buckets:
                    known[name] = watch.shortened(buckets)
        return self._watches[pipeline]


class _Intervals:
    """The newest intervals of a state that begins and ends."""

    __slots__ = ("_known",)

    def __init__(self, most: int) -> None:
        self._known: deque[Interval] = deque(maxlen=most)

    def begin(self, at_s: float) -> None:
        """Begin an interval, unless one lasts."""
        if not self._known or self._known[-1][1] is not None:
            self._known.append((at_s, None))

    def end(self, at_s: float) -> None:
        """End the interval that lasts, if one does."""
        if self._known and self._known[-1][1] is None:
            self._known[-1] = (self._known[-1][0], at_s)

    def after(self, since_s: float) -> tuple[Interval, ...]:
        """Return the parts after a moment, oldest first."""
        return tuple((max(start, since_s), end) for start, end in self._known if end is None or end > since_s)


class _WatchPeaks:
    """A ring of peaks, one for each bucket of time."""

    __slots__ = ("_last", "_on", "_peaks", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._peaks = array("H", [_NO_VALUE]) * size
        self._last = -1
        self._on = _Intervals(_MOST_INTERVALS)

    def record(self, bucket: int, state: WatchState, at_s: float) -> None:
        value = round(state.confidence * _STEPS)
        slot = bucket % self.size
        if bucket == self._last:
            self._peaks[slot] = max(self._peaks[slot], value)
        elif bucket > self._last:
            self._clear_until(bucket)
            self._peaks[slot] = value
        if state.active:
            self._on.begin(at_s if state.since_s is None else state.since_s)
        else:
            self._on.end(at_s)

    def peaks(self, first: int, last: int, each: int) -> tuple[float | None, ...]:
        """Return the peaks of the buckets `first` to `last`, the highest of `each` in a row."""
        found = []
        for start in range(first, last + 1, each):
            values = [self._value(bucket) for bucket in range(start, min(start + each, last + 1))]
            known = [value for value in values if value != _NO_VALUE]
            found.append(max(known) / _STEPS if known else None)
        return tuple(found)

    def intervals(self, since_s: float) -> tuple[Interval, ...]:
        return self._on.after(since_s)

    def shortened(self, size: int) -> _WatchPeaks:
        """Return a copy that holds fewer buckets."""
        copy = _WatchPeaks(size)
        copy._last, copy._on = self._last, self._on
        for bucket in range(max(0, self._last - size + 1), self._last + 1):
            copy._peaks[bucket % size] = self._value(bucket)
        return copy

    def _value(self, bucket: int) -> int:
        held = self._last - self.size < bucket <= self._last
        return self._peaks[bucket % self.size] if held and bucket >= 0 else _NO_VALUE

    def _clear_until(self, bucket: int) -> None:
        """Clear the slots of the buckets without a frame, and become ready for `bucket`."""
        if self._last >= 0:
            for skipped in range(max(self._last + 1, bucket - self.size + 1), bucket):
                self._peaks[skipped % self.size] = _NO_VALUE
        self._last = bucket
