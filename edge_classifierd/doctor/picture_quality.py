"""Measures brightness, contrast and sharpness of a picture, to adjust the lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.scaler import Scaler

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

    from edge_classifierd.preprocess import View

_SIDE: Final = 640
"""Pictures are scaled down to this side length, so that values of different cameras can be compared."""


@dataclass(frozen=True, slots=True)
class PictureQuality:
    """Measurements of one picture."""

    width: int
    """Width of the region, in pixels of the source."""
    height: int
    brightness: float
    """Mean luma, 0 (black) to 255 (white)."""
    contrast: float
    """Standard deviation of the luma; near 0 for a covered lens."""
    sharpness: float
    """Variance of the Laplacian: maximal at the best focus; below about 20 the picture is blurred."""


def measure(picture: av.VideoFrame, view: View) -> PictureQuality:
    """Measure the region of `view` in a frame."""
    turns = view.quarter_turns(picture)
    across = bool(turns % 2)
    width, height = (picture.height, picture.width) if across else (picture.width, picture.height)
    region = view.region_box(width, height)
    box = view.source_box(region, turns, width, height)
    scale = min(1.0, _SIDE / max(box.width, box.height))
    pixels = Scaler().rgb(picture, box, max(3, round(box.width * scale)), max(3, round(box.height * scale)))
    luma = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    return PictureQuality(region.width, region.height, float(luma.mean()), float(luma.std()), _sharpness(luma))


def _sharpness(luma: NDArray[np.float32]) -> float:
    """Pech-Pacheco's focus measure (2000): the variance of the Laplacian with the kernel (0 1 0, 1 -4 1, 0 1 0)."""
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    return float(laplacian.var())
