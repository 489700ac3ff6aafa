from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_classifierd.motion.luma import COLUMNS, LumaScaler
from edge_classifierd.preprocess import Region, View


def grey_frame(pixels: np.ndarray, pixel_format: str) -> av.VideoFrame:
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.repeat(pixels[..., None], 3, axis=2)), format="rgb24")
    return rgb if pixel_format == "rgb24" else rgb.reformat(format=pixel_format, threads=1)


def marked(width: int, height: int) -> np.ndarray:
    """Dark, with a bright quarter at the upper left."""
    pixels = np.full((height, width), 40, np.uint8)
    pixels[: height // 2, : width // 2] = 200
    return pixels


@pytest.mark.parametrize(
    "pixel_format", ["rgb24", "bgr24", "yuv420p", "yuvj422p", "nv12", "gray", "yuyv422", "bgra", "yuv420p10le"]
)
def test_every_pixel_format_gives_the_brightness_of_each_cell(pixel_format: str) -> None:
    cells = LumaScaler(View())(grey_frame(marked(644, 360), pixel_format))
    assert cells.shape == (89, COLUMNS)
    bright, dark = cells[:40, :75].astype(int), cells[50:, 85:].astype(int)
    assert bright.min() > 160
    assert dark.max() < 80
    assert np.ptp(bright) <= 2
    assert np.ptp(dark) <= 2


@pytest.mark.parametrize(
    ("view", "corner"),
    [
        (View(), "upper left"),
        (View(rotation=90), "upper right"),
        (View(rotation=180), "lower right"),
        (View(rotation=270), "lower left"),
        (View(mirror="horizontal"), "upper right"),
        (View(rotation=90, mirror="vertical"), "lower right"),
    ],
)
def test_the_small_picture_is_upright(view: View, corner: str) -> None:
    cells = LumaScaler(view)(grey_frame(marked(320, 160), "rgb24"))
    rows, columns = cells.shape
    assert max(rows, columns) == COLUMNS
    assert (rows > columns) is (view.rotation in {90, 270})
    vertical, horizontal = corner.split()
    part = cells[: rows // 2] if vertical == "upper" else cells[rows - rows // 2 :]
    part = part[:, : columns // 2] if horizontal == "left" else part[:, columns - columns // 2 :]
    assert part.mean() > 190


def test_only_the_region_is_scaled() -> None:
    view = View(region=Region(0.5, 0.0, 0.5, 1.0))
    cells = LumaScaler(view)(grey_frame(marked(640, 360), "yuv420p"))
    assert cells.shape == (COLUMNS, 142)
    assert cells.max() < 60


@given(
    line=st.lists(st.integers(0, 255), min_size=1, max_size=400),
    height=st.integers(1, 400),
    depth=st.sampled_from(["rgb24", "gray"]),
)
@example(line=[120, 130], height=214, depth="gray")  # to one or two columns swscale takes a pixel, not the mean
@example(line=[0, 0, 255], height=400, depth="gray")
@example(line=[0, 255, 0, 255, 0], height=400, depth="gray")
@settings(max_examples=60, deadline=None)
def test_a_cell_is_the_mean_of_its_pixels(line: list[int], height: int, depth: str) -> None:
    pixels = np.tile(np.array(line, np.uint8), (height, 1))
    cells = LumaScaler(View())(grey_frame(pixels, depth))
    rows, columns = cells.shape
    assert max(rows, columns) == min(COLUMNS, max(len(line), height))
    edges = np.linspace(0, len(line), columns + 1)
    before = np.interp(edges, range(len(line) + 1), np.concatenate([[0], np.cumsum(line)]))  # the sum left of each edge
    means = np.diff(before) / np.diff(edges)
    assert np.abs(cells - means).max() < 2.5
