"""A video for the motion gate: a still scene in which a cat appears and leaves again."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from daemon_process import PHOTOS

from edge_classifierd.frames.image import read_image

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT, FPS, SIDE, LEFT, TOP = 640, 360, 10, 200, 400, 100
EMPTY_S, CAT_S, AFTER_S = 3.5, 2.5, 4.0


def photograph(name: str, width: int, height: int) -> np.ndarray:
    return read_image(PHOTOS / f"{name}.jpg").reformat(width, height, "rgb24").to_ndarray()


def film(file: Path) -> Path:
    """A video of a still scene; a cat appears after some seconds and leaves again."""
    random = np.random.default_rng(1)
    empty = photograph("coffee", WIDTH, HEIGHT)
    with_cat = empty.copy()
    with_cat[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = photograph("cat", SIDE, SIDE)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for number in range(round((EMPTY_S + CAT_S + AFTER_S) * FPS)):
            there = EMPTY_S <= number / FPS < EMPTY_S + CAT_S
            noisy = (with_cat if there else empty) + random.normal(0, 3, empty.shape)
            frame = av.VideoFrame.from_ndarray(noisy.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuvj420p")))
        container.mux(stream.encode(None))
    return file
