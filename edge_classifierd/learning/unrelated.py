"""The built-in pictures of unrelated objects, and false alarms: unrelated pictures that reach a class's threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.frames.folder import images_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge_classifierd.learning.thresholds import Sweep, WatchedClasses

BUILT_IN: Final = "built-in pictures of unrelated objects"
BUILT_IN_REMARK: Final = "most of these are drawn; expect more false alarms from real objects"
DEFAULT_THRESHOLD: Final = 0.6
"""The default of `threshold` in a watch, used for a class without a recommended threshold."""
_FOLDER: Final = Path(__file__).resolve().parent / "unrelated_pictures"


@dataclass(frozen=True, slots=True)
class ClassFalseAlarms:
    """How many unrelated pictures reached the threshold of one class."""

    name: str
    threshold: float
    count: int


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """False alarms on one set of unrelated pictures, none of which were learnt from."""

    source: str
    """What the pictures are, for the report."""
    pictures: int
    any_class: int
    """Number of pictures that reached the threshold of at least one class."""
    per_class: tuple[ClassFalseAlarms, ...]


def pictures_to_learn() -> tuple[Path, ...]:
    """Return the built-in pictures from which the class `unknown` is learnt."""
    return images_in(_FOLDER / "learn")


def pictures_to_measure() -> tuple[Path, ...]:
    """Return the built-in pictures that are only used to count false alarms."""
    return images_in(_FOLDER / "measure")


def count_false_alarms(
    source: str, confidences: NDArray[np.float32], watches: Sequence[WatchedClasses], sweeps: Sequence[Sweep]
) -> FalseAlarms:
    """Count the unrelated pictures, `confidences` (pictures, labels), that reach the thresholds of the watches."""
    alarms, per_class = np.zeros(len(confidences), np.bool_), []
    for watch, sweep in zip(watches, sweeps, strict=True):
        threshold = DEFAULT_THRESHOLD if sweep.threshold is None else sweep.threshold
        raised = watch.score(confidences) >= threshold - 1e-9
        alarms |= raised
        per_class.append(ClassFalseAlarms(watch.name, threshold, int(raised.sum())))
    return FalseAlarms(source, len(confidences), int(alarms.sum()), tuple(per_class))
