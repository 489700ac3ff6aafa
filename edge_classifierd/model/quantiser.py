"""Converts RGB pixels to the values of a model's input tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.model.tflite.metadata import Normalisation
    from edge_classifierd.model.tflite.tensor_spec import TensorSpec

    Tensor = NDArray[np.uint8] | NDArray[np.int8] | NDArray[np.int16] | NDArray[np.float32]

_LUMA: Final = np.array([19595, 38470, 7471], np.uint32)  # of 65536


class Quantiser:
    """Converts RGB bytes to a model's input values: (pixel - mean) / std, then / scale + zero point for integers."""

    def __init__(self, spec: TensorSpec, normalisation: Normalisation) -> None:
        layout = spec.layout
        count = layout.channels
        mean, std = (_per_channel(values, count) for values in (normalisation.mean, normalisation.std))
        self._shape = spec.shape
        self._dtype = np.dtype(spec.dtype)
        self._grey = count == 1
        self._reversed = normalisation.channels == "bgr" and not self._grey
        self._channels_first = layout.channels_first
        self._plain = len(spec.shape) == 4 and not (self._grey or self._reversed or self._channels_first)
        colour = np.broadcast_to(np.clip(np.rint(mean), 0, 255).astype(np.uint8), (3,))
        self._background = colour[::-1] if self._reversed else colour
        self._tables: NDArray[Any] | None = None
        self._flip: np.uint8 | None = None
        if self._dtype == np.float32:
            self._factor = (1 / std).astype(np.float32)
            self._offset = (-mean / std).astype(np.float32)
            if (self._factor == self._factor[0]).all() and (self._offset == self._offset[0]).all():
                self._factor, self._offset = self._factor[:1], self._offset[:1]
            return
        limits = np.iinfo(self._dtype)
        real = (np.arange(256)[:, None] - mean) / std
        tables = np.clip(np.rint(real / spec.scale) + spec.zero_point, limits.min, limits.max).astype(self._dtype)
        identity = np.arange(256, dtype=np.uint8)[:, None]
        for flip in (0x00, 0x80):
            if self._dtype.itemsize == 1 and (tables.view(np.uint8) == identity ^ flip).all():
                self._flip = np.uint8(flip)
                return
        self._tables = tables

    def canvas(self, height: int, width: int) -> NDArray[np.uint8]:
        """Return an empty picture in the colour that the model gets as zero (its mean), for letterbox bars."""
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[:] = self._background
        return canvas

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Convert RGB pixels, shape (height, width, 3), in any memory order, to a contiguous tensor of the model."""
        if self._plain and self._flip is not None:
            return np.bitwise_xor(pixels, self._flip, order="C").view(self._dtype)[None]
        if self._grey:
            pixels = _greyscale(pixels)
        elif self._reversed:
            pixels = pixels[..., ::-1]
        tensor = np.empty(self._shape, self._dtype)
        levels = tensor[0, ..., None] if tensor.ndim == 3 else tensor[0]
        if self._channels_first:
            levels = levels.transpose(1, 2, 0)
        if self._flip is not None:
            np.bitwise_xor(pixels, self._flip, out=levels.view(np.uint8))
        elif self._tables is None:
            np.multiply(pixels, self._factor, out=levels)
            levels += self._offset
        elif self._dtype.itemsize == 1:
            self._translate(pixels, levels.view(np.uint8), self._tables.view(np.uint8))
        else:
            for channel in range(levels.shape[2]):
                np.take(self._tables[:, channel], pixels[..., channel], out=levels[..., channel], mode="clip")
        return tensor

    def _translate(self, pixels: NDArray[np.uint8], levels: NDArray[np.uint8], tables: NDArray[np.uint8]) -> None:
        """Look up each byte. bytes.translate takes 1 ns a byte, numpy 2.5."""
        if (tables == tables[:, :1]).all():
            translated = np.ascontiguousarray(pixels).tobytes().translate(tables[:, 0].tobytes())
            levels[:] = np.frombuffer(translated, np.uint8).reshape(pixels.shape)
            return
        for channel in range(tables.shape[1]):
            translated = np.ascontiguousarray(pixels[..., channel]).tobytes().translate(tables[:, channel].tobytes())
            levels[..., channel] = np.frombuffer(translated, np.uint8).reshape(pixels.shape[:2])


def _per_channel(values: tuple[float, ...], channels: int) -> NDArray[np.float64]:
    """Return one value for each channel; the mean of three for a greyscale model."""
    array = np.asarray(values, np.float64)
    return np.broadcast_to(array.mean() if channels == 1 else array, (channels,))


def _greyscale(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luma of RGB pixels, shape (height, width, 1), with the weights of ITU-R BT.601 as Pillow rounds."""
    luma = pixels @ _LUMA
    luma += 0x8000
    return (luma >> 16).astype(np.uint8)[..., None]
