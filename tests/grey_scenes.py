"""Small grey pictures for the tests of motion: a scene with texture and noise, and things in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS, COLUMNS = 90, 160


class Scenes:
    """A scene with texture; the same one for a seed."""

    def __init__(self, seed: int = 1, *, rows: int = ROWS, columns: int = COLUMNS) -> None:
        self.random = np.random.default_rng(seed)
        coarse = self.random.uniform(60, 190, (rows // 10 + 2, columns // 10 + 2))
        y, x = np.linspace(0, len(coarse) - 1.01, rows), np.linspace(0, coarse.shape[1] - 1.01, columns)
        top, left = y.astype(int), x.astype(int)
        down, across = (y - top)[:, None], (x - left)[None]
        upper = coarse[top][:, left] * (1 - across) + coarse[top][:, left + 1] * across
        lower = coarse[top + 1][:, left] * (1 - across) + coarse[top + 1][:, left + 1] * across
        self.empty: NDArray[np.float64] = upper * (1 - down) + lower * down

    def luma(self, scene: NDArray[np.float64] | None = None, *, noise: float = 1.0) -> NDArray[np.uint8]:
        """Return a picture of a scene, of the empty one by default."""
        pixels = self.empty if scene is None else scene
        return np.clip(pixels + self.random.normal(0, noise, pixels.shape), 0, 255).astype(np.uint8)

    def with_thing(self, left: int, top: int, side: int = 12) -> NDArray[np.float64]:
        """Return the scene with a chequered square in it."""
        scene = self.empty.copy()
        squares = (np.indices((side, side)) // 3).sum(axis=0) % 2
        scene[top : top + side, left : left + side] = np.where(squares, 230, 20)
        return scene

    def frame(self, scene: NDArray[np.float64] | None = None, *, scale: int = 2) -> av.VideoFrame:
        """Return a picture in RGB, `scale` times as large in each direction."""
        grey = np.kron(self.luma(scene), np.ones((scale, scale), np.uint8))
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2)), format="rgb24")
