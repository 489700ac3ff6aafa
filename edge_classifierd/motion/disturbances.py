"""Removes from a difference of two pictures what no moving thing causes: light, bands and shifts of the camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Cells = NDArray[np.float32]

_TONES: Final = 8
_NO_LIGHT: Final = 0.75
_MAX_SHIFT: Final = 0.6
_NO_SHIFT: Final = 0.02


@dataclass(frozen=True, slots=True)
class Removed:
    """What was subtracted from a difference, in 1/64 octave."""

    light: Cells | None
    """The change of light of each cell, shape (rows, columns); None for none."""
    overall: float
    """The size of the change of light in the picture's median tone; 0 for none."""
    bands: Cells
    """The change of each row, shape (rows, 1)."""


class Disturbances:
    """Fits three simple models to the difference from one background, with tables that are made once a second.

    A change of light is one tone curve for the whole picture: how each eighth of the cells, from dark to bright, has
    changed in the middle. Mains-powered lamps make bands, one value for each row. A shift by a fraction of a cell
    changes a cell by the slope of the background there.
    """

    def __init__(self, mean: Cells) -> None:
        """`mean` is the background, shape (rows, columns)."""
        cells = np.arange(mean.size).reshape(mean.shape)[::3, ::3].ravel()
        cells = cells[: max(1, cells.size // _TONES) * _TONES]
        in_order = cells[np.argsort(mean.ravel()[cells])]
        self._groups = in_order.reshape(_TONES if in_order.size >= _TONES else 1, -1)
        self._knots = mean.ravel()[self._groups[:, self._groups.shape[1] // 2]]
        low, high = float(mean.min()), float(mean.max()) + 1.0
        self._grid = np.linspace(low, high, 256)
        self._level = ((mean - low) * (255 / (high - low))).astype(np.intp)
        self._across, self._down = _slopes(mean)
        across, down = self._across[::2], self._down[::2]
        self._largest = 8 + np.float32(0.4) * np.hypot(across, down)  # so that moving things count little
        flat = mean.size / 20  # a picture without slopes has nothing to measure a shift by
        self._shift_matrix = (
            float(np.vdot(across, across)) + flat,
            float(np.vdot(across, down)),
            float(np.vdot(down, down)) + flat,
        )

    def remove(self, change: Cells) -> Removed:
        """Subtract the disturbances from a difference from the background, in place."""
        light, overall = self._light(change)
        if light is not None:
            change -= light
        bands = _middle(change[:, ::4])
        change -= bands
        self._remove_shift(change)
        return Removed(light, overall, bands)

    def _light(self, change: Cells) -> tuple[Cells | None, float]:
        tones = _middle(change.take(self._groups, mode="clip"))[:, 0]
        # Light changes every tone, a large thing one or two of them.
        overall = float(np.sort(np.abs(tones))[len(tones) // 2])
        tones.clip(-2 * overall - 2, 2 * overall + 2, out=tones)
        if np.abs(tones).max() < _NO_LIGHT:
            return None, 0.0
        curve = np.interp(self._grid, self._knots, tones).astype(np.float32)
        return curve.take(self._level, mode="clip"), overall if overall > 1 else 0.0

    def _remove_shift(self, change: Cells) -> None:
        """Subtract what a shift of the whole picture explains, by least squares to first order."""
        part = np.minimum(change[::2], self._largest)
        np.maximum(part, -self._largest, out=part)
        seen_across, seen_down = float(np.vdot(part, self._across[::2])), float(np.vdot(part, self._down[::2]))
        across, mixed, down = self._shift_matrix
        determinant = across * down - mixed * mixed
        x = _bounded((seen_across * down - seen_down * mixed) / determinant)
        y = _bounded((seen_down * across - seen_across * mixed) / determinant)
        if max(abs(x), abs(y)) > _NO_SHIFT:
            change -= np.float32(x) * self._across
            change -= np.float32(y) * self._down


def steps(picture: Cells) -> Cells:
    """Return the difference of each cell from the neighbour above, below or beside it that differs most."""
    most = np.zeros_like(picture)
    down, across = np.abs(np.diff(picture, axis=0)), np.abs(np.diff(picture, axis=1))
    for part, step in ((np.s_[:-1], down), (np.s_[1:], down), (np.s_[:, :-1], across), (np.s_[:, 1:], across)):
        np.maximum(most[part], step, out=most[part])
    return most


def _bounded(shift: float) -> float:
    return max(-_MAX_SHIFT, min(_MAX_SHIFT, shift))


def _middle(values: Cells) -> Cells:
    """Return the median of each row, shape (rows, 1)."""
    half = values.shape[1] // 2
    return np.partition(values, half, axis=1)[:, half : half + 1]


def _slopes(mean: Cells) -> tuple[Cells, Cells]:
    """Return the change of brightness per cell, to the right and downwards; 0 at the border."""
    across, down = np.zeros_like(mean), np.zeros_like(mean)
    across[:, 1:-1] = (mean[:, 2:] - mean[:, :-2]) / 2
    down[1:-1] = (mean[2:] - mean[:-2]) / 2
    return across, down
