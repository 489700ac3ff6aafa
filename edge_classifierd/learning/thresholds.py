"""Recommends a threshold for a watch, from the scores of labelled pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WANTED_PRECISION: Final = 0.95
LEAST_POSITIVES: Final = 5
# Wanted recall in cross-validation (with few pictures that of new ones is lower), and the lowest threshold.
_STRICT: Final = (0.85, 0.55)
_LENIENT: Final = (0.95, 0.5)
_HIGHEST: Final = 0.9
_POOLED: Final = 20
"""The pictures of all classes together count as this many of each class: a few pictures say little by themselves."""
_STEPS: Final = np.arange(1, 100) / 100


@dataclass(frozen=True, slots=True)
class WatchedClasses:
    """The labels of a watch, and how their confidences are combined."""

    name: str
    indices: tuple[int, ...]
    combine: str = "sum"
    """`sum` or `max`, as in the configuration's watches."""

    def score(self, confidences: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the watch's confidence for each picture; `confidences` has the shape (pictures, labels)."""
        picked = confidences[:, list(self.indices)].astype(np.float64)
        return np.asarray(picked.max(1) if self.combine == "max" else picked.sum(1))


@dataclass(frozen=True, slots=True)
class Point:
    """Precision and recall at one threshold; precision is None when nothing reaches the threshold."""

    threshold: float
    precision: float | None
    recall: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Precision and recall of a watch at every threshold from 0.01 to 0.99."""

    watch: str
    positives: int
    points: tuple[Point, ...]
    threshold: float | None
    """The recommended threshold; None with fewer than 5 pictures of what is watched."""
    release: float | None
    """Two thirds of the threshold, as the configuration's default."""
    precision: float | None
    recall: float | None
    reason: str
    """Why this threshold is recommended, in words."""


def sweep(watch: WatchedClasses, confidences: NDArray[np.float32], targets: Sequence[tuple[int, ...]]) -> Sweep:
    """Compute precision and recall of one watch at all thresholds, and recommend one.

    The recommended threshold has the highest recall with a precision of at least 95 %. Where no threshold has that
    precision, it is the one with the best F1. Where several in a row are equally good, it is the middle one.

    Args:
        watch: The watch.
        confidences: Shape (pictures, labels).
        targets: The right labels of each picture; none for an unrelated picture.
    """
    positives, points = _points(watch, confidences, targets)
    if positives < LEAST_POSITIVES:
        reason = f"only {counted(positives, 'picture')} of it; a recommendation needs at least {LEAST_POSITIVES}"
        return Sweep(watch.name, positives, points, None, None, None, None, reason)
    precision = np.array([point.precision or 0.0 for point in points])
    recall = np.array([point.recall for point in points])
    good = (precision >= WANTED_PRECISION) & (recall > 0)
    if good.any():
        quality = np.where(good, recall, -1.0)
        reason = f"finds most while at least {WANTED_PRECISION:.0%} of what it reports is right"
    else:
        quality = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        reason = f"best balance; no threshold is right in {WANTED_PRECISION:.0%} of what it reports"
    best = _middle(quality >= quality.max() - 1e-12, int(quality.argmax()))
    return _recommended(watch, positives, points, best, reason)


def strict_sweeps(
    watches: Sequence[WatchedClasses],
    confidences: NDArray[np.float32],
    targets: Sequence[tuple[int, ...]],
    *,
    lenient: bool = False,
) -> tuple[Sweep, ...]:
    """As `sweep` for a newly trained model, whose watches must not be raised by objects that it has never seen.

    Such objects are not among the pictures, so precision says little. The recommended threshold is therefore the
    highest one, 0.55 to 0.9, that keeps a recall of about 85 %; with `lenient`, for a model that gives low scores to
    other objects itself, it is 0.5 to 0.9 and keeps about 95 %. For a class with few pictures it is close to the
    threshold that keeps this recall for all classes together.
    """
    scores = [
        watch.score(confidences)[[bool(set(watch.indices) & set(indices)) for indices in targets]] for watch in watches
    ]
    pooled = np.concatenate(scores)
    recall, lowest = _LENIENT if lenient else _STRICT
    sweeps = []
    for watch, score in zip(watches, scores, strict=True):
        positives, points = _points(watch, confidences, targets)
        if len(pooled) < LEAST_POSITIVES or not positives:
            reason = f"only {counted(positives, 'picture')} of it; a recommendation needs at least {LEAST_POSITIVES}"
            sweeps.append(Sweep(watch.name, positives, points, None, None, None, None, reason))
            continue
        weight = positives / (positives + _POOLED)
        own, common = (float(np.quantile(one, 1 - recall)) for one in (score, pooled))
        threshold = float(np.clip(weight * own + (1 - weight) * common, lowest, _HIGHEST))
        best = int(100 * threshold + 1e-9) - 1
        reason = f"high, against objects that were not learnt; finds about {recall:.0%} of those left out in turn"
        sweeps.append(_recommended(watch, positives, points, best, reason))
    return tuple(sweeps)


def _points(
    watch: WatchedClasses, confidences: NDArray[np.float32], targets: Sequence[tuple[int, ...]]
) -> tuple[int, tuple[Point, ...]]:
    """Return the number of pictures of what is watched, and the point at each threshold."""
    watched = set(watch.indices)
    positive = np.array([bool(watched & set(indices)) for indices in targets])
    score = watch.score(confidences)
    reached = score[None, :] >= _STEPS[:, None] - 1e-9
    reported = reached.sum(1)
    found = (reached & positive).sum(1)
    positives = int(positive.sum())
    precision = np.divide(found, reported, out=np.zeros(len(_STEPS)), where=reported > 0)
    recall = found / max(positives, 1)
    points = tuple(
        Point(float(step), float(p) if n else None, float(r))
        for step, p, n, r in zip(_STEPS, precision, reported, recall, strict=True)
    )
    return positives, points


def _recommended(watch: WatchedClasses, positives: int, points: tuple[Point, ...], best: int, reason: str) -> Sweep:
    point = points[best]
    release = round(point.threshold * 2 / 3, 2)
    return Sweep(watch.name, positives, points, point.threshold, release, point.precision or 0.0, point.recall, reason)


def _middle(equal: NDArray[np.bool_], start: int) -> int:
    end = start
    while end + 1 < len(equal) and equal[end + 1]:
        end += 1
    return (start + end) // 2
