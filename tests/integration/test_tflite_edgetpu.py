"""The stand-in Edge TPU under tflite-runtime: the same delegate, the same models, the same errors."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from stand_in import build_delegate, model_pair, pixel
from test_tflite_runtime import tflite_python

from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.runtime import CHOICE

__all__ = ["tflite_python"]  # the fixture

ROOT = Path(__file__).resolve().parents[2]

# argv: model, library, mode
_CLASSIFY = """
import json, sys
from pathlib import Path
import numpy as np
from edge_classifierd.inference.edgetpu.subprocess_classifier import Delegate, SubprocessClassifier, ChildFailedError
from edge_classifierd.model.bundle import load_bundle
red = np.array([250, 3, 0], np.uint8).reshape(1, 1, 1, 3)
try:
    delegate = Delegate(sys.argv[2], {"mode": sys.argv[3], "at": "2"})
    classifier = SubprocessClassifier(load_bundle(Path(sys.argv[1])), delegate=delegate)
    scores = classifier.classify(red).confidences.tolist()
    print(json.dumps({"runtime": classifier.runtime, "scores": scores}))
except ChildFailedError as error:
    print(json.dumps({"kind": error.kind, "stage": error.stage, "signal": error.signal_name, "reason": error.reason}))
"""


@pytest.mark.parametrize(
    ("mode", "kind", "stage"),
    [
        ("ok", None, None),
        ("refuse", "refused", "loading the delegate"),
        ("refuse-silent", "refused", "loading the delegate"),
        ("prepare", "refused", "loading the model"),
        ("fail", "failed", "an inference"),
        ("abort", "died", "an inference"),
        ("segv", "died", "an inference"),
        ("hang", "hung", "an inference"),
    ],
)
def test_the_stand_in_runs_and_fails_alike(
    tflite_python: Path, tmp_path: Path, mode: str, kind: str | None, stage: str | None
) -> None:
    compiled, twin = model_pair(tmp_path)
    library = build_delegate(tmp_path)
    done = subprocess.run(
        [str(tflite_python), "-c", _CLASSIFY, str(compiled.path), str(library), mode],
        env={**os.environ, CHOICE: "tflite", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    if kind is None:
        expected = make_classifier(twin).classify(pixel(250, 3, 0)).confidences
        np.testing.assert_allclose(told["scores"], expected, atol=1 / 256)
        assert told["runtime"].startswith("tflite-runtime")
    else:
        assert (told["kind"], told["stage"]) == (kind, stage)
