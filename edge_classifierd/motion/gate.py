"""The motion gate: decides which frames of a fixed camera are classified, and which part of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge_classifierd.motion.background import Background, Scene
from edge_classifierd.motion.follow import Follower
from edge_classifierd.motion.luma import LumaScaler
from edge_classifierd.motion.shapes import find_boxes
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

    from edge_classifierd.motion.background import Difference
    from edge_classifierd.motion.shapes import CellBox
    from edge_classifierd.preprocess import View

Sensitivity = Literal["low", "normal", "high"]

_LEVELS: Final[dict[Sensitivity, tuple[float, float]]] = {"low": (7.0, 6.0), "normal": (4.0, 4.0), "high": (3.0, 3.5)}
"""The least change that counts: in 1/64 octave, and in mean deviations of the noise."""
_FILLED: Final = 0.5
"""A thing fills at least half of the square of the smallest size."""
_GHOST_AFTER_S: Final = 1.0
_GHOST_SIDES: Final = (8.0, 40.0)
"""Sides in cells of the things that are examined for being ghosts.

The outline of a small thing is too short to judge, and that of a large plain one has few edges of its own.
"""
LEAST_SIDE: Final = 64.0
"""Side of the smallest square that is classified, in pixels."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """The settings of a gate; times in seconds, sizes and places in fractions of the upright frame."""

    sensitivity: Sensitivity = "normal"
    smallest: float = 0.02
    """Side of the smallest thing that counts, as a fraction of the width of the frame."""
    ignore: tuple[Region, ...] = ()
    """Parts of the frame in which nothing counts."""
    hold_s: float = 2.0
    """How long frames are classified after the last motion."""
    refresh_s: float = 30.0
    """While nothing moves, one frame is classified this often."""
    follow: bool = False
    """Classify what moves instead of the whole region."""
    margin: float = -0.1
    """Width added on each side of what moves, as a fraction of its longer side; less than 0: trimmed.

    Cells at the border are covered in part only, and the model does best without foreign surroundings: measured with
    squares, ovals and cut-outs (`bench/follow.py --tuning`), Top-1 at 400 pixels 76 %, at 0 65 %.
    """


@dataclass(frozen=True, slots=True)
class SeenThing:
    """Something that moves or has stopped, in one frame; in fractions of the upright frame."""

    number: int
    """The same in each frame in which the thing is followed."""
    box: Region
    square: Region
    """The square around `box` to classify."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the gate decides about a frame."""

    classify: bool
    moving: bool
    """Whether something has moved within `hold_s`."""
    fell_asleep: bool = False
    """Whether this is the first frame after `hold_s` without motion."""
    things: tuple[SeenThing, ...] = ()
    """With `follow`: what to classify in turn; empty for the whole region."""


@dataclass(frozen=True, slots=True)
class Focus:
    """The part of a frame that is classified, in fractions of the upright frame."""

    box: Region
    square: Region
    ends_round: bool
    """Whether every thing that is followed has had its turn."""


class Turns:
    """Chooses which thing of a frame is classified, each one in turn; used by one thread at a time."""

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def next(self, things: tuple[SeenThing, ...]) -> Focus | None:
        """Return the part of a frame to classify; None for the whole region, when nothing is followed."""
        by_number = {thing.number: thing for thing in things}
        self._waiting = [number for number in self._waiting if number in by_number] or list(by_number)
        if not self._waiting:
            return None
        thing = by_number[self._waiting.pop(0)]
        return Focus(thing.box, thing.square, ends_round=not self._waiting)


