from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from grey_scenes import Scenes
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.motion.gate import Focus, GateSettings, Look, MotionGate, SeenThing, Turns, square_around
from edge_classifierd.preprocess import Region, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP_S = 0.1
FOLLOW = GateSettings(follow=True)


class Watched:
    """A gate in front of a scene, ten frames a second."""

    def __init__(self, settings: GateSettings | None = None, view: View | None = None, *, learn_s: float = 3.0) -> None:
        self.scenes = Scenes()
        self.gate = MotionGate(settings or GateSettings(), view or View())
        self.now_s = 50.0
        self.looks = self.empty(learn_s)

    def look(self, scene: NDArray[np.float64] | None = None) -> Look:
        look = self.gate.look(self.scenes.frame(scene), self.now_s)
        self.now_s += STEP_S
        return look

    def empty(self, seconds: float) -> list[Look]:
        return [self.look() for _ in range(round(seconds / STEP_S))]

    def thing(self, left: int, top: int, seconds: float = STEP_S, **options: Any) -> list[Look]:
        scene = self.scenes.with_thing(left, top, **options)
        return [self.look(scene) for _ in range(round(seconds / STEP_S))]


def test_of_a_still_scene_the_first_frame_and_one_every_refresh_are_classified() -> None:
    watched = Watched(GateSettings(refresh_s=5.0), learn_s=20.0)
    assert [number for number, look in enumerate(watched.looks) if look.classify] == [0, 50, 100, 150]
    assert not any(look.moving for look in watched.looks)


def test_every_frame_is_classified_while_something_moves_and_for_the_hold_after_it() -> None:
    watched = Watched(GateSettings(hold_s=1.0))
    looks = [look for left in range(20, 60, 4) for look in watched.thing(left, 30)]
    assert all(look.classify and look.moving for look in looks)
    after = watched.empty(3.0)
    awake = [look.classify for look in after]
    assert awake == [True] * 9 + [False] * 21
    assert [look.moving for look in after] == awake
    assert [look.fell_asleep for look in after].index(True) == 9
    assert sum(look.fell_asleep for look in after) == 1


def test_a_sudden_change_of_light_is_classified_at_most_once() -> None:
    watched = Watched()
    looks = [watched.look(255 * (watched.scenes.empty / 255) ** 0.4) for _ in range(60)]
    assert sum(look.classify for look in looks) <= 1
    assert not any(look.moving for look in looks)


def test_without_follow_the_whole_region_is_classified() -> None:
    watched = Watched()
    (look,) = watched.thing(60, 30)
    assert look.classify
    assert look.things == ()


def test_follow_gives_the_square_around_what_moves() -> None:
    watched = Watched(FOLLOW)
    (look,) = watched.thing(60, 30, side=16)
    (thing,) = look.things
    assert thing.box.x == pytest.approx(60 / 160, abs=0.01)
    assert thing.box.y == pytest.approx(30 / 90, abs=0.02)
    assert thing.box.width == pytest.approx(16 / 160, abs=0.01)
    assert thing.square.width * 160 == pytest.approx(thing.square.height * 90)


def test_the_square_lies_in_the_upright_frame_of_a_turned_camera() -> None:
    turned = Watched(FOLLOW, View(rotation=180))
    (look,) = turned.thing(20, 10, side=16)
    (thing,) = look.things
    assert thing.box.x == pytest.approx(1 - 36 / 160, abs=0.01)
    assert thing.box.y == pytest.approx(1 - 26 / 90, abs=0.02)


def test_with_a_region_boxes_are_fractions_of_the_frame_and_motion_outside_counts_nothing() -> None:
    view = View(region=Region(0.5, 0.0, 0.5, 1.0))
    watched = Watched(FOLLOW, view)
    assert not any(look.moving for look in watched.thing(20, 30, 0.5))
    watched.empty(1.0)
    (look,) = watched.thing(120, 30, side=16)
    (thing,) = look.things
    assert thing.box.x == pytest.approx(120 / 160, abs=0.02)
    assert thing.box.width == pytest.approx(16 / 160, abs=0.02)


def test_motion_in_an_ignored_part_counts_nothing() -> None:
    watched = Watched(GateSettings(ignore=(Region(0.0, 0.0, 0.5, 1.0),)))
    assert not any(look.moving for look in watched.thing(20, 30, 1.0))
    assert watched.thing(120, 30)[0].moving


def test_things_smaller_than_the_smallest_count_nothing() -> None:
    watched = Watched(GateSettings(smallest=0.15))
    assert not any(look.moving for look in watched.thing(60, 30, 1.0, side=12))
    watched.empty(1.0)
    assert watched.thing(20, 30, side=40)[0].moving


def test_several_things_are_seen_and_keep_their_numbers() -> None:
    watched = Watched(FOLLOW)
    numbers = set()
    for step in range(6):
        scene = watched.scenes.with_thing(10 + 3 * step, 10)
        scene[50:70, 120:140] = watched.scenes.with_thing(120, 50, 20)[50:70, 120:140]
        left, right = sorted(watched.look(scene).things, key=lambda thing: thing.box.x)
        assert left.box.y < 0.2
        assert right.box.y > 0.5
        numbers.add((left.number, right.number))
    assert len(numbers) == 1


