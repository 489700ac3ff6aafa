from __future__ import annotations

import numpy as np

from edge_classifierd.motion.background import Difference, Scene
from edge_classifierd.motion.follow import MAX_THINGS, Follower, Thing
from edge_classifierd.motion.shapes import CellBox

NOTHING = Difference(Scene.COMPARED)


def box(left: int, top: int, side: int = 10, *, solid: bool = True) -> CellBox:
    return CellBox(left, top, left + side, top + side, side * side, solid)


def cells(around: CellBox) -> np.ndarray:
    mask = np.zeros((90, 160), np.bool_)
    mask[around.top : around.bottom, around.left : around.right] = True
    return mask


def with_stopped(place: CellBox) -> Follower:
    """A follower with one thing that came and has become background."""
    follower = Follower()
    follower.update([place], NOTHING, 0.0)
    follower.update([place], NOTHING, 0.1)
    follower.update([], Difference(Scene.COMPARED, absorbed=cells(place)), 0.2)
    return follower


def test_a_thing_that_moves_stays_the_same_thing() -> None:
    follower = Follower()
    follower.update([box(10, 10), box(100, 40)], NOTHING, 0.0)
    first = list(follower.things)
    for step in range(1, 20):
        follower.update([box(100 - 2 * step, 40), box(10 + 3 * step, 10)], NOTHING, step / 10)
    assert [id(thing) for thing in follower.things] == [id(thing) for thing in first]
    assert {thing.box.top for thing in follower.things} == {10, 40}


def test_what_is_not_solid_counts_once_it_is_seen_a_second_time_nearby() -> None:
    follower = Follower()
    follower.update([box(10, 10, 4, solid=False)], NOTHING, 0.0)
    assert not follower.things[0].confirmed
    follower.update([box(12, 10, 4, solid=False)], NOTHING, 0.1)
    assert follower.things[0].confirmed


def test_rain_at_changing_places_never_counts() -> None:
    follower, random = Follower(), np.random.default_rng(1)
    for step in range(200):
        left = 80 * (step % 2) + int(random.integers(0, 60))
        follower.update([box(left, 10, 4, solid=False)], NOTHING, step / 10)
        assert not any(thing.confirmed for thing in follower.things)


def test_a_thing_that_is_not_seen_for_half_a_second_has_left() -> None:
    follower = Follower()
    follower.update([box(10, 10)], NOTHING, 0.0)
    for step in range(1, 5):
        follower.update([], NOTHING, step / 10)
        assert follower.things
    follower.update([], NOTHING, 0.6)
    assert not follower.things


def test_a_thing_that_has_stopped_is_followed_while_nothing_moves() -> None:
    follower = with_stopped(box(60, 30))
    for step in range(100):
        follower.update([], NOTHING, 1.0 + step)
    (thing,) = follower.things
    assert thing.stopped
    assert thing.box == box(60, 30)


def test_motion_inside_a_stopped_thing_does_not_change_its_box() -> None:
    follower = with_stopped(box(60, 30))
    follower.update([box(62, 31, 4)], NOTHING, 5.0)
    assert [thing.box for thing in follower.things] == [box(60, 30)]


def test_a_stopped_thing_has_left_when_the_background_shows_again() -> None:
    follower = with_stopped(box(60, 30))
    follower.update([box(60, 30)], Difference(Scene.COMPARED, revealed=cells(box(60, 30))), 9.0)
    follower.update([], NOTHING, 9.6)
    follower.update([], NOTHING, 9.7)
    assert not follower.things


def test_another_thing_beside_a_stopped_one_is_followed_too() -> None:
    follower = with_stopped(box(60, 30))
    follower.update([box(100, 30)], NOTHING, 5.0)
    assert len(follower.things) == 2


def test_the_number_of_things_is_limited_and_moving_ones_replace_stopped_ones() -> None:
    follower = with_stopped(box(0, 70))
    boxes = [box(30 * n, 10) for n in range(5)]
    follower.update(boxes, NOTHING, 5.0)
    assert len(follower.things) == MAX_THINGS
    assert not any(thing.stopped for thing in follower.things)


def test_a_thing_is_still_from_the_last_time_it_changed_its_place() -> None:
    follower = Follower()
    for step, left in enumerate([10, 20, 30, 40, 40, 41, 40, 40]):
        follower.update([box(left, 10)], NOTHING, float(step))
    (thing,) = follower.things
    assert isinstance(thing, Thing)
    assert thing.still_since_s == 3.0