class MotionGate:
    """Looks at each frame of one pipeline in the order of capture; used by one thread at a time.

    A frame costs 0.25 to 0.35 ms when it is looked at repeatedly, and about 1 ms with cold caches.
    """

    def __init__(self, settings: GateSettings, view: View) -> None:
        """`view` is the pipeline's; only its region is looked at."""
        self._settings = settings
        self._view = view
        self._luma = LumaScaler(view)
        step, noises = _LEVELS[settings.sensitivity]
        self._background = Background(step=step, noises=noises)
        self._follower = Follower()
        self._watched: NDArray[np.bool_] | None = None
        self._shape: tuple[int, ...] = ()
        self._moved_s = self._classified_s = -inf
        self._relit = False
        self._moving = False
        self._left = False  # a thing that had stopped has left in the latest picture
        self._refreshing = 0  # number of frames to classify although nothing moves

    def look(self, picture: av.VideoFrame, now_s: float) -> Look:
        """Decide about a frame.

        Args:
            picture: The picture of the source.
            now_s: Monotonic seconds of its capture, not less than before.
        """
        luma = self._luma(picture)
        if luma.shape != self._shape:
            self._shape = luma.shape
            self._watched = self._watched_cells(*luma.shape)
            self._follower.clear()
        difference = self._background.compare(luma, now_s)
        left = False
        if difference.scene is Scene.COMPARED:
            left = self._follow(difference, now_s)
        else:
            self._follower.clear()
            self._relit = self._relit or difference.scene is Scene.RELIT
        if self._left or any(thing.confirmed and thing.missed == 0 for thing in self._follower.things):
            self._moved_s = now_s
        self._left = left
        was_moving, self._moving = self._moving, now_s - self._moved_s < self._settings.hold_s
        asleep = not self._moving
        fell_asleep = asleep and was_moving
        things = self._things(picture)
        settled = self._relit and difference.scene is Scene.COMPARED
        self._relit = self._relit and not settled
        if self._moving:
            self._refreshing = 0
        elif not self._refreshing and (settled or now_s - self._classified_s >= self._settings.refresh_s):
            self._refreshing = max(1, len(things))
        # A picture in which a thing leaves the place where it stopped shows it and the empty place as one.
        unclear = left and self._settings.follow and not things
        if unclear or (asleep and not self._refreshing):
            return Look(classify=False, moving=self._moving, fell_asleep=fell_asleep)
        self._refreshing = max(0, self._refreshing - 1)
        self._classified_s = now_s
        return Look(classify=True, moving=self._moving, fell_asleep=fell_asleep, things=things)

    def look_now(self) -> None:
        """Classify the next frame, whether something moves or not; any thread."""
        self._classified_s = -inf

    @property
    def refreshes_at_s(self) -> float:
        """Monotonic seconds at which a frame is classified although nothing moves; any thread."""
        return self._classified_s + self._settings.refresh_s

    def _follow(self, difference: Difference, now_s: float) -> bool:
        """Find and follow what moves; return whether a thing that had stopped has left."""
        moved = difference.moved
        boxes: tuple[CellBox, ...] = ()
        if moved is not None:
            if self._watched is not None:
                moved &= self._watched
            side = self._settings.smallest * self._columns_of_frame()
            boxes = find_boxes(moved, least=max(5.0, _FILLED * side * side))
        follower = self._follower
        left = follower.update(boxes, difference, now_s)
        for thing in follower.things.copy():
            if (
                moved is None
                or thing.checked
                or thing.absorbed
                or thing.came
                or now_s - thing.still_since_s < _GHOST_AFTER_S
            ):
                continue
            thing.checked = True
            low, high = _GHOST_SIDES
            if low <= thing.side <= high and self._background.shows_ghost(thing.box, moved):
                self._background.forget(thing.box, moved)
                follower.remove(thing)
        return left

    def _things(self, picture: av.VideoFrame) -> tuple[SeenThing, ...]:
        if not self._settings.follow:
            return ()
        found = []
        for thing in self._follower.things:
            if thing.confirmed:
                box = self._region(thing.box)
                found.append(SeenThing(thing.number, box, self._square(box, picture)))
        return tuple(found)

    def _columns_of_frame(self) -> float:
        """Return how many cells are as wide as the frame."""
        return self._shape[1] / self._view.region.width

    def _region(self, box: CellBox) -> Region:
        """Return a box of cells in fractions of the upright frame."""
        rows, columns = self._shape
        region = self._view.region
        return Region(
            region.x + region.width * box.left / columns,
            region.y + region.height * box.top / rows,
            region.width * (box.right - box.left) / columns,
            region.height * (box.bottom - box.top) / rows,
        )

    def _square(self, box: Region, picture: av.VideoFrame) -> Region:
        turned = self._view.quarter_turns(picture) % 2
        size = (picture.height, picture.width) if turned else (picture.width, picture.height)
        return square_around(box, self._view.region, *size, margin=self._settings.margin)

    def _watched_cells(self, rows: int, columns: int) -> NDArray[np.bool_] | None:
        """Return the cells whose centre is in no ignored part; None when all count."""
        if not self._settings.ignore:
            return None
        region = self._view.region
        x = region.x + region.width * (np.arange(columns) + 0.5) / columns
        y = region.y + region.height * (np.arange(rows) + 0.5) / rows
        watched = np.ones((rows, columns), np.bool_)
        for part in self._settings.ignore:
            inside_x = (x >= part.x) & (x < part.x + part.width)
            inside_y = (y >= part.y) & (y < part.y + part.height)
            watched &= ~(inside_y[:, None] & inside_x)
        return watched


def square_around(box: Region, region: Region, width: int, height: int, *, margin: float) -> Region:
    """Return the square around a box, with a margin on each side, moved and shrunk until it is inside the region.

    Args:
        box: In fractions of the upright frame.
        region: The part of the frame that may be classified.
        width: The width of the frame in pixels.
        height: Its height.
        margin: A fraction of the box's longer side; less than 0 trims the box.
    """
    most = min(region.width * width, region.height * height)
    side = min(most, max(LEAST_SIDE, (1 + 2 * margin) * max(box.width * width, box.height * height)))
    across, down = side / width, side / height
    return Region(
        _between(region.x, box.x + (box.width - across) / 2, region.x + region.width - across),
        _between(region.y, box.y + (box.height - down) / 2, region.y + region.height - down),
        across,
        down,
    )


def _between(low: float, value: float, high: float) -> float:
    return max(low, min(value, high))
