"""Measures models on labelled photographs: Top-1, Top-5, agreement with a reference model, and latency.

Usage: evaluate.py PHOTOGRAPHS MODEL... [--reference FLOAT_MODEL] [--crop 1.0 0.875] [--scaler pillow|av]
[--threads 1 2]; `--threads` without numbers leaves latency out.
Runs in LiteRT, or in tflite-runtime where only that is installed. The standard error of a share p of n is
sqrt(p (1 - p) / n); that of the difference of two models on the same photographs counts only those they differ on.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from photographs import listed, pixels, scores

try:
    from ai_edge_litert.interpreter import Interpreter

    RUNTIME = f"ai-edge-litert {version('ai-edge-litert')}"
except ImportError:
    from tflite_runtime.interpreter import Interpreter

    RUNTIME = f"tflite-runtime {version('tflite-runtime')}"

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


def main() -> int:
    """Measure what the command line names, one line a model and crop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--reference", type=Path, help="compare every model's scores with this one's")
    parser.add_argument("--crop", type=float, nargs="+", default=[1.0, 0.875], help="of the shorter side")
    parser.add_argument("--scaler", choices=["pillow", "av"], default="av")
    parser.add_argument("--first", type=int, default=0, help="skip photographs before this one")
    parser.add_argument("--every", type=int, default=1, help="only every n-th photograph from there")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], help="measure latency with these")
    options = parser.parse_args()
    chosen = listed(options.photographs)[options.first :: options.every]
    truth = np.array([photograph.class_index for photograph in chosen])
    print(f"{RUNTIME}; {len(chosen)} photographs; scaled by {options.scaler}")
    for fraction in options.crop:
        paths = [photograph.path for photograph in chosen]
        reference = _run(options.reference, paths, fraction, options.scaler) if options.reference else None
        if reference is not None:
            print(f"crop {fraction:.1%}  {options.reference.name} (reference): {_accuracy(reference, truth)}")
        for path in options.models:
            made = _run(path, paths, fraction, options.scaler)
            print(f"crop {fraction:.1%}  {path.name}: {_accuracy(made, truth)}{_closeness(made, reference, truth)}")
    for path in options.models:
        for threads in options.threads:
            print(f"{path.name}, {threads} thread(s): {_latency(path, threads)}")
    return 0


def _interpreter(path: Path, threads: int) -> Any:
    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def _run(path: Path, photographs: list[Path], fraction: float, scaler: str) -> Array:
    interpreter = _interpreter(path, 2)
    side = int(interpreter.get_input_details()[0]["shape"][1])
    return np.stack([scores(interpreter, pixels(one, side, fraction, scaler)) for one in photographs])


def _accuracy(made: Array, truth: Array) -> str:
    best = np.argsort(-made, axis=1, kind="stable")
    parts = []
    for count in (1, 5):
        share = float((best[:, :count] == truth[:, None]).any(1).mean())
        parts.append(f"Top-{count} {share:.1%} ± {np.sqrt(share * (1 - share) / len(truth)):.1%}")
    return ", ".join(parts)


def _closeness(made: Array, reference: Array | None, truth: Array) -> str:
    if reference is None:
        return ""
    right, right_reference = made.argmax(1) == truth, reference.argmax(1) == truth
    lost, won = int((right_reference & ~right).sum()), int((right & ~right_reference).sum())
    same = float((made.argmax(1) == reference.argmax(1)).mean())
    divergence = reference * np.log(np.maximum(reference, 1e-9) / np.maximum(made, 1e-9))
    distance = np.abs(made - reference)
    return (
        f"; same first class as the reference {same:.1%} ({lost} lost, {won} won), "
        f"mean KL {divergence.sum(1).mean():.4f}, mean largest score difference {distance.max(1).mean():.4f}"
    )


def _latency(path: Path, threads: int) -> str:
    interpreter = _interpreter(path, threads)
    (wanted,) = interpreter.get_input_details()
    interpreter.set_tensor(wanted["index"], np.zeros(wanted["shape"], wanted["dtype"]))
    durations = []
    for _ in range(220):
        started = time.perf_counter()
        interpreter.invoke()
        durations.append((time.perf_counter() - started) * 1000)
    kept = np.array(durations[20:])
    median, tail = np.percentile(kept, [50, 95])
    return f"median {median:.2f} ms, least {kept.min():.2f} ms, 95th percentile {tail:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
