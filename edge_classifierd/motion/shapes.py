"""Finds the boxes of the groups of cells that have moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

MAX_BOXES: Final = 8
_GAP: Final = 5
"""Groups with more empty rows or columns than this between them are two things."""
_NEIGHBOURS: Final = 5
_SOLID_CELLS: Final = 16
_MAX_CUTS: Final = 64


@dataclass(frozen=True, slots=True)
class CellBox:
    """A group of moved cells: its bounds in cells (right and bottom excluded) and its weight."""

    left: int
    top: int
    right: int
    bottom: int
    cells: int
    """Number of moved cells in it."""
    solid: bool
    """Whether it has 16 cells or more, and one of them moved with all its neighbours. Rain and noise seldom do."""


def find_boxes(moved: Mask, *, least: float) -> tuple[CellBox, ...]:
    """Return the boxes of the groups with at least `least` cells, the heaviest first, at most `MAX_BOXES`.

    Cells with fewer than 4 moved neighbours are left out. A group is cut wherever rows or columns stay empty over
    a gap; groups whose bounds overlap in both directions are one.
    """
    around = neighbours(moved)
    dense = (around >= _NEIGHBOURS) & moved
    if not dense.any():
        return ()
    found = [
        CellBox(left, top, right, bottom, cells, _is_solid(around[top:bottom, left:right], cells))
        for left, top, right, bottom in _groups(dense)
        if (cells := int(np.count_nonzero(dense[top:bottom, left:right]))) >= least
    ]
    found.sort(key=lambda box: -box.cells)
    return tuple(found[:MAX_BOXES])


def _is_solid(around: NDArray[np.uint8], cells: int) -> bool:
    return cells >= _SOLID_CELLS and bool((around == 9).any())


def _groups(dense: Mask) -> Iterator[tuple[int, int, int, int]]:
    """Yield left, top, right, bottom of each group: cut along columns and rows in turn until neither has a gap."""
    rows, columns = dense.shape
    waiting = [(0, 0, columns, rows, 0, 0)]
    for _ in range(_MAX_CUTS):
        if not waiting:
            return
        left, top, right, bottom, axis, without_gap = waiting.pop()
        filled = np.flatnonzero(dense[top:bottom, left:right].any(axis=axis))
        parts = np.split(filled, np.flatnonzero(np.diff(filled) > _GAP) + 1)
        without_gap = without_gap + 1 if len(parts) == 1 else 1
        for part in parts:
            first, end = int(part[0]), int(part[-1]) + 1
            box = (left + first, top, left + end, bottom) if axis == 0 else (left, top + first, right, top + end)
            if without_gap == 2:
                yield box
            else:
                waiting.append((*box, 1 - axis, without_gap))


def neighbours(moved: Mask) -> NDArray[np.uint8]:
    """Return how many of the 3×3 cells around each have moved, itself included."""
    padded = np.zeros((moved.shape[0] + 2, moved.shape[1] + 2), np.uint8)
    padded[1:-1, 1:-1] = moved
    across = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    counts: NDArray[np.uint8] = across[:-2] + across[1:-1] + across[2:]
    return counts
