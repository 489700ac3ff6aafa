"""Preprocessing: converts a picture of a source to the input tensor of a model.

The order is: turn upright → region → fit (crop, letterbox or stretch) → antialiased resize → normalise and quantise.
Only the needed pixels are read: the crop is a view (FFmpeg's crop filter moves pointers), the resize reads it in the
source's pixel format, and the small result is turned and mirrored.

After an inference the processor's caches are cold, and a call that takes microseconds when repeated takes ten times as
long: so there are few calls here, each on little memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Literal

import numpy as np

from edge_classifierd.model.quantiser import Quantiser
from edge_classifierd.scaler import Box, Scaler

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

    from edge_classifierd.model.quantiser import Tensor as Tensor  # noqa: PLC0414 - part of this module's interface
    from edge_classifierd.model.tflite.metadata import Normalisation
    from edge_classifierd.model.tflite.tensor_spec import TensorSpec


Fit = Literal["crop", "letterbox", "stretch"]
Rotation = Literal[0, 90, 180, 270]
Mirror = Literal["none", "horizontal", "vertical", "both"]


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in fractions of the upright frame."""

    x: float = 0.0
    y: float = 0.0
    width: float = 1.0
    height: float = 1.0

    def __str__(self) -> str:
        """For people: `x 0.1, y 0.2, width 0.5, height 0.5`."""
        return f"x {self.x:g}, y {self.y:g}, width {self.width:g}, height {self.height:g}"


@dataclass(frozen=True, slots=True)
class View:
    """The changes to the source's frames: turned clockwise, then mirrored, then cut to a region."""

    rotation: Rotation = 0
    mirror: Mirror = "none"
    region: Region = Region()

    def quarter_turns(self, picture: av.VideoFrame) -> int:
        """Return the clockwise quarter turns that show the picture upright: its own (EXIF) plus the configured ones."""
        return (round(-picture.rotation / 90) + self.rotation // 90) % 4

    def region_box(self, width: int, height: int) -> Box:
        """Return the region in pixels of an upright frame of that size; at least one pixel high and wide."""
        left, right = round(self.region.x * width), round((self.region.x + self.region.width) * width)
        top, bottom = round(self.region.y * height), round((self.region.y + self.region.height) * height)
        left, top = min(left, width - 1), min(top, height - 1)
        return Box(left, top, max(1, min(right, width) - left), max(1, min(bottom, height) - top))

    def source_box(self, box: Box, turns: int, width: int, height: int) -> Box:
        """Return the place of a box of the upright frame (`width` × `height`) in the picture of the source."""
        x, y = box.x, box.y
        if self.mirror in {"horizontal", "both"}:
            x = width - x - box.width
        if self.mirror in {"vertical", "both"}:
            y = height - y - box.height
        if turns == 1:
            return Box(y, width - x - box.width, box.height, box.width)
        if turns == 2:
            return Box(width - x - box.width, height - y - box.height, box.width, box.height)
        if turns == 3:
            return Box(height - y - box.height, x, box.height, box.width)
        return Box(x, y, box.width, box.height)

    def upright(self, pixels: NDArray[np.uint8], turns: int) -> NDArray[np.uint8]:
        """Turn and mirror (height, width[, 3]) pixels of the source's orientation; return a view."""
        if turns:
            pixels = np.rot90(pixels, -turns)
        if self.mirror in {"horizontal", "both"}:
            pixels = pixels[:, ::-1]
        if self.mirror in {"vertical", "both"}:
            pixels = pixels[::-1]
        return pixels


class Preprocessor:
    """Converts pictures of one source to input tensors of one model; use one per thread."""

    def __init__(
        self,
        spec: TensorSpec,
        normalisation: Normalisation,
        *,
        fit: Fit = "crop",
        crop_fraction: float = 1.0,
        view: View | None = None,
    ) -> None:
        """`spec` is the model's input, see `PictureLayout`."""
        self._height, self._width = spec.layout.height, spec.layout.width
        self._fit = fit
        self._crop_fraction = crop_fraction
        self._view = view or View()
        self._scaler = Scaler()
        self._quantise = Quantiser(spec, normalisation)
        self._seen: tuple[int, int, int] | None = None
        self._geometry: tuple[Box, tuple[int, int], Box | None] = (Box(0, 0, 1, 1), (1, 1), None)

    def __call__(self, picture: av.VideoFrame, region: Region | None = None) -> Tensor:
        """Return the input tensor, contiguous, in the model's shape and dtype; it owns its memory.

        Args:
            picture: The picture of the source.
            region: The part of the upright frame to use instead of the view's region.
        """
        turns = self._view.quarter_turns(picture)
        seen = (picture.width, picture.height, turns)
        if region is not None:
            source, (width, height), target = self._geometry_for(*seen, region)
        else:
            if seen != self._seen:
                self._seen, self._geometry = seen, self._geometry_for(*seen)
            source, (width, height), target = self._geometry
        pixels = self._view.upright(self._scaler.rgb(picture, source, width, height), turns)
        if target is None:
            return self._quantise(pixels)
        canvas = self._quantise.canvas(self._height, self._width)
        canvas[target.y : target.y + target.height, target.x : target.x + target.width] = pixels
        return self._quantise(canvas)

    def needs(self, width: int, height: int, region: Region | None = None) -> tuple[int, int]:
        """Return the smallest size to which pictures of this size may be scaled before, without enlarging here.

        Args:
            width: The width of the picture in pixels.
            height: Its height.
            region: The part of the upright frame to use instead of the view's region.
        """
        source, (across, down), _ = self._geometry_for(width, height, self._view.rotation // 90, region)
        scale = min(1.0, max(across / source.width, down / source.height))
        return ceil(width * scale), ceil(height * scale)

    def seen(self, width: int, height: int) -> Region:
        """Return the part of an upright frame of that size that the model sees."""
        box, _ = self._fitted(self._view.region_box(width, height))
        return Region(box.x / width, box.y / height, box.width / width, box.height / height)

    def _geometry_for(
        self, width: int, height: int, turns: int, region: Region | None = None
    ) -> tuple[Box, tuple[int, int], Box | None]:
        """Return the box to cut and its new size, both in the source's orientation, and the place in the tensor.

        The place is None when it fills the tensor.
        """
        across = bool(turns % 2)
        if across:
            width, height = height, width
        view = self._view if region is None else replace(self._view, region=region)
        box, target = self._fitted(view.region_box(width, height))
        source = self._view.source_box(box, turns, width, height)
        size = (target.height, target.width) if across else (target.width, target.height)
        return source, size, None if (target.width, target.height) == (self._width, self._height) else target

    def _fitted(self, region: Box) -> tuple[Box, Box]:
        """Return the box of the upright frame that is resized, and the box of the tensor that it fills."""
        whole = Box(0, 0, self._width, self._height)
        if self._fit == "stretch":
            return region, whole
        if self._fit == "letterbox":
            scale = min(self._width / region.width, self._height / region.height)
            width = max(1, min(self._width, round(region.width * scale)))
            height = max(1, min(self._height, round(region.height * scale)))
            return region, Box((self._width - width) // 2, (self._height - height) // 2, width, height)
        scale = min(region.width / self._width, region.height / self._height) * self._crop_fraction
        width = max(1, min(region.width, round(self._width * scale)))
        height = max(1, min(region.height, round(self._height * scale)))
        x = region.x + (region.width - width) // 2
        y = region.y + (region.height - height) // 2
        return Box(x, y, width, height), whole
