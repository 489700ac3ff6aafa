"""Makes varied copies of a picture to learn from: slightly turned, scaled, moved, brighter or darker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.model.quantiser import Tensor as Tensor  # noqa: PLC0414 - part of this module's interface

# Over ten splits of ten hand signs these limits were better than twice as large ones; smaller ones were not tried.
_TURN: Final = np.deg2rad(10.0)
_SCALE: Final = 0.1
_SHIFT: Final = 0.05
_LIGHT: Final = 0.1


def varied(tensor: Tensor, random: np.random.Generator, *, mirrored: bool) -> Tensor:
    """Return a randomly varied copy of a model's input (1, height, width, 3), with the same shape and dtype.

    It is turned by up to 10 degrees, scaled by 10 %, moved by 5 % of the side, and changed by 10 % in contrast and 5 %
    in brightness. Beyond the picture its edge is repeated.
    """
    turn, scale = random.uniform(-_TURN, _TURN), np.exp(random.uniform(-_SCALE, _SCALE))
    right, down = random.uniform(-_SHIFT, _SHIFT, 2)
    contrast, brightness = 1 + random.uniform(-_LIGHT, _LIGHT), random.uniform(-_LIGHT, _LIGHT) / 2
    _, height, width, _ = tensor.shape
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2 - right * width) / scale
    y = ((np.arange(height, dtype=np.float32) - (height - 1) / 2 - down * height) / scale)[:, None]
    across, along = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    view = _sampled(tensor[0], -across if mirrored else across, along)
    least, greatest = _bounds(tensor)
    middle = (least + greatest) / 2
    view = np.clip((view - middle) * contrast + middle + brightness * (greatest - least), least, greatest)
    made: Tensor = (view if tensor.dtype == np.float32 else np.rint(view))[None].astype(tensor.dtype)
    return made


def _bounds(tensor: Tensor) -> tuple[float, float]:
    """Return the values of black and white: the limits of an integer type, the picture's own limits for floats."""
    if tensor.dtype == np.float32:
        return float(tensor.min()), float(tensor.max())
    return (-128, 127) if tensor.dtype == np.int8 else (0, 255)


def _sampled(picture: Tensor, across: NDArray[np.float32], along: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate between four pixels at positions that are counted from the middle."""
    height, width, _ = picture.shape
    x = np.clip(across + (width - 1) / 2, 0, width - 1.001).astype(np.float32)
    y = np.clip(along + (height - 1) / 2, 0, height - 1.001).astype(np.float32)
    left, top = x.astype(np.intp), y.astype(np.intp)
    x, y = (x - left)[..., None], (y - top)[..., None]
    flat, corner = picture.reshape(height * width, -1).astype(np.float32), top * width + left
    above = flat[corner] * (1 - x) + flat[corner + 1] * x
    below = flat[corner + width] * (1 - x) + flat[corner + width + 1] * x
    return np.asarray(above * (1 - y) + below * y)
