"""Labelled pictures that a test draws: shapes on noisy grounds, in folders of one class each, the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
from moving_pictures import encoded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Draw = Callable[[str, int], np.ndarray]

SIDE = 96
SHAPES = ("disc", "stripes", "cross")


def drawn(shape: str, number: int) -> np.ndarray:
    """(96, 96, 3) bytes: one shape somewhere, its colours and the ground's texture by `number`."""
    random = np.random.default_rng((SHAPES.index(shape), number))
    y, x = np.mgrid[:SIDE, :SIDE]
    middle_x, middle_y = random.integers(36, 60, 2)
    if shape == "disc":
        mask = (x - middle_x) ** 2 + (y - middle_y) ** 2 < 26**2
    elif shape == "stripes":
        mask = ((x + middle_x) // 8) % 2 == 0
    else:
        mask = (abs(x - middle_x) < 7) | (abs(y - middle_y) < 7)
    ground = random.integers(0, 90, (SIDE // 8, SIDE // 8, 3)).repeat(8, 0).repeat(8, 1)
    ground[mask] = random.integers(150, 255, 3)
    return np.clip(ground + random.integers(-12, 12, ground.shape), 0, 255).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    """Write a JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))


def folders(root: Path, count: int, shapes: tuple[str, ...] = SHAPES, draw: Draw = drawn) -> Path:
    """`count` pictures of each shape in `root`/<shape>/<number>.jpg."""
    for shape in shapes:
        for number in range(count):
            write(root / shape / f"{number}.jpg", draw(shape, number))
    return root
