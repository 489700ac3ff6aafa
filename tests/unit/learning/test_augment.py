from __future__ import annotations

import numpy as np
import pytest

from edge_classifierd.learning import augment
from edge_classifierd.learning.augment import varied


def lit(side: int, row: int, column: int, dtype: type = np.uint8, *, dark: int = 0, bright: int = 200) -> np.ndarray:
    """A dark picture with one bright patch of 5 × 5 around (row, column)."""
    tensor = np.full((1, side, side, 3), dark, dtype)
    tensor[0, row - 2 : row + 3, column - 2 : column + 3] = bright
    return tensor


def middle(tensor: np.ndarray) -> np.ndarray:
    """Row and column of the centre of what is bright."""
    grey = tensor[0].astype(float).mean(2)
    bright = grey - grey.min()
    return np.array([(bright.sum(1 - axis) @ np.arange(len(bright))) / bright.sum() for axis in (0, 1)])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float32])
def test_views_keep_shape_and_dtype_and_stay_in_range(dtype: type) -> None:
    random = np.random.default_rng(0)
    values = random.random((1, 32, 48, 3)) * 2 - 1 if dtype is np.float32 else random.integers(0, 128, (1, 32, 48, 3))
    tensor = values.astype(dtype)
    for _ in range(20):
        view = varied(tensor, random, mirrored=False)
        assert (view.shape, view.dtype) == (tensor.shape, tensor.dtype)
        if dtype is np.float32:
            assert tensor.min() <= view.min() < view.max() <= tensor.max()


def test_white_and_black_do_not_wrap_round_when_the_light_changes() -> None:
    random = np.random.default_rng(0)
    for dtype, black, white in ((np.uint8, 0, 255), (np.int8, -128, 127)):
        tensor = np.full((1, 8, 8, 3), black, dtype)
        tensor[0, :, 4:] = white
        for _ in range(20):
            view = varied(tensor, random, mirrored=False).astype(int)
            assert view[0, :, 0].max() < black + 40
            assert view[0, :, -1].min() > white - 40


def test_things_move_a_little_and_differently_each_time() -> None:
    random = np.random.default_rng(0)
    places = np.array([middle(varied(lit(100, 50, 50), random, mirrored=False)) for _ in range(60)])
    away = np.abs(places - 50)
    assert 3 < away.max() < 6.5
    assert len(np.unique(places.round(2), axis=0)) > 50
    assert np.abs(places.mean(0) - 49.5).max() < 1.5
    corner = np.array([middle(varied(lit(100, 20, 20), random, mirrored=False)) for _ in range(60)])
    assert 6 < np.abs(corner - 20).max() < 17  # turned and scaled around the middle


def test_mirrored_views_show_the_left_on_the_right() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        assert middle(varied(lit(100, 30, 20), random, mirrored=True))[1] > 65
        assert middle(varied(lit(100, 30, 20), random, mirrored=False))[1] < 35


def test_the_edge_is_drawn_out_instead_of_a_frame_that_no_camera_sees() -> None:
    random = np.random.default_rng(0)
    flat = np.full((1, 40, 40, 3), 128, np.uint8)
    for _ in range(20):
        assert np.ptp(varied(flat, random, mirrored=False)) <= 1


def test_without_variation_a_view_is_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TURN", "_SCALE", "_SHIFT", "_LIGHT"):
        monkeypatch.setattr(augment, name, 0.0)
    random = np.random.default_rng(0)
    tensor = random.integers(0, 256, (1, 24, 32, 3)).astype(np.uint8)
    assert np.abs(varied(tensor, random, mirrored=False).astype(int) - tensor).max() <= 1
    assert np.abs(varied(tensor, random, mirrored=True).astype(int) - tensor[:, :, ::-1]).max() <= 1


def test_the_same_draw_gives_the_same_view() -> None:
    one, other = (varied(lit(50, 20, 30), np.random.default_rng(4), mirrored=False) for _ in range(2))
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("kept", ["_TURN", "_SCALE", "_SHIFT", "_LIGHT"])
def test_each_variation_does_what_it_says(monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    for name in {"_TURN", "_SCALE", "_SHIFT", "_LIGHT"} - {kept}:
        monkeypatch.setattr(augment, name, 0.0)
    random = np.random.default_rng(0)
    tensor = lit(101, 20, 50, dark=60)
    views = [varied(tensor, random, mirrored=False) for _ in range(60)]
    rows, columns = np.array([middle(view) for view in views]).T
    radius = np.hypot(rows - 50, columns - 50)
    if kept == "_TURN":  # on a circle around the middle
        assert np.abs(radius - 30).max() < 0.5
        assert 3 < np.abs(columns - 50).max() < 5.5
    elif kept == "_SCALE":  # on the line to the middle
        assert np.abs(columns - 50).max() < 0.5
        assert 2 < np.abs(radius - 30).max() < 3.5
    elif kept == "_SHIFT":
        assert 3 < np.abs(rows - 20).max() < 5.5
        assert 3 < np.abs(columns - 50).max() < 5.5
    else:
        lights = np.array([(int(view.min()), int(view.max())) for view in views])
        assert np.abs(rows - 20).max() < 0.5
        assert np.ptp(lights[:, 1] - lights[:, 0]) > 10  # contrast
        assert np.ptp(lights.sum(1)) > 20  # brightness