def seen(number: int) -> SeenThing:
    return SeenThing(number, Region(number / 10, 0.0, 0.1, 0.1), Region(number / 10, 0.0, 0.2, 0.2))


def focus(number: int, *, ends_round: bool) -> Focus:
    return Focus(seen(number).box, seen(number).square, ends_round=ends_round)


def test_things_are_classified_in_turn() -> None:
    turns = Turns()
    found = [turns.next((seen(1), seen(2), seen(3))) for _ in range(4)]
    assert found == [
        focus(1, ends_round=False),
        focus(2, ends_round=False),
        focus(3, ends_round=True),
        focus(1, ends_round=False),
    ]


def test_a_thing_that_leaves_loses_its_turn_and_a_new_one_waits_for_the_next_round() -> None:
    turns = Turns()
    turns.next((seen(1), seen(2), seen(3)))
    assert turns.next((seen(1), seen(3), seen(4))) == focus(3, ends_round=True)
    assert turns.next((seen(1), seen(3), seen(4))) == focus(1, ends_round=False)


def test_nothing_to_follow_means_the_whole_region() -> None:
    assert Turns().next(()) is None


def test_a_thing_that_has_stopped_is_what_every_refresh_classifies() -> None:
    watched = Watched(GateSettings(follow=True, refresh_s=10.0))
    watched.thing(60, 30, 14.0, side=16)
    looks = watched.thing(60, 30, 30.0, side=16)
    classified = [look for look in looks if look.classify]
    assert 2 <= len(classified) <= 4 + 30
    asleep = [look for look in looks if look.classify and not look.moving]
    assert len(asleep) in {2, 3}
    assert all(abs(look.things[0].box.x - 60 / 160) < 0.02 for look in asleep)


def test_a_refresh_classifies_every_thing_that_has_stopped() -> None:
    watched = Watched(GateSettings(follow=True, refresh_s=5.0))
    both = watched.scenes.with_thing(20, 10, 16)
    both[60:76, 120:136] = watched.scenes.with_thing(120, 60, 16)[60:76, 120:136]
    looks = [watched.look(both) for _ in range(260)]
    asleep = [number for number, look in enumerate(looks) if look.classify and not look.moving]
    assert len(asleep) >= 2
    assert all(len(looks[number].things) == 2 for number in asleep)
    assert [b - a for a, b in zip(asleep[::2], asleep[1::2], strict=False)] == [1] * (len(asleep) // 2)


def test_after_a_stopped_thing_has_left_the_whole_region_is_classified_and_then_the_gate_sleeps() -> None:
    watched = Watched(FOLLOW)
    watched.thing(60, 30, 16.0, side=16)
    after = watched.empty(4.0)
    assert after[1].moving
    assert any(look.classify and not look.things for look in after[:20])
    assert [look.fell_asleep for look in after].index(True) <= 35


def test_a_thing_that_has_left_wakes_the_gate_of_a_camera_with_few_pictures() -> None:
    watched = Watched(FOLLOW)
    watched.thing(60, 30, 16.0, side=16)
    looks = []
    for _ in range(3):
        watched.now_s += 10.0
        looks.append(watched.look())
    assert any(look.classify and look.moving and not look.things for look in looks)


@pytest.mark.parametrize("awake", [False, True])
def test_a_stopped_thing_that_moves_on_is_not_classified_together_with_its_former_place(awake: bool) -> None:
    """The model recognises nothing in both at once: the watch would be cleared and detected again."""
    watched = Watched(GateSettings(follow=True, hold_s=60.0 if awake else 2.0))
    watched.thing(60, 30, 16.0, side=16)
    looks = [watched.thing(left, 30, side=16)[0] for left in (72, 84, 96, 108)]
    assert sum(look.classify for look in looks) >= 3
    for look in looks:
        if look.classify:
            assert any(thing.box.width < 20 / 160 for thing in look.things)


def test_the_place_of_a_thing_that_was_there_from_the_start_is_not_followed_for_long() -> None:
    watched = Watched(FOLLOW, learn_s=0)
    watched.thing(60, 30, 4.0, side=16)
    after = watched.empty(5.0)
    assert after[0].moving
    assert not any(look.moving for look in after[35:])


fractions = st.floats(0.01, 0.99)


@given(x=fractions, y=fractions, width=fractions, height=fractions, margin=st.floats(0, 1))
def test_the_square_is_inside_the_region_and_square_in_pixels(
    x: float, y: float, width: float, height: float, margin: float
) -> None:
    region = Region(0.1, 0.2, 0.7, 0.6)
    box = Region(0.1 + 0.7 * x, 0.2 + 0.6 * y, 0.7 * (1 - x) * width, 0.6 * (1 - y) * height)
    square = square_around(box, region, 1280, 720, margin=margin)
    assert square.width * 1280 == pytest.approx(square.height * 720)
    assert square.x >= region.x
    assert square.y >= region.y
    assert square.x + square.width <= region.x + region.width + 1e-9
    assert square.y + square.height <= region.y + region.height + 1e-9
    longer = max(box.width * 1280, box.height * 720)
    assert square.width * 1280 >= min(longer, 0.6 * 720) - 1e-6
