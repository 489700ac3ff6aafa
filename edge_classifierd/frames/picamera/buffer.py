"""Converts a camera's raw buffer to a picture: pixel format, row padding, colour space, mirroring, cropping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from edge_classifierd.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.scaler import Box

    Pixels = NDArray[np.uint8]

# libcamera names packed formats from the highest byte down, as DRM does: RGB888 is blue, green, red in memory.
_PACKED: Final = {"RGB888": "bgr24", "BGR888": "rgb24", "XRGB8888": "bgra", "XBGR8888": "rgba"}
_PLANAR: Final = {"YUV420": "yuv420p", "NV12": "nv12"}
READABLE: Final = frozenset(_PACKED | _PLANAR)
"""Pixel formats that `BufferReader` supports, by libcamera's names."""


@dataclass(frozen=True, slots=True)
class BufferLayout:
    """The memory layout of a camera's pictures."""

    pixel_format: str
    """One of `READABLE`."""
    width: int
    height: int
    stride: int
    """Bytes per row of the first plane; a chroma row of YUV420 has half as many."""
    bt709: bool = False
    """YUV of BT.709 instead of BT.601."""
    full_range: bool = False
    """YUV values from 0 to 255 instead of 16 to 235."""

    @property
    def size(self) -> int:
        """Number of bytes of a picture."""
        rows = self.height if self.pixel_format in _PACKED else self.height * 3 // 2
        return rows * self.stride


class BufferReader:
    """Makes pictures of one layout, optionally cropped and mirrored.

    Without cropping and mirroring nothing is copied, unless the height is no multiple of 4.
    """

    def __init__(
        self, layout: BufferLayout, *, cut: Box | None = None, left_right: bool = False, top_bottom: bool = False
    ) -> None:
        """`cut` is in pixels of the picture in memory, in even numbers. Raises SourceError for an unknown format."""
        if layout.pixel_format not in READABLE:
            raise SourceError(
                f"the camera delivers {layout.pixel_format}, which is not supported; for a USB camera use "
                "`source: {type: v4l2}`"
            )
        self._layout = layout
        rows = slice(None) if cut is None else slice(cut.y, cut.y + cut.height)
        columns = slice(None) if cut is None else slice(cut.x, cut.x + cut.width)
        self._cut = (rows, columns)
        self._order = (slice(None, None, -1 if top_bottom else 1), slice(None, None, -1 if left_right else 1))
        self._whole = cut is None and not (left_right or top_bottom)

    def picture(self, buffer: Pixels) -> av.VideoFrame:
        """Return the picture in `buffer`, shape (bytes,), which must not change later. Raises SourceError."""
        layout = self._layout
        if buffer.size < layout.size:
            raise SourceError(f"the camera delivered {buffer.size} bytes instead of {layout.size}; it is opened again")
        buffer = buffer[: layout.size]
        if layout.pixel_format in _PACKED:
            return self._packed(buffer)
        picture = self._planar(buffer)
        picture.colorspace = Colorspace.ITU709 if layout.bt709 else Colorspace.ITU601
        picture.color_range = ColorRange.JPEG if layout.full_range else ColorRange.MPEG
        return picture

    def _packed(self, buffer: Pixels) -> av.VideoFrame:
        layout = self._layout
        name = _PACKED[layout.pixel_format]
        depth = len(name.removesuffix("24"))
        rows = buffer.reshape(layout.height, layout.stride)[:, : layout.width * depth]
        pixels = rows.reshape(layout.height, layout.width, depth)
        if not self._whole:
            pixels = np.ascontiguousarray(pixels[self._cut][self._order])
        return av.VideoFrame.from_numpy_buffer(pixels, format=name)

    def _planar(self, buffer: Pixels) -> av.VideoFrame:
        layout = self._layout
        name = _PLANAR[layout.pixel_format]
        if self._whole and layout.height % 4 == 0:  # PyAV 18 drops two rows of other heights, and misplaces chroma
            rows = buffer.reshape(layout.height * 3 // 2, layout.stride)
            return av.VideoFrame.from_numpy_buffer(rows, format=name, width=layout.width)
        planes = [self._turned(plane) for plane in self._planes(buffer)]
        height, width = planes[0].shape[:2]
        picture = av.VideoFrame(width, height, name)
        for plane, target in zip(planes, picture.planes, strict=True):
            samples = plane.reshape(plane.shape[0], -1)
            rows = np.ndarray((samples.shape[0], target.line_size), np.uint8, buffer=memoryview(target))
            rows[:, : samples.shape[1]] = samples
        return picture

    def _turned(self, plane: Pixels) -> Pixels:
        """Return a plane, cropped and mirrored. Chroma planes have half as many rows and columns."""
        half = 1 if plane.shape[0] == self._layout.height else 2
        rows, columns = (
            part if part.start is None else slice(part.start // half, part.stop // half) for part in self._cut
        )
        return plane[rows, columns][self._order]

    def _planes(self, buffer: Pixels) -> list[Pixels]:
        layout = self._layout
        width, height, stride = layout.width, layout.height, layout.stride
        luma = buffer[: height * stride].reshape(height, stride)[:, :width]
        chroma = buffer[height * stride :]
        if layout.pixel_format == "NV12":
            return [luma, chroma.reshape(height // 2, stride)[:, :width].reshape(height // 2, width // 2, 2)]
        halves = chroma.reshape(2, height // 2, stride // 2)[:, :, : width // 2]
        return [luma, halves[0], halves[1]]
