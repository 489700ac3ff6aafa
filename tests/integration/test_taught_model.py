"""Taught models in both runtimes, also on the stand-in Edge TPU: all give what numpy computes from the embeddings."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from drawn_pictures import folders
from stand_in import build_delegate, compiled
from test_tflite_runtime import tflite_python  # noqa: F401 - a fixture

from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.edgetpu.cpu_fallback import check_cpu_model
from edge_classifierd.inference.edgetpu.subprocess_classifier import Delegate, SubprocessClassifier
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.learning.embeddings.embed import Embedder, computable, load_extractor
from edge_classifierd.learning.head_fitting import apply
from edge_classifierd.learning.train import TrainingPlan, train
from edge_classifierd.model.bundle import bundled_model_path, load_bundle
from edge_classifierd.model.tflite.head import cut, own_scores, part
from edge_classifierd.model.tflite.writer import write_model
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from pathlib import Path

_CHILD = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter, load_delegate
tensors, results, library, *models = sys.argv[1:]
outputs = {}
for number, model in enumerate(models):
    interpreter = Interpreter(model, experimental_delegates=[load_delegate(library)] if library else None)
    interpreter.allocate_tensors()
    for at, tensor in enumerate(np.load(tensors)):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tensor)
        interpreter.invoke()
        for place, one in enumerate(interpreter.get_output_details()):
            outputs[f"{number}_{at}_{place}"] = interpreter.get_tensor(one["index"])
np.savez(results, **outputs)
"""


def _embedding(area: np.ndarray, detail: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    (tall, down), (wide, right) = part(detail.shape[1]), part(detail.shape[2])
    corners = [(row * down, column * right) for row in range(3) for column in range(3)]
    parts = [detail[0, y : y + tall, x : x + wide].mean((0, 1)) for y, x in corners]
    return np.concatenate([area[0].mean((0, 1)), *parts, kinds[0]])


def _in_tflite_runtime(
    python: Path, tensors: np.ndarray, models: list[Path], folder: Path, library: Path | None = None
) -> dict[str, np.ndarray]:
    """Every output as `model_tensor_output`, by position."""
    np.save(folder / "tensors.npy", tensors)
    arguments = [folder / "tensors.npy", folder / "results.npz", library or "", *models]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", _CHILD, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "results.npz") as results:
        return dict(results)


@pytest.mark.parametrize("method", ["regression", "imprinting"])
def test_scores_agree_with_numpy_in_tflite_runtime(tmp_path: Path, tflite_python: Path, method: str) -> None:  # noqa: F811
    source = folders(tmp_path / "pictures", 8)
    keep = method == "imprinting"
    plan = TrainingPlan(
        source, bundled_model_path(), tmp_path / "taught.tflite", method=method, keep_classes=keep, augment=0
    )  # type: ignore[arg-type]
    training = train(plan)
    extractor, bundle = load_extractor(bundled_model_path()), load_bundle(training.output)
    scores_of_kinds = own_scores(extractor.graph, extractor.embedding)
    start = cut(extractor.graph, extractor.embedding, scores_of_kinds)
    (tmp_path / "cut.tflite").write_bytes(write_model(start))
    prepare = Preprocessor(bundle.input, bundle.normalisation)
    tensors = np.stack([prepare(read_image(path)) for path in sorted(source.glob("*/1.jpg"))])
    results = _in_tflite_runtime(tflite_python, tensors, [tmp_path / "cut.tflite", training.output], tmp_path)
    embeddings = np.stack([_embedding(*(results[f"0_{at}_{one}"] for one in range(3))) for at in range(len(tensors))])
    scores = np.concatenate([results[f"1_{at}_0"] for at in range(len(tensors))])
    expected = apply(training.fitted.head, embeddings)
    assert scores.shape == expected.shape
    assert np.abs(scores - expected).max() < 1e-3


@pytest.mark.parametrize("extractor", ["bundled", "mobilenet_v1_1.0_224_quant_embedding_extractor"])
def test_a_head_on_a_compiled_extractor_runs_on_the_stand_in_and_its_cpu_twin_agrees(
    tmp_path: Path,
    tflite_python: Path,  # noqa: F811
    extractor: str,
    request: pytest.FixtureRequest,
) -> None:
    library = build_delegate(tmp_path)
    shared = None if extractor == "bundled" else request.getfixturevalue("shared")
    twin = tmp_path / "extractor.tflite"
    shutil.copy(bundled_model_path() if shared is None else shared / f"data/coral/{extractor}.tflite", twin)
    (tmp_path / "extractor_edgetpu.tflite").write_bytes(compiled(twin.read_bytes()))
    source = folders(tmp_path / "pictures", 8)
    output = tmp_path / "shapes_edgetpu.tflite"
    training = train(TrainingPlan(source, tmp_path / "extractor_edgetpu.tflite", output, holdout=0.5))
    assert training.twin == tmp_path / "shapes_cpu.tflite"
    bundle, cpu = load_bundle(output), load_bundle(training.twin)
    assert (bundle.edgetpu_compiled, cpu.edgetpu_compiled) == (True, False)
    check_cpu_model(bundle, cpu)

    paths = sorted(source.glob("*/*.jpg"))
    prepare = Preprocessor(bundle.input, bundle.normalisation)
    tensors = np.stack([prepare(read_image(path)) for path in paths])
    own = computable(load_extractor(tmp_path / "extractor_edgetpu.tflite"))
    embedder = Embedder(own, fit="crop", crop_fraction=1.0, threads=1)
    expected = apply(training.fitted.head, np.stack([embedder(tensor) for tensor in tensors]))
    on_tpu = SubprocessClassifier(bundle, delegate=Delegate(str(library), {"mode": "ok"}), accelerator="stand-in")
    try:
        scores = np.stack([on_tpu.classify(tensor).confidences for tensor in tensors])
    finally:
        on_tpu.close()
    assert np.abs(scores - expected).max() < 1e-3
    on_cpu = make_classifier(cpu, "cpu", 1)
    assert np.abs(scores - np.stack([on_cpu.classify(tensor).confidences for tensor in tensors])).max() < 1e-6

    (tmp_path / "cut.tflite").write_bytes(write_model(cut(own.graph, own.embedding)))
    results = _in_tflite_runtime(tflite_python, tensors, [tmp_path / "cut.tflite", training.twin], tmp_path)
    embeddings = np.stack([results[f"0_{at}_0"].reshape(-1) for at in range(len(tensors))])
    expected = apply(training.fitted.head, embeddings)
    for outputs in (results, _in_tflite_runtime(tflite_python, tensors, [output] * 2, tmp_path, library)):
        scores = np.concatenate([outputs[f"1_{at}_0"] for at in range(len(tensors))])
        assert np.abs(scores - expected).max() < 1e-3
