"""The background of a fixed camera's picture: learns what stands still, and finds the cells that differ.

Brightness is compared in steps of 1/64 octave (7 grey levels of 128 are 4), so that one limit suits light and dark
parts. A cell has moved when it differs by more than a multiple of its own noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import exp
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.motion.disturbances import Disturbances, steps
from edge_classifierd.motion.shapes import neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.motion.disturbances import Removed
    from edge_classifierd.motion.shapes import CellBox

    Cells = NDArray[np.float32]
    Mask = NDArray[np.bool_]

STAYS_S: Final = 12.0
"""What has not moved for this long becomes background."""
_LEARN_S: Final = 4.0
"""Time constant of the background."""
_START_S, _START_PICTURES, _START_LEARN_S = 2.0, 4, 0.3
_FLOOD: Final = 0.4
"""Share of the cells above which a change is either light or a very large thing."""
_SAME_EDGES: Final = 0.4
"""Least correlation of the edges of two pictures that differ in their light only."""
_SUDDEN: Final = 12.0
"""A change of light of more than this is learnt at once."""
_EDGE: Final = 0.3
"""Share of the step to the next cell that does not count, because the camera shakes."""
_MOVED_NOISE: Final = 12
"""The noise of a cell that has moved is learnt more slowly by this factor."""
_GHOST: Final = 3.0
"""A ghost's outline has this many times as much of the background's edges as of the picture's."""
_LOG: Final = (64 * np.log2(np.arange(256) + 32)).astype(np.float32)


class Scene(Enum):
    """What a picture shows, compared with the background."""

    LEARNING = auto()
    """Too few pictures so far."""
    COMPARED = auto()
    RELIT = auto()
    """The light has changed so much that the background is learnt again."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The comparison of one picture with the background. The arrays have the shape of the picture, (rows, columns)."""

    scene: Scene
    moved: Mask | None = None
    """Cells that differ; None when there are none."""
    absorbed: Mask | None = None
    """Cells that have become background with this picture, because they have differed for `STAYS_S`."""
    revealed: Mask | None = None
    """Cells that show again what was behind an absorbed thing; they are in `moved` in this picture only."""


