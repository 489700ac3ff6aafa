from __future__ import annotations

import numpy as np
import pytest
from grey_scenes import Scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_classifierd.motion.background import STAYS_S, Background, Difference, Scene
from edge_classifierd.motion.shapes import find_boxes

STEP_S = 0.1


def learnt(scenes: Scenes) -> tuple[Background, float]:
    """A background that has seen three seconds of the empty scene, and the time."""
    background, now_s = Background(), 100.0
    for _ in range(30):
        background.compare(scenes.luma(), now_s)
        now_s += STEP_S
    return background, now_s


def things(difference: Difference) -> int:
    assert difference.scene is Scene.COMPARED
    return 0 if difference.moved is None else len(find_boxes(difference.moved, least=5))


def test_nothing_moves_in_noise() -> None:
    scenes = Scenes()
    background, now_s = learnt(scenes)
    for number in range(200):
        assert things(background.compare(scenes.luma(noise=2.0), now_s + number * STEP_S)) == 0


def test_the_first_pictures_are_learnt_only() -> None:
    scenes, background = Scenes(), Background()
    kinds = [background.compare(scenes.luma(scenes.with_thing(8 * n, 20)), n * STEP_S).scene for n in range(18)]
    assert set(kinds) == {Scene.LEARNING}


def test_the_cells_of_a_thing_have_moved_and_no_others() -> None:
    scenes = Scenes()
    background, now_s = learnt(scenes)
    difference = background.compare(scenes.luma(scenes.with_thing(60, 30)), now_s)
    assert difference.moved is not None
    inside = difference.moved[30:42, 60:72]
    assert inside.mean() > 0.9
    assert difference.moved.sum() - inside.sum() < 20


@given(gain=st.floats(0.6, 1.6), offset=st.floats(-15, 15), seconds=st.floats(0.1, 5), seed=st.integers(0, 20))
@settings(max_examples=10, deadline=None)
def test_a_ramp_of_brightness_moves_nothing(gain: float, offset: float, seconds: float, seed: int) -> None:
    scenes = Scenes(seed)
    background, now_s = learnt(scenes)
    for number in range(60):
        share = min(1.0, number * STEP_S / seconds)
        scene = scenes.empty * (1 + (gain - 1) * share) + offset * share
        difference = background.compare(scenes.luma(scene), now_s + number * STEP_S)
        assert difference.scene is not Scene.COMPARED or things(difference) == 0


@given(seed=st.integers(0, 20), phase=st.floats(0, 1))
@settings(max_examples=8, deadline=None)
def test_bands_of_lamps_move_nothing(seed: int, phase: float) -> None:
    scenes = Scenes(seed)
    background, now_s = learnt(scenes)
    rows = np.arange(len(scenes.empty))[:, None]
    for number in range(20):
        wave = 1 + 0.08 * np.sin(2 * np.pi * (rows / 37 + phase + 0.37 * number))
        assert things(background.compare(scenes.luma(scenes.empty * wave), now_s + number * STEP_S)) == 0


def test_a_shake_of_a_quarter_of_a_cell_moves_nothing() -> None:
    fine = Scenes(rows=360, columns=640)
    small = Scenes()

    def shaken(dx: int, dy: int) -> np.ndarray:
        moved = np.roll(fine.empty, (dy, dx), axis=(0, 1))
        return small.luma(moved.reshape(90, 4, 160, 4).mean(axis=(1, 3)))

    background = Background()
    for number in range(60):
        dx, dy = (0, 0) if number < 30 else (number % 3 - 1, number % 2)
        difference = background.compare(shaken(dx, dy), number * STEP_S)
        if number >= 30:
            assert things(difference) == 0


def test_the_switch_of_an_infrared_filter_is_at_most_one_change_of_light() -> None:
    scenes = Scenes()
    background, now_s = learnt(scenes)
    changes = 0
    for number in range(60):
        scene = 255 * (scenes.empty / 255) ** 0.4 * min(1.0, 0.4 + number * STEP_S / 2)
        difference = background.compare(scenes.luma(scene), now_s + number * STEP_S)
        changes += difference.scene is Scene.RELIT
        assert difference.scene is not Scene.COMPARED or things(difference) == 0
    assert changes <= 1


def test_a_thing_that_hides_most_of_the_scene_is_no_change_of_light() -> None:
    scenes = Scenes()
    background, now_s = learnt(scenes)
    scene = scenes.empty.copy()
    scene[:, 20:] = np.where((np.indices((90, 140)) // 9).sum(axis=0) % 2, 240, 10)
    difference = background.compare(scenes.luma(scene), now_s)
    assert things(difference) >= 1


def test_what_stays_becomes_background_and_leaves_no_ghost_when_it_goes() -> None:
    scenes = Scenes()
    background, now_s = learnt(scenes)
    with_thing = scenes.with_thing(60, 30)
    absorbed = 0
    for _ in range(round((STAYS_S + 3) / STEP_S)):
        difference = background.compare(scenes.luma(with_thing), now_s)
        absorbed += 0 if difference.absorbed is None else int(difference.absorbed[30:42, 60:72].sum())
        now_s += STEP_S
    assert absorbed > 100
    assert things(difference) == 0
    gone = background.compare(scenes.luma(), now_s)
    assert gone.revealed is not None
    assert gone.revealed[30:42, 60:72].mean() > 0.5
    assert things(gone) == 1
    for number in range(1, 20):
        assert things(background.compare(scenes.luma(), now_s + number * STEP_S)) == 0


def test_the_place_of_a_thing_that_was_there_from_the_start_is_a_ghost() -> None:
    scenes, background = Scenes(), Background()
    for number in range(30):
        background.compare(scenes.luma(scenes.with_thing(60, 30)), number * STEP_S)
    gone = background.compare(scenes.luma(), 3.0)
    assert gone.moved is not None
    (box,) = find_boxes(gone.moved, least=5)
    assert background.shows_ghost(box, gone.moved)
    background.forget(box, gone.moved)
    assert things(background.compare(scenes.luma(), 3.1)) == 0
    come = background.compare(scenes.luma(scenes.with_thing(20, 50)), 3.2)
    assert come.moved is not None
    (box,) = find_boxes(come.moved, least=5)
    assert not background.shows_ghost(box, come.moved)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (5, 160)])
def test_pictures_of_any_shape_are_compared(shape: tuple[int, int]) -> None:
    background = Background()
    for number in range(60):
        difference = background.compare(np.full(shape, 100, np.uint8), number * STEP_S)
    assert difference.moved is None


def test_another_size_of_picture_starts_the_learning_again() -> None:
    scenes = Scenes()
    background, now_s = learnt(scenes)
    assert background.compare(scenes.luma()[:60], now_s).scene is Scene.LEARNING
