"""A model's input and output tensors: shape, type, quantisation and the layout of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from edge_classifierd.errors import ModelError

if TYPE_CHECKING:
    from edge_classifierd.model.tflite.flatbuffer import Table

Dtype = Literal["uint8", "int8", "int16", "float32"]
_TypeName = Literal[
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8",
]  # fmt: skip

TYPES: Final[tuple[_TypeName, ...]] = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8",
)  # fmt: skip
"""The names of the schema's TensorType, by number."""
_RANGES: Final = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-32768, 32767)}


@dataclass(frozen=True, slots=True)
class PictureLayout:
    """How an input tensor holds a picture."""

    height: int
    width: int
    channels: Literal[1, 3]
    """1: greyscale, 3: colour."""
    channels_first: bool = False
    """Whether the tensor is (1, channels, height, width), as PyTorch has it."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor. For integers: real = (value - zero_point) * scale; float32 has scale 0.0 and zero point 0."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    scale: float
    zero_point: int

    @property
    def real_range(self) -> tuple[float, float]:
        """The least and greatest real value of a quantised tensor; (-inf, inf) for float32."""
        if self.dtype == "float32":
            return -math.inf, math.inf
        low, high = _RANGES[self.dtype]
        return (low - self.zero_point) * self.scale, (high - self.zero_point) * self.scale

    @property
    def layout(self) -> PictureLayout:
        """The layout of a picture input. Raises ValueError for other shapes."""
        layout = picture_layout(self.shape)
        if layout is None:
            raise ValueError(f"{self.shape} is not the shape of a picture")
        return layout


def picture_layout(shape: tuple[int, ...]) -> PictureLayout | None:
    """Return the layout of (1, h, w, 3), (1, h, w, 1), (1, 3, h, w), (1, 1, h, w) or (1, h, w); None for others."""
    if len(shape) == 3:
        return PictureLayout(shape[1], shape[2], 1)
    if len(shape) != 4:
        return None
    if shape[3] in {1, 3}:
        return PictureLayout(shape[1], shape[2], 3 if shape[3] == 3 else 1)
    if shape[1] in {1, 3}:
        return PictureLayout(shape[2], shape[3], 3 if shape[1] == 3 else 1, channels_first=True)
    return None


def with_one_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape for one picture."""
    return (1, *shape[1:])


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape for messages: `(1, 224, 224, 3)`."""
    if len(shape) > 8:
        return f"of {len(shape)} dimensions"
    return f"({', '.join(str(side) for side in shape)})"


def read_tensor(tensor: Table, shape: tuple[int, ...], role: Literal["input", "output"]) -> TensorSpec:
    """Read type and quantisation of a Tensor table. Raises ModelError for those that are not supported."""
    name = tensor.text(3) or role
    number = tensor.integer(1, "b")
    if not 0 <= number < len(TYPES):
        raise ModelError(f"has an {role} of the unknown type {number}; convert it with uint8, int8 or float32")
    dtype = TYPES[number]
    if dtype == "float32":
        return TensorSpec(name, shape, "float32", 0.0, 0)
    if dtype != "uint8" and dtype != "int8" and dtype != "int16":  # noqa: PLR1714 - so that mypy narrows the type
        raise ModelError(f"has an {role} of {dtype}; convert it with uint8, int8 or float32")
    quantisation = tensor.table(4)
    scales = quantisation.floats(2) if quantisation else ()
    zero_points = quantisation.integers(3, "q") if quantisation else ()
    if not scales and role == "input" and dtype != "int16":
        # The graph takes the raw bytes and scales them itself: a pixel for uint8, a pixel less 128 for int8.
        return TensorSpec(name, shape, dtype, 1.0, 0)
    if len(scales) != 1 or len(zero_points) > 1:
        raise ModelError(f"has a {dtype} {role} with {len(scales)} quantisation scales; convert it with exactly one")
    scale, zero_point = scales[0], zero_points[0] if zero_points else 0
    low, high = _RANGES[dtype]
    if not (math.isfinite(scale) and scale > 0 and low <= zero_point <= high):
        raise ModelError(f"has a {dtype} {role} of impossible quantisation ({scale:g}, {zero_point}); convert it anew")
    return TensorSpec(name, shape, dtype, scale, zero_point)
