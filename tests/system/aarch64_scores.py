"""`make FOLDER PHOTOS`: inputs, and the raw scores of this machine for them; `compare FOLDER`: those of another."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np


def raw_scores(model: Path, tensors: Any) -> tuple[str, Any]:
    """What the installed runtime computes, before any dequantising."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter  # type: ignore[no-redef]
    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    (entry,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    scores = []
    for tensor in tensors:
        interpreter.set_tensor(entry["index"], tensor)
        interpreter.invoke()
        scores.append(interpreter.get_tensor(out["index"])[0].copy())
    return Interpreter.__module__.partition(".")[0], np.stack(scores)


def make(folder: Path, photos: Path) -> None:
    from edge_classifierd.frames.image import read_image
    from edge_classifierd.model.bundle import load_bundle
    from edge_classifierd.preprocess import Preprocessor

    bundle = load_bundle(folder / "model.tflite", None)
    prepare = Preprocessor(bundle.input, bundle.normalisation)
    tensors = np.stack([prepare(read_image(photo)) for photo in sorted(photos.glob("*.jpg"))])
    np.savez(folder / "scores.npz", tensors=tensors, scores=raw_scores(folder / "model.tflite", tensors)[1])


def compare(folder: Path) -> int:
    saved = np.load(folder / "scores.npz")
    runtime, scores = raw_scores(folder / "model.tflite", saved["tensors"])
    apart = np.abs(scores.astype(int) - saved["scores"].astype(int))
    same = int((scores.argmax(1) == saved["scores"].argmax(1)).sum())
    print(
        f"        {platform.machine()}, {runtime}, {scores.dtype}: {len(scores)} photographs, {same} best labels "
        f"agree, scores at most {apart.max()} steps apart, {(apart > 0).mean():.2%} of them differ"
    )
    return int(apart.max() > 1 or same != len(scores))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(compare(Path(sys.argv[2])))
