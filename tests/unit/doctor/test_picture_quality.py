"""The figures by which the doctor judges a picture."""

from __future__ import annotations

import av
import numpy as np

from edge_classifierd.doctor.picture_quality import measure
from edge_classifierd.preprocess import Region, View


def of(pixels: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels, np.uint8), format="rgb24")


def stripes(period: int) -> np.ndarray:
    """Vertical stripes whose edges are softer the longer the period."""
    wave = 128 + 100 * np.sin(np.arange(320) * 2 * np.pi / period)
    return np.repeat(np.broadcast_to(wave, (240, 320))[:, :, None], 3, axis=2)


def test_black_white_and_grey_have_their_brightness_and_no_contrast() -> None:
    for level in (0, 128, 255):
        figures = measure(of(np.full((120, 160, 3), level)), View())
        assert abs(figures.brightness - level) < 2
        assert figures.contrast < 1
        assert figures.sharpness < 1


def test_the_same_scene_out_of_focus_is_less_sharp() -> None:
    sharp, soft = (measure(of(stripes(period)), View()).sharpness for period in (8, 80))
    assert sharp > 20 * soft


def test_only_the_region_counts_after_turning() -> None:
    pixels = np.zeros((120, 160, 3))
    pixels[:, :80] = 255  # the left half is white; turned clockwise by 90 degrees it is the upper half
    figures = measure(of(pixels), View(rotation=90, region=Region(0, 0, 1, 0.4)))
    assert figures.brightness > 250
    assert (figures.width, figures.height) == (120, 64)
