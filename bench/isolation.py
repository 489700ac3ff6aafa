"""What the child process costs: the same classifier in-process and isolated, block by block, on the same tensor.

usage: python bench/isolation.py [MODEL] [--frames 400] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.edgetpu.subprocess_classifier import SubprocessClassifier
from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.model.bundle import bundled_model_path, load_bundle

if TYPE_CHECKING:
    from edge_classifierd.inference.base import Classifier

_BLOCK = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=bundled_model_path())
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.model)
    noise = np.random.default_rng(1).integers(0, 256, bundle.input.shape, np.uint8)
    tensor = noise.view(bundle.input.dtype) if bundle.input.dtype != "float32" else noise.astype(np.float32) / 128 - 1
    inside: Classifier = CpuClassifier(bundle, find_runtime(), arguments.threads)
    outside: Classifier = SubprocessClassifier(bundle, threads=arguments.threads)
    took: dict[str, list[float]] = {"in-process": [], "isolated": []}
    invoke: dict[str, list[float]] = {"in-process": [], "isolated": []}
    for _ in range(-(-arguments.frames // _BLOCK)):
        for name, classifier in (("in-process", inside), ("isolated", outside)):
            classifier.classify(tensor)  # what the other one has put out of the caches comes back
            for _ in range(_BLOCK):
                start = time.perf_counter()
                inference = classifier.classify(tensor)
                took[name].append((time.perf_counter() - start) * 1000.0)
                invoke[name].append(inference.inference_ms)
    outside.close()
    print(f"{bundle.name} {bundle.input.shape}, {arguments.frames} frames each, {inside.runtime}")
    print(f"{'':12}{'classify':>10}{'p95':>8}{'invoke':>8}{'beside it':>11}   (ms, medians)")
    beside = {}
    for name, values in took.items():
        beside[name] = statistics.median(all_ - own for all_, own in zip(values, invoke[name], strict=True))
        p95 = statistics.quantiles(values, n=20)[-1]
        print(
            f"{name:12}{statistics.median(values):10.3f}{p95:8.3f}{statistics.median(invoke[name]):8.3f}{beside[name]:11.3f}"
        )
    difference = statistics.median(took["isolated"]) - statistics.median(took["in-process"])
    added = beside["isolated"] - beside["in-process"]
    print(f"isolation costs {difference:.3f} ms a frame ({added:.3f} ms beside invoke)")


if __name__ == "__main__":
    main()
