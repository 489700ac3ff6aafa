"""Which threshold a watch should have, read off labelled pictures."""

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
_STEPS: Final = np.arange(1, 100) / 100


@dataclass(frozen=True, slots=True)
class WatchedClasses:
    """A watch as far as its confidence goes: the sum of these labels' confidences, or the greatest one."""

    name: str
    indices: tuple[int, ...]
    combine: str = "sum"
    """`sum` or `max`, as in the configuration's watches."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold gives, in fractions; precision is None when nothing reaches the threshold."""

    threshold: float
    precision: float | None
    recall: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """A watch at every threshold from 0.01 to 0.99."""

    watch: str
    positives: int
    points: tuple[Point, ...]
    threshold: float | None
    """Recommended; None with fewer than 5 pictures of what is watched."""
    release: float | None
    """Two thirds of it, as the configuration's default."""
    precision: float | None
    recall: float | None
    reason: str
    """Why this threshold, in words."""


def sweep(watch: WatchedClasses, confidences: NDArray[np.float32], targets: Sequence[tuple[int, ...]]) -> Sweep:
    """Try all thresholds of one watch. `confidences` (pictures, labels); `targets`: each picture's right labels.

    Recommended is what finds most while 95 % of what it reports is right; where no threshold is that good, the best
    balance of precision and recall (F1). Where a whole range is equally good, its middle, which has most to spare.
    """
    watched = set(watch.indices)
    positive = np.array([bool(watched & set(indices)) for indices in targets])
    picked = confidences[:, list(watch.indices)].astype(np.float64)
    score = picked.max(1) if watch.combine == "max" else picked.sum(1)
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
    if positives < LEAST_POSITIVES:
        reason = f"only {counted(positives, 'picture')} of it; a recommendation needs at least {LEAST_POSITIVES}"
        return Sweep(watch.name, positives, points, None, None, None, None, reason)
    good = (precision >= WANTED_PRECISION) & (found > 0)
    if good.any():
        quality = np.where(good, recall, -1.0)
        reason = f"finds most while at least {WANTED_PRECISION:.0%} of what it reports is right"
    else:
        quality = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        reason = f"best balance; no threshold is right in {WANTED_PRECISION:.0%} of what it reports"
    best = _middle(quality >= quality.max() - 1e-12, int(quality.argmax()))
    threshold = float(_STEPS[best])
    release = round(threshold * 2 / 3, 2)
    return Sweep(
        watch.name, positives, points, threshold, release, float(precision[best]), float(recall[best]), reason
    )


def _middle(equal: NDArray[np.bool_], start: int) -> int:
    end = start
    while end + 1 < len(equal) and equal[end + 1]:
        end += 1
    return (start + end) // 2
