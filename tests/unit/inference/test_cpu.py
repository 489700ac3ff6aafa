"""The CPU classifier on the installed runtime: right scores, and one sentence for each way to fail."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import tflite_builder as tflite

from edge_classifierd.errors import ExitCode, InferenceError, MissingError, ModelError, UsageError
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.edgetpu.subprocess_classifier import SubprocessClassifier
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.runtime import CHOICE, find_runtime
from edge_classifierd.inference.scores import top_k
from edge_classifierd.model.bundle import ModelBundle, bundled_model_path, load_bundle
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from pathlib import Path


def bundle_of(folder: Path, graph: tflite.Graph) -> ModelBundle:
    path = folder / "model.tflite"
    path.write_bytes(tflite.pack(graph, files={"labels.txt": b"red\ngreen\nblue\n"}))
    return load_bundle(path)


def softmax(real: np.ndarray) -> np.ndarray:
    powers = np.exp(real - real.max())
    return powers / powers.sum()


PIXEL = [250, 100, 3]


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (tflite.classifier(tflite.SOFTMAX), softmax),
        (tflite.classifier(None), softmax),
        (tflite.classifier(tflite.LOG_SOFTMAX), softmax),
        (tflite.classifier(tflite.LOGISTIC), lambda real: 1 / (1 + np.exp(-real))),
        (tflite.classifier(tflite.SOFTMAX, "int8", 1 / 128, -1), softmax),
        (tflite.classifier(tflite.SOFTMAX, "int8", 0.0217, 40, dequantised=True), softmax),
        (tflite.classifier(tflite.SOFTMAX, "uint8", 0.03, 77), softmax),
        (tflite.classifier(tflite.LOGISTIC, "int8", 0.05, -20), lambda real: 1 / (1 + np.exp(-real))),
        (tflite.classifier(None, "uint8", 0.05, 99), softmax),
        (tflite.classifier(None, "int8", 0.05, 99, dequantised=True), softmax),
    ],
)
def test_confidences_are_those_of_the_formula(tmp_path: Path, graph: tflite.Graph, expected: object) -> None:
    bundle = bundle_of(tmp_path, graph)
    dtype = np.dtype(bundle.input.dtype)
    if dtype == np.float32:
        tensor = np.array(PIXEL, np.float32).reshape(1, 1, 1, 3) / 100
        real = tensor
    else:
        tensor = np.array(PIXEL, np.uint8).view(dtype).reshape(1, 1, 1, 3)
        real = (tensor.astype(np.float64) - bundle.input.zero_point) * bundle.input.scale
    inference = make_classifier(bundle).classify(tensor)
    np.testing.assert_allclose(inference.confidences, expected(real.reshape(-1)), atol=1 / 256)  # type: ignore[operator]
    assert inference.inference_ms > 0
    assert inference.accelerator == "cpu"


@pytest.mark.parametrize("graph", [tflite.classifier(None), tflite.classifier(None, "uint8", 0.05, 99)])
def test_an_output_can_be_read_after_the_next_inference(tmp_path: Path, graph: tflite.Graph) -> None:
    bundle = bundle_of(tmp_path, graph)
    classifier = CpuClassifier(bundle, find_runtime(), 1)
    tensors = [np.array(pixel, bundle.input.dtype).reshape(1, 1, 1, 3) for pixel in ([9, 0, 0], [0, 0, 9])]
    reads = [classifier.run(tensor) for tensor in tensors]
    for tensor, read in reversed(list(zip(tensors, reads, strict=True))):
        np.testing.assert_array_equal(read().confidences, classifier.classify(tensor).confidences)
    assert [int(read().confidences.argmax()) for read in reads] == [0, 2]


def test_scores_come_from_the_output_that_holds_them(tmp_path: Path) -> None:
    graph = tflite.classifier(tflite.SOFTMAX)
    graph.tensors[2:2] = [tflite.Tensor((1, 1, 3, 3))]
    graph.operators = [
        tflite.Operator(tflite.RESHAPE, [0, 1], [3]),
        tflite.Operator(tflite.SOFTMAX, [3], [4]),
        tflite.Operator(tflite.ADD, [0, 5], [2]),
    ]
    graph.tensors.append(tflite.Tensor((1, 1, 3, 3), data=np.ones((1, 1, 3, 3), np.float32)))
    graph.outputs = [2, 4]
    inference = make_classifier(bundle_of(tmp_path, graph)).classify(np.array([[[[0, 9, 0]]]], np.float32))
    assert inference.confidences.shape == (3,)
    assert inference.confidences.argmax() == 1


def test_bundled_model_sees_a_rocket_and_names_its_runtime(repository: Path) -> None:
    bundle = load_bundle(bundled_model_path())
    classifier = make_classifier(bundle, "cpu", 2)
    with av.open(str(repository / "edge_classifierd/demo_photos/rocket.jpg")) as file:
        tensor = Preprocessor(bundle.input, bundle.normalisation)(next(file.decode(video=0)))
    confidences = classifier.classify(tensor).confidences
    assert confidences.shape == (1000,)
    assert bundle.labels.names[top_k(confidences, 1)[0]] == "missile"
    name, version = classifier.runtime.split()
    assert name in {"ai-edge-litert", "tflite-runtime"}
    assert version[0].isdecimal()


def test_compiled_model_on_the_cpu_names_the_remedy(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, tflite.custom("edgetpu-custom-op"))
    with pytest.raises(MissingError, match=r"compiled for the Edge TPU .* give the CPU version") as caught:
        make_classifier(bundle)
    assert caught.value.exit_code == ExitCode.MISSING
    with pytest.raises(MissingError, match="compiled for the Edge TPU"):
        find_runtime().make_interpreter(bundle.path, 1)


def test_coral_compiled_model_on_the_cpu_is_one_sentence(shared: Path) -> None:
    with pytest.raises(MissingError, match="give the CPU version"):
        make_classifier(load_bundle(shared / "data/coral/mobilenet_v1_0.25_128_quant_edgetpu.tflite"))


def test_operator_that_the_runtime_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model.tflite: needs the custom operator my-op, which \S+ [\d.]+ does not"):
        make_classifier(bundle_of(tmp_path, tflite.custom("my-op")))


def test_operator_newer_than_the_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = tflite.classifier(tflite.SOFTMAX)
    made = tflite.schema.OperatorCodeT
    monkeypatch.setattr(tflite.schema, "OperatorCodeT", lambda: _Newer(made()))
    with pytest.raises(ModelError, match=r"needs the operator RESHAPE in version 77"):
        make_classifier(bundle_of(tmp_path, graph))


class _Newer:
    """An operator code whose version is 77 whatever is set."""

    def __init__(self, code: object) -> None:
        object.__setattr__(self, "_code", code)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._code, name, 77 if name == "version" else value)

    def __getattr__(self, name: str) -> object:
        return getattr(self._code, name)


def test_model_whose_output_is_not_what_its_file_describes_is_refused(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, tflite.mistyped())
    with pytest.raises(InferenceError, match=r"is \(3, 2\) int64, but the file describes \(1, 3\) uint8; convert"):
        make_classifier(bundle)
    with pytest.raises(InferenceError, match=r"output is .* int64 for the runtime, but .* uint8 in the file; convert"):
        SubprocessClassifier(bundle)


def test_file_that_vanished_after_the_check_is_one_sentence(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX))
    bundle.path.unlink()
    with pytest.raises(ModelError, match=r"model.tflite: .* cannot load it: Could not open"):
        make_classifier(bundle)


def test_model_that_fails_while_running_is_an_inference_error(tmp_path: Path) -> None:
    classifier = make_classifier(bundle_of(tmp_path, tflite.failing_above(100)))
    classifier.classify(np.full((1, 1, 1, 3), 99, np.uint8))
    with pytest.raises(InferenceError, match=r"model.tflite: \S+ [\d.]+ failed to run it: .*gather"):
        classifier.classify(np.full((1, 1, 1, 3), 100, np.uint8))
    classifier.classify(np.full((1, 1, 1, 3), 99, np.uint8))


def test_model_that_cannot_run_at_all_fails_when_it_is_made(tmp_path: Path) -> None:
    graph = tflite.failing_above(1)
    graph.tensors.append(tflite.Tensor((1, 1, 1, 3), "int32", data=np.full((1, 1, 1, 3), 5, np.int32)))
    graph.tensors.append(tflite.Tensor((1, 1, 1, 3), "int32"))
    graph.operators.insert(1, tflite.Operator(tflite.ADD, [1, 4], [5]))
    graph.operators[2].inputs = [2, 5]
    graph.outputs = [3]
    with pytest.raises(InferenceError, match="failed to run it"):
        make_classifier(bundle_of(tmp_path, graph))


@pytest.mark.parametrize("tensor", [np.zeros((1, 1, 3), np.float32), np.zeros((1, 1, 1, 3), np.uint8)])
def test_tensor_of_another_shape_or_type_is_a_bug(tmp_path: Path, tensor: np.ndarray) -> None:
    classifier = make_classifier(bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX)))
    with pytest.raises(ValueError, match="for a model of"):
        classifier.classify(tensor)


def test_closing_twice_is_safe_and_ends_the_use(tmp_path: Path) -> None:
    classifier = make_classifier(bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX)))
    classifier.close()
    classifier.close()
    with pytest.raises(ValueError, match="closed"):
        classifier.classify(np.zeros((1, 1, 1, 3), np.float32))


def test_unknown_device_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"device `gpu`: .* allowed are auto\b.* cpu\b"):
        make_classifier(bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX)), "gpu")


def test_missing_runtime_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert", "tflite_runtime"):
        for module in [name, f"{name}.interpreter"]:
            monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.setattr("importlib.import_module", _nothing_installed)
    with pytest.raises(MissingError, match="no TensorFlow Lite runtime is installed; run `pip install ai-edge-litert`"):
        find_runtime()
    monkeypatch.setenv(CHOICE, "tflite")
    with pytest.raises(MissingError, match="run `pip install tflite-runtime`"):
        find_runtime()


def _nothing_installed(name: str) -> None:
    raise ModuleNotFoundError(f"No module named '{name}'", name=name.split(".", maxsplit=1)[0])


def test_a_runtime_built_for_another_numpy_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> None:
        raise ImportError("numpy.core.multiarray failed to import")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(MissingError, match=r"does not start \(ai-edge-litert: numpy.core.multiarray failed"):
        find_runtime()


def test_interrupted_import_of_a_runtime_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_name: str) -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()  # as pybind11 does

    monkeypatch.setattr("importlib.import_module", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_runtime()


def test_unknown_choice_of_runtime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, "onnx")
    with pytest.raises(UsageError, match="onnx: no such runtime; allowed are litert and tflite"):
        find_runtime()


def test_loading_writes_nothing_to_stderr_and_loses_nothing_of_others(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX, "uint8", 1 / 128, 128))
    script = """
import os, sys
from pathlib import Path
from edge_classifierd.inference import runtime
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.edgetpu.subprocess_classifier import SubprocessClassifier
from edge_classifierd.model.bundle import load_bundle
make_classifier(load_bundle(Path(sys.argv[1])))
with runtime._without_info_lines():
    os.write(2, b"INFO: chatter\\nERROR: kept\\n")
os.write(2, b"after\\n")
os.close(2)
make_classifier(load_bundle(Path(sys.argv[1])))
"""
    done = subprocess.run([sys.executable, "-c", script, str(bundle.path)], capture_output=True, check=True)
    assert done.stderr == b"ERROR: kept\nafter\n"


def test_photo_of_a_parrot_is_a_macaw(shared: Path) -> None:
    bundle = load_bundle(shared / "data/coral/mobilenet_v2_1.0_224_quant.tflite")
    with av.open(str(shared / "data/photos/parrot.jpg")) as file:
        tensor = Preprocessor(bundle.input, bundle.normalisation)(next(file.decode(video=0)))
    confidences = make_classifier(bundle, threads=2).classify(tensor).confidences
    assert bundle.labels.names[top_k(confidences, 1)[0]] == "macaw"
