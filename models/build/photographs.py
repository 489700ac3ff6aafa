"""Owns the way from a folder of photographs to the network's input pixels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

MEAN: Final = 127.0
STD: Final = 128.0


@dataclass(frozen=True, slots=True)
class Photograph:
    """One labelled file; `class_index` counts from 0 without a background class."""

    path: Path
    class_index: int


def listed(folder: Path) -> list[Photograph]:
    """The photographs that `labels.csv` (columns file, class_index) of the folder names, in its order."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return [Photograph(folder / row["file"], int(row["class_index"])) for row in csv.DictReader(file)]


def pixels(path: Path, side: int, crop_fraction: float, scaler: str = "pillow") -> npt.NDArray[np.uint8]:
    """The centre square, `crop_fraction` of the shorter side, as (side, side, 3) uint8 RGB.

    `pillow` is antialiased bilinear (what calibrates the model), `av` the daemon's own mean over the area.
    """
    image = Image.open(path).convert("RGB")
    width, height = image.size
    cut = round(min(width, height) * crop_fraction)
    left, top = (width - cut) // 2, (height - cut) // 2
    if scaler == "pillow":
        box = (left, top, left + cut, top + cut)
        return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
    import av  # noqa: PLC0415 - only this scaler needs it
    from av.video.reformatter import Interpolation  # noqa: PLC0415

    square = np.ascontiguousarray(np.asarray(image)[top : top + cut, left : left + cut])
    mean_over_area = Interpolation.AREA | Interpolation.FULL_CHR_H_INP
    frame = av.VideoFrame.from_ndarray(square, format="rgb24").reformat(side, side, "gbrp", interpolation=mean_over_area)
    return frame.to_ndarray(format="rgb24")


def real(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Normalised pixels with a leading batch axis, from -127/128 to 1."""
    return ((values.astype(np.float32) - MEAN) / STD)[None]


def calibration(folder: Path, side: int, every: int = 1) -> Iterator[npt.NDArray[np.uint8]]:
    """Every n-th photograph with the whole centre square and with 87.5 % of it."""
    for photograph in listed(folder)[::every]:
        for fraction in (1.0, 0.875):
            yield pixels(photograph.path, side, fraction)


def scores(interpreter: Any, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """One inference on pixels, by a model with a float32, uint8 or int8 input; dequantised scores."""
    (wanted,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    tensor = real(values)
    if wanted["dtype"] != np.float32:
        scale, zero_point = wanted["quantization"]
        limits = np.iinfo(wanted["dtype"])
        tensor = np.clip(np.round(tensor / scale) + zero_point, limits.min, limits.max).astype(wanted["dtype"])
    interpreter.set_tensor(wanted["index"], tensor)
    interpreter.invoke()
    result = interpreter.get_tensor(made["index"]).reshape(-1).astype(np.float64)
    scale, zero_point = made["quantization"]
    return (result - zero_point) * scale if scale else result
