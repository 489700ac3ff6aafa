"""Pictures that are stored as in a mirror."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import av


def is_mirrored(picture: av.VideoFrame) -> bool:
    """Whether the picture's display matrix mirrors it: FFmpeg's `rotation` tells only how it turns.

    The matrix is `{a, b, u, c, d, v, x, y, w}`, as libavutil/display.h describes it. To ask makes PyAV tie the picture
    into a circle, which waits for the garbage collector: not for every picture of a camera.
    """
    side_data = cast("Mapping[str, Any]", picture.side_data)
    try:
        matrix = side_data["DISPLAYMATRIX"]
    except (KeyError, ValueError):  # ValueError: it carries a kind of data that PyAV does not know
        return False
    a, b, _, c, d = struct.unpack_from("5i", bytes(matrix))
    return bool(a * d - b * c < 0)


def turn_over(picture: av.VideoFrame) -> None:
    """Bottom to top, in place: for what is mirrored FFmpeg's `rotation` is right after that."""
    picture.make_writable()
    for plane in picture.planes:
        rows = np.ndarray((plane.height, plane.line_size), np.uint8, memoryview(plane))
        rows[:] = rows[::-1].copy()
