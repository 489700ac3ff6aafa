"""Whether `edge-classifierd eval` counts what a plain script counts that uses the runtime directly.

usage: python bench/evaluation.py LABELS.csv [MODEL.tflite …] [--crop-fraction 1.0 0.875] [--json]

LABELS.csv has the columns file and class_index (from 0, without a background class). The plain script below cuts and
resizes with PyAV's own calls, hands the bytes to the runtime and compares the index of the greatest score: `plain`.
`numpy` is the same script with the mean over each target pixel's area computed from RGB in floating point: the pixels
are the same within rounding, so what it counts differently are near ties. Without models, the bundled one. Points are
of 100.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.filter
import numpy as np
from av.video.reformatter import Interpolation

from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.model.bundle import bundled_model_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Resized = Callable[[Path, float, int, int], NDArray[np.uint8]]


def resized_by_pyav(path: Path, crop_fraction: float, height: int, width: int) -> NDArray[np.uint8]:
    """The centre of a picture, upright, at the model's size: shape (height, width, 3)."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    turns = round((frame.rotation or 0) / 90)
    if turns % 2:
        height, width = width, height
    across, down = inner_size(frame.width, frame.height, crop_fraction, height, width)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    left, top = (frame.width - across) // 2, (frame.height - down) // 2
    crop, sink = graph.add("crop", f"{across}:{down}:{left}:{top}:exact=1"), graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    graph.push(frame)
    cut = graph.pull()
    assert isinstance(cut, av.VideoFrame)
    small = cut.reformat(width, height, "gbrp", interpolation=Interpolation.AREA | Interpolation.FULL_CHR_H_INP)
    return np.rot90(small.to_ndarray(format="rgb24"), turns)


def resized_by_numpy(path: Path, crop_fraction: float, height: int, width: int) -> NDArray[np.uint8]:
    """The same by definition."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    upright = np.rot90(frame.to_ndarray(format="rgb24"), round((frame.rotation or 0) / 90))
    across, down = inner_size(upright.shape[1], upright.shape[0], crop_fraction, height, width)
    left, top = (upright.shape[1] - across) // 2, (upright.shape[0] - down) // 2
    square = upright[top : top + down, left : left + across].astype(np.float32)
    rows = np.tensordot(overlaps(down, height), square, (1, 0))
    return np.rint(np.tensordot(rows, overlaps(across, width), (1, 1)).transpose(0, 2, 1)).astype(np.uint8)


def inner_size(width: int, height: int, crop_fraction: float, target_height: int, target_width: int) -> tuple[int, int]:
    """Width and height of what is cut out."""
    scale = min(width / target_width, height / target_height) * crop_fraction
    return round(target_width * scale), round(target_height * scale)


def overlaps(source: int, target: int) -> NDArray[np.float32]:
    """Shape (target, source): how much of each target pixel is made of each source pixel."""
    scale = source / target
    edges, starts = np.arange(target) * scale, np.arange(source)
    shared = np.minimum(edges[:, None] + scale, starts[None] + 1) - np.maximum(edges[:, None], starts[None])
    weights: NDArray[np.float32] = (np.maximum(shared, 0) / scale).astype(np.float32)
    return weights


def plain(labels: Path, model: Path, crop_fraction: float, resized: Resized) -> float:
    """Top-1 of the runtime on its own."""
    interpreter = find_runtime().make_interpreter(model, 2)
    (wanted,) = interpreter.get_input_details()
    made = next(one for one in interpreter.get_output_details() if one["shape"][-1] in {1000, 1001})
    _, height, width, _ = wanted["shape"]
    with labels.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right = 0
    for row in rows:
        picture = resized(labels.parent / row["file"], crop_fraction, height, width)[None]
        if wanted["dtype"] == np.float32:
            tensor: NDArray[Any] = (picture.astype(np.float32) - 127) / 128
        else:
            tensor = picture if wanted["dtype"] == np.uint8 else (picture ^ np.uint8(0x80)).view(np.int8)
        interpreter.set_tensor(wanted["index"], tensor)
        interpreter.invoke()
        scores = interpreter.get_tensor(made["index"]).reshape(-1)
        right += int(scores.argmax()) - (len(scores) - 1000) == int(row["class_index"])
    return 100 * right / len(rows)


def evaluated(labels: Path, model: Path, crop_fraction: float) -> float:
    """Top-1 as the command tells it."""
    command = [sys.executable, "-m", "edge_classifierd", "eval", str(labels), "--model", str(model), "--json"]
    done = subprocess.run(
        [*command, "--crop-fraction", str(crop_fraction)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return float(100 * json.loads(done.stdout)["top1"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("models", type=Path, nargs="*", default=[bundled_model_path()])
    parser.add_argument("--crop-fraction", type=float, nargs="+", default=[1.0, 0.875])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for model in options.models:
        for crop_fraction in options.crop_fraction:
            found = {
                "model": model.name,
                "crop_fraction": crop_fraction,
                "eval": evaluated(options.labels, model, crop_fraction),
                "plain": plain(options.labels, model, crop_fraction, resized_by_pyav),
                "numpy": plain(options.labels, model, crop_fraction, resized_by_numpy),
            }
            results.append(found)
            if not options.json:
                points = "  ".join(f"{name} {found[name]:.2f}" for name in ("eval", "plain", "numpy"))
                print(f"{model.name}  crop {crop_fraction:g}  {points}", flush=True)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
