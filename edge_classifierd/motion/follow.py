"""Follows the things that move: which box of this picture is which of the last one, and what has stopped where.

Boxes are in cells of the small picture. Pure code, the time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.motion.background import Difference, Mask
    from edge_classifierd.motion.shapes import CellBox

MAX_THINGS: Final = 4
"""More things at a time would make a round of classifications long; the heaviest count."""
_LOST_S: Final = 0.5
"""A thing that was not seen for this long, and for two pictures, has left."""
_STRIDE: Final = 1.5
"""A thing moves at most this many times its own side from one picture to the next."""
_INSIDE: Final = 0.7
_STILL: Final = 0.2
_PART: Final = 0.4
"""Share of a thing's cells that must become background before it has stopped, or be revealed before it has left."""


@dataclass(slots=True)
class Thing:
    """Something that moves, or has stopped."""

    number: int
    """Different for each thing of a follower."""
    box: CellBox
    seen_s: float
    still_since_s: float
    confirmed: bool
    """False for what was seen in one picture only and may be a drop of rain."""
    missed: int = 0
    """Number of pictures since it was seen."""
    absorbed: int = 0
    """Number of its cells that have become background."""
    revealed: int = 0
    """Number of those that show again what was behind them."""
    still_box: CellBox | None = None
    came: bool = False
    """Whether it has moved since it was first seen; a ghost never does."""
    checked: bool = False
    """Whether it was examined for being a ghost since it stands still."""

    @property
    def side(self) -> int:
        """Its longer side in cells."""
        return _side(self.box)

    @property
    def stopped(self) -> bool:
        """Whether it has become part of the background and is followed although nothing moves there."""
        return self.absorbed >= _PART * self.box.cells


class Follower:
    """Follows at most `MAX_THINGS` things in the pictures of one view."""

    def __init__(self) -> None:
        self.things: list[Thing] = []
        self._numbers = count(1)

    def update(self, boxes: Sequence[CellBox], difference: Difference, now_s: float) -> bool:
        """Assign the boxes of a picture to the things, add new things, and remove those that have left.

        Returns:
            Whether one that had stopped has left. In this picture the box of where it goes contains where it was, too;
            it is not confirmed before the next picture.
        """
        for thing in self.things:
            _count_cells(thing, difference)
        left = [thing for thing in self.things if _has_left(thing)]
        self.things = [thing for thing in self.things if thing not in left]
        waiting = list(self.things)
        new = []
        for box in boxes:
            at = next(
                (thing for thing in self.things if thing.absorbed and _share_inside(box, thing.box) > _INSIDE), None
            )
            if at is not None:
                _see_part(at, now_s)
                continue
            match = _nearest(box, waiting)
            if match is None:
                confirmed = box.solid and not any(_share_inside(thing.box, box) > 0 for thing in left)
                new.append(Thing(next(self._numbers), box, now_s, now_s, confirmed, still_box=box))
            else:
                waiting.remove(match)
                _see(match, box, now_s)
        for thing in waiting:
            thing.missed += 1
        self.things = [thing for thing in self.things if thing.stopped or not _is_lost(thing, now_s)]
        self._add(new)
        return bool(left)

    def remove(self, thing: Thing) -> None:
        """Follow a thing no longer."""
        self.things.remove(thing)

    def clear(self) -> None:
        """Forget all things: the picture is another one."""
        self.things.clear()

    def _add(self, new: list[Thing]) -> None:
        """Add things, the heaviest first; the oldest stopped one gives way when there are too many."""
        for thing in new:
            if len(self.things) >= MAX_THINGS:
                stopped = [each for each in self.things if each.stopped or not each.confirmed]
                if not stopped:
                    return
                self.things.remove(min(stopped, key=lambda each: each.seen_s))
            self.things.append(thing)


def _count_cells(thing: Thing, difference: Difference) -> None:
    thing.absorbed += _cells(difference.absorbed, thing.box)
    if thing.absorbed:
        thing.revealed += _cells(difference.revealed, thing.box)


def _cells(mask: Mask | None, box: CellBox) -> int:
    return 0 if mask is None else int(np.count_nonzero(mask[box.top : box.bottom, box.left : box.right]))


def _has_left(thing: Thing) -> bool:
    return thing.absorbed > 0 and thing.revealed >= _PART * thing.absorbed


def _is_lost(thing: Thing, now_s: float) -> bool:
    return thing.missed > 0 and (not thing.confirmed or (thing.missed >= 2 and now_s - thing.seen_s >= _LOST_S))


def _see_part(thing: Thing, now_s: float) -> None:
    """Something moves inside a thing that has stopped: the thing itself is still there."""
    thing.seen_s, thing.missed = now_s, 0


def _see(thing: Thing, box: CellBox, now_s: float) -> None:
    thing.seen_s, thing.missed, thing.confirmed = now_s, 0, True
    thing.box = box
    if thing.still_box is None or not _same_place(box, thing.still_box):
        thing.still_box, thing.still_since_s, thing.came = box, now_s, True


def _same_place(one: CellBox, other: CellBox) -> bool:
    tolerance = 1 + _STILL * max(other.right - other.left, other.bottom - other.top)
    edges = ((one.left, other.left), (one.top, other.top), (one.right, other.right), (one.bottom, other.bottom))
    return all(abs(a - b) <= tolerance for a, b in edges)


def _share_inside(box: CellBox, around: CellBox) -> float:
    """Return which share of a box is inside another one, which counts as a fifth larger."""
    more_x, more_y = (around.right - around.left) / 10, (around.bottom - around.top) / 10
    width = min(box.right, around.right + more_x) - max(box.left, around.left - more_x)
    height = min(box.bottom, around.bottom + more_y) - max(box.top, around.top - more_y)
    return max(0.0, width) * max(0.0, height) / ((box.right - box.left) * (box.bottom - box.top))


def _nearest(box: CellBox, things: Sequence[Thing]) -> Thing | None:
    """Return the thing whose centre is nearest, if it can have moved here from one picture to the next."""
    best, best_distance = None, float("inf")
    for thing in things:
        other = thing.box
        reach = _STRIDE * (1 + thing.missed) * max(_side(box), _side(other)) + 1
        distance = max(abs(_centre(box, 0) - _centre(other, 0)), abs(_centre(box, 1) - _centre(other, 1)))
        if distance <= reach and distance < best_distance and not thing.absorbed:
            best, best_distance = thing, distance
    return best


def _side(box: CellBox) -> int:
    return max(box.right - box.left, box.bottom - box.top)


def _centre(box: CellBox, axis: int) -> float:
    return (box.left + box.right) / 2 if axis == 0 else (box.top + box.bottom) / 2
