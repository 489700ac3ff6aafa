"""`make FOLDER PHOTOS`: inputs, and the raw scores of this machine for them; `compare FOLDER`: those of another."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

FEW = 2
"""Photographs for the reference kernels, which take half a minute each under emulation."""


def raw_scores(model: Path, tensors: Any, *, plain: bool) -> tuple[str, Any, float]:
    """The runtime, what it computes of each tensor, and the quantisation step of the logits before the softmax.

    `plain` takes the reference kernels. The fast ones round in each processor's own way, layer after layer.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        from tflite_runtime.interpreter import Interpreter, OpResolverType  # type: ignore[no-redef]
    kernels = OpResolverType.BUILTIN_REF if plain else OpResolverType.AUTO
    interpreter = Interpreter(str(model), num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    (entry,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    (step,) = (
        tensor["quantization"][0] for tensor in interpreter.get_tensor_details() if tensor["name"].endswith("logits")
    )
    scores = []
    for tensor in tensors:
        interpreter.set_tensor(entry["index"], tensor)
        interpreter.invoke()
        scores.append(interpreter.get_tensor(out["index"])[0].copy())
    return Interpreter.__module__.partition(".")[0], np.stack(scores), float(step)


def make(folder: Path, photos: Path) -> None:
    from edge_classifierd.frames.image import read_image
    from edge_classifierd.model.bundle import load_bundle
    from edge_classifierd.preprocess import Preprocessor

    bundle = load_bundle(folder / "model.tflite", None)
    prepare = Preprocessor(bundle.input, bundle.normalisation)
    tensors = np.stack([prepare(read_image(photo)) for photo in sorted(photos.glob("*.jpg"))])
    model = folder / "model.tflite"
    plain, fast = (raw_scores(model, tensors[:most], plain=most == FEW)[1] for most in (FEW, len(tensors)))
    np.savez(folder / "scores.npz", tensors=tensors, plain=plain, fast=fast)


def compare(folder: Path) -> int:
    saved = np.load(folder / "scores.npz")
    good = True
    for name, most_steps, most_probability in (("plain", 1.1, 0.03), ("fast", 4.1, 0.05)):
        runtime, scores, step = raw_scores(
            folder / "model.tflite", saved["tensors"][: len(saved[name])], plain=name == "plain"
        )
        # The scores are probabilities: their logarithms are the logits plus a number for each photograph, which the
        # median of the differences shows since the most logits are the same.
        apart = (np.log(scores.astype(float)) - np.log(saved[name].astype(float))) / step
        apart = np.abs(apart - np.median(apart, axis=1, keepdims=True))
        shift = float(np.abs(scores - saved[name]).max())
        same = int((scores.argmax(1) == saved[name].argmax(1)).sum())
        print(
            f"        {platform.machine()}, {runtime}, {name} kernels: {same} of {len(scores)} best labels agree; "
            f"logits at most {apart.max():.2f} steps apart, {(apart > 0.5).mean():.1%} differ; "
            f"probabilities at most {shift:.4f}"
        )
        good = good and apart.max() < most_steps and shift < most_probability and same == len(scores)
    return int(not good)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(compare(Path(sys.argv[2])))