class Background:
    """Learns from the pictures of one view. Not thread-safe; the memory depends on the picture's size only."""

    def __init__(self, *, step: float = 4.0, noises: float = 4.0) -> None:
        """Create a background that has seen no picture.

        Args:
            step: The least change that counts, in 1/64 octave.
            noises: The least change that counts, in mean deviations of the cell's own noise.
        """
        self._step, self._noises = np.float32(step), np.float32(noises)
        self._value: Cells
        self._mean: Cells
        self._noise: Cells
        self._age: Cells
        self._behind: Cells
        self._has_behind: Mask
        self._edges: Cells
        self._disturbances: Disturbances
        self._aged: bool
        self._pictures: int
        self._first_s: float
        self._last_s: float
        self._measured_s: float
        self._start(np.zeros((1, 1), np.float32), 0.0)

    def compare(self, luma: NDArray[np.uint8], now_s: float) -> Difference:
        """Compare a picture with the background, then learn from it.

        Args:
            luma: Brightness, shape (rows, columns); after a change of shape everything is learnt again.
            now_s: Monotonic seconds of the picture, not less than before.
        """
        value = _LOG.take(luma.astype(np.intp), mode="clip")
        if self._mean.shape != value.shape:
            self._start(value, now_s)
            return Difference(Scene.LEARNING)
        passed_s, self._last_s = min(1.0, max(1e-3, now_s - self._last_s)), now_s
        self._pictures += 1
        starting = now_s - self._first_s < _START_S or self._pictures < _START_PICTURES
        if now_s - self._measured_s >= 1.0:
            self._measure(now_s)
        self._value = value
        change = value - self._mean
        removed = self._disturbances.remove(change)
        size = np.abs(change)
        limit = self._limit(removed)
        moved = size > limit
        count = int(np.count_nonzero(moved))
        if not starting and count > _FLOOD * moved.size and self._has_same_edges():
            self._start(value, now_s)
            return Difference(Scene.RELIT)
        if starting:
            self._learn(change, size, limit, removed.light, _rate(passed_s, _START_LEARN_S))
            return Difference(Scene.LEARNING)
        absorbed = revealed = None
        if count:
            bare = value if removed.light is None else value - removed.light
            absorbed, revealed = self._age_cells(bare, limit, moved, passed_s)
            change[moved] = 0  # only the light is learnt there
            size[moved] = self._noise[moved] + (np.minimum(size, limit) - self._noise)[moved] / _MOVED_NOISE
        elif self._aged:
            self._age[:] = 0
        self._aged = count > 0
        rate = _rate(passed_s, _LEARN_S)
        self._learn(change, size, limit, removed.light, np.float32(0.5) if removed.overall > _SUDDEN else rate)
        return Difference(Scene.COMPARED, moved if count else None, absorbed, revealed)

    def shows_ghost(self, box: CellBox, moved: Mask) -> bool:
        """Return whether a box of the latest picture shows a place that a thing has left, and not a thing.

        Along the outline of a thing the picture has edges that the background has not; for a ghost it is the reverse.
        """
        part = (slice(max(0, box.top - 1), box.bottom + 1), slice(max(0, box.left - 1), box.right + 1))
        outline = moved[part] & (neighbours(moved[part]) < 9)
        now, before = steps(self._value[part])[outline].sum(), steps(self._mean[part])[outline].sum()
        return bool(before > _GHOST * now)

    def forget(self, box: CellBox, moved: Mask) -> None:
        """Take the moved cells of a box of the latest picture for background."""
        part = (slice(box.top, box.bottom), slice(box.left, box.right))
        cells = moved[part]
        self._mean[part][cells] = self._value[part][cells]
        self._has_behind[part][cells] = False
        self._age[part][cells] = 0

    def _start(self, value: Cells, now_s: float) -> None:
        self._value, self._mean, self._noise = value, value.copy(), np.full_like(value, 2.0)
        self._age = np.zeros_like(value)
        self._aged = False
        self._behind, self._has_behind = value.copy(), np.zeros(value.shape, np.bool_)
        self._first_s = self._last_s = now_s
        self._pictures = 1
        self._measure(now_s)

    def _measure(self, now_s: float) -> None:
        self._measured_s = now_s
        self._edges = np.float32(_EDGE) * steps(self._mean)
        self._disturbances = Disturbances(self._mean)

    def _limit(self, removed: Removed) -> Cells:
        """Return the least change of each cell that counts."""
        limit = self._noise * self._noises
        limit += self._edges
        np.maximum(limit, self._step, out=limit)
        if removed.light is not None:
            limit += np.maximum(np.abs(removed.light), removed.overall)
        limit += np.abs(removed.bands) / 2
        return limit

    def _has_same_edges(self) -> bool:
        """Return whether the picture has the edges of the background, so that only the light has changed."""
        now, before = np.diff(self._value, axis=1), np.diff(self._mean, axis=1)
        norm = float(np.sqrt(np.vdot(now, now) * np.vdot(before, before)))
        return norm > 0 and float(np.vdot(now, before)) / norm > _SAME_EDGES

    def _age_cells(self, bare: Cells, limit: Cells, moved: Mask, passed_s: float) -> tuple[Mask | None, Mask | None]:
        """Absorb what has differed for long, and find what shows the background behind it again.

        Args:
            bare: The picture without the change of light.
            limit: The least change of each cell that counts.
            moved: The cells that have moved.
            passed_s: Seconds since the picture before.
        """
        self._age += np.float32(passed_s)
        self._age *= moved
        revealed = moved & self._has_behind
        if revealed.any():
            revealed &= np.abs(bare - self._behind) < limit
            self._mean[revealed] = self._behind[revealed]
            self._has_behind[revealed] = False
            self._age[revealed] = 0
        absorbed = self._age > STAYS_S
        if absorbed.any():
            self._behind[absorbed] = self._mean[absorbed]
            self._has_behind[absorbed] = True
            self._mean[absorbed] = bare[absorbed]
            self._age[absorbed] = 0
        return absorbed if absorbed.any() else None, revealed if revealed.any() else None

    def _learn(self, change: Cells, size: Cells, limit: Cells, light: Cells | None, rate: np.float32) -> None:
        """Move mean and noise towards the picture; uses the arrays `change` and `size` up."""
        np.minimum(size, limit, out=size)
        size -= self._noise
        size *= rate
        self._noise += size
        if light is not None:
            change += light
            self._behind += rate * light
        change *= rate
        self._mean += change


def _rate(passed_s: float, constant_s: float) -> np.float32:
    return np.float32(1 - exp(-passed_s / constant_s))
