"""A model taught beside LiteRT gives in tflite-runtime what numpy computes from that runtime's embeddings."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from drawn_pictures import folders
from test_tflite_runtime import tflite_python  # noqa: F401 - a fixture

from edge_classifierd.frames.image import read_image
from edge_classifierd.learning.embed import load_extractor
from edge_classifierd.learning.fitting import apply
from edge_classifierd.learning.train import Plan, train
from edge_classifierd.model.bundle import bundled_model_path, load_bundle
from edge_classifierd.model.head import cut, part
from edge_classifierd.model.rewrite import write_model
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from pathlib import Path

_CHILD = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
tensors, results, *models = sys.argv[1:]
outputs = {}
for number, model in enumerate(models):
    interpreter = Interpreter(model)
    interpreter.allocate_tensors()
    for at, tensor in enumerate(np.load(tensors)):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tensor)
        interpreter.invoke()
        for place, one in enumerate(interpreter.get_output_details()):
            outputs[f"{number}_{at}_{place}"] = interpreter.get_tensor(one["index"])
np.savez(results, **outputs)
"""


def _embedding(area: np.ndarray, detail: np.ndarray) -> np.ndarray:
    (tall, down), (wide, right) = part(detail.shape[1]), part(detail.shape[2])
    corners = [(row * down, column * right) for row in range(3) for column in range(3)]
    parts = [detail[0, y : y + tall, x : x + wide].mean((0, 1)) for y, x in corners]
    return np.concatenate([area[0].mean((0, 1)), *parts])


@pytest.mark.parametrize("method", ["logistic", "imprinting"])
def test_scores_agree_with_numpy_in_tflite_runtime(tmp_path: Path, tflite_python: Path, method: str) -> None:  # noqa: F811
    source = folders(tmp_path / "pictures", 8)
    keep = method == "imprinting"
    plan = Plan(source, bundled_model_path(), tmp_path / "taught.tflite", method=method, keep_classes=keep, augment=0)  # type: ignore[arg-type]
    training = train(plan)
    extractor, bundle = load_extractor(bundled_model_path()), load_bundle(training.output)
    (tmp_path / "cut.tflite").write_bytes(write_model(cut(extractor.graph, extractor.embedding)))
    prepare = Preprocessor(bundle.input, bundle.normalisation)
    tensors = np.stack([prepare(read_image(path)) for path in sorted(source.glob("*/1.jpg"))])
    np.save(tmp_path / "tensors.npy", tensors)
    arguments = [tmp_path / "tensors.npy", tmp_path / "results.npz", tmp_path / "cut.tflite", training.output]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [tflite_python, "-c", _CHILD, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "results.npz") as results:
        embeddings = np.stack([_embedding(results[f"0_{at}_0"], results[f"0_{at}_1"]) for at in range(len(tensors))])
        scores = np.concatenate([results[f"1_{at}_0"] for at in range(len(tensors))])
    expected = apply(training.fitted.head, embeddings, extractor.embedding.features)
    assert scores.shape == expected.shape
    assert np.abs(scores - expected).max() < 1e-3
