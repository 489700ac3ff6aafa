"""LiteRT and tflite-runtime give the same scores; each runs in a child interpreter, the latter in its own environment.

With the same (reference) kernels the scores agree within one quantisation step. With the kernels that each chooses by
itself they do not: LiteRT hands quantised models to XNNPACK, ten times faster, which rounds each layer's result another
way than TensorFlow Lite's own kernels, and a network adds those steps up.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from edge_classifierd.inference.runtime import CHOICE
from edge_classifierd.model.bundle import BUNDLED_MODELS, BundledName, ModelBundle, bundled_model_path, load_bundle
from edge_classifierd.model.tflite.graph import read_graph
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from pathlib import Path

_REQUIREMENTS = ("tflite-runtime==2.14.0", "numpy>=1.24,<2")

# Runs here as it does in the child: argv is model, tensors, scores, kernels.
_CLASSIFY = """
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.runtime import Runtime, find_runtime
from edge_classifierd.model.bundle import load_bundle
model, tensors, scores = map(Path, sys.argv[1:4])
runtime = find_runtime()
if sys.argv[4] == "reference":
    module = runtime.module
    kernels = module.OpResolverType.BUILTIN_REF
    interpreter = partial(module.Interpreter, experimental_op_resolver_type=kernels)
    runtime = Runtime(runtime.name, runtime.version, SimpleNamespace(Interpreter=interpreter))
classifier = CpuClassifier(load_bundle(model), runtime, 2)
np.save(scores, np.stack([classifier.classify(tensor).confidences for tensor in np.load(tensors)]))
print(classifier.runtime)
"""


@pytest.fixture(scope="module")
def tflite_python(pytestconfig: pytest.Config) -> Path:
    """An interpreter that has tflite-runtime; its environment is made once and kept in pytest's cache."""
    python = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if python is None or os.uname().machine not in {"x86_64", "aarch64", "armv7l"}:
        pytest.skip("tflite-runtime has wheels up to Python 3.11 only, and there is no python3.11 here")
    assert pytestconfig.cache is not None
    environment = pytestconfig.cache.mkdir("tflite-runtime") / "venv"
    stamp = environment / "complete.txt"
    wanted = "\n".join((python, *_REQUIREMENTS))
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
        done = subprocess.run([*pip, *_REQUIREMENTS], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"tflite-runtime cannot be installed: {done.stderr.strip().splitlines()[-1:]}"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
        stamp.write_text(wanted)
    return environment / "bin/python"


def _tensors(bundle: ModelBundle, photographs: Path) -> np.ndarray:
    """The bundled photographs as the model's input, (count, 1, height, width, 3)."""
    preprocess = Preprocessor(bundle.input, bundle.normalisation)
    tensors = []
    for path in sorted(photographs.glob("*.jpg")):
        with av.open(str(path)) as file:
            tensors.append(preprocess(next(file.decode(video=0))))
    assert len(tensors) >= 5
    return np.stack(tensors)


@dataclass(frozen=True)
class Runtimes:
    """Classifies the same pictures in both runtimes."""

    tflite_python: Path
    repository: Path
    folder: Path

    def scores(self, model: Path, kernels: str) -> tuple[np.ndarray, np.ndarray]:
        """LiteRT's confidences and tflite-runtime's, each (pictures, labels)."""
        photographs = self.repository / "edge_classifierd/demo_photos"
        np.save(self.folder / "tensors.npy", _tensors(load_bundle(model), photographs))
        return (
            self._run(sys.executable, "litert", "ai-edge-litert ", model, kernels),
            self._run(str(self.tflite_python), "tflite", "tflite-runtime 2.14.0", model, kernels),
        )

    def _run(self, python: str, choice: str, name: str, model: Path, kernels: str) -> np.ndarray:
        scores = self.folder / f"{choice}.npy"
        done = subprocess.run(
            [python, "-c", _CLASSIFY, str(model), str(self.folder / "tensors.npy"), str(scores), kernels],
            env={**os.environ, CHOICE: choice, "PYTHONPATH": str(self.repository)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(name)
        return np.asarray(np.load(scores))


@pytest.fixture
def runtimes(tflite_python: Path, repository: Path, tmp_path: Path) -> Runtimes:
    if importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("LiteRT has no wheel for this machine")
    return Runtimes(tflite_python, repository, tmp_path)


def _step_of_logits(model: Path) -> float:
    graph = read_graph(model.read_bytes())
    producers = {output: operator for operator in graph.operators for output in operator.outputs}
    softmax = producers[graph.outputs[0]]
    quantised = graph.tensors[producers[softmax.inputs[0]].inputs[0]].quantisation
    assert quantised is not None
    return quantised.scales[0]


def _assert_same_arithmetic(runtimes: Runtimes, model: Path) -> None:
    litert, tflite = runtimes.scores(model, "reference")
    output = load_bundle(model).output
    if output.scale:
        assert np.abs(litert - tflite).max() <= output.scale * 1.001
    else:  # a float softmax: what is quantised are the logits before it, and a score's logarithm is one but for a sum
        steps = np.abs(np.log(litert.astype(float)) - np.log(tflite.astype(float))) / _step_of_logits(model)
        assert steps.max() < 1.1
        assert (steps > 0.5).mean() < 0.005
    assert litert.max() > 0.5  # the photographs do excite the model


def _assert_same_verdict(runtimes: Runtimes, model: Path) -> None:
    litert, tflite = runtimes.scores(model, "default")
    best = np.sort(litert, axis=1)
    clear = best[:, -1] - best[:, -2] > 0.15
    assert clear.sum() >= 3
    assert (litert.argmax(1) == tflite.argmax(1))[clear].all()
    assert np.abs(litert - tflite).max() < 0.15


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_bundled_model_scores_the_same_with_the_same_kernels(runtimes: Runtimes, name: BundledName) -> None:
    _assert_same_arithmetic(runtimes, bundled_model_path(name))


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_bundled_model_finds_the_same_with_each_runtimes_own_kernels(runtimes: Runtimes, name: BundledName) -> None:
    _assert_same_verdict(runtimes, bundled_model_path(name))


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "mobilenet_v1_0.75_192_quant"])
def test_coral_model_scores_the_same_with_the_same_kernels(shared: Path, name: str, runtimes: Runtimes) -> None:
    _assert_same_arithmetic(runtimes, shared / "data/coral" / f"{name}.tflite")


def test_coral_model_finds_the_same_with_each_runtimes_own_kernels(shared: Path, runtimes: Runtimes) -> None:
    _assert_same_verdict(runtimes, shared / "data/coral/mobilenet_v1_0.75_192_quant.tflite")


def test_damaged_model_never_reaches_the_runtime_that_it_would_crash(
    shared: Path, tflite_python: Path, tmp_path: Path, repository: Path
) -> None:
    whole = (shared / "data/coral/mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    script = """
import sys
from pathlib import Path
from edge_classifierd.errors import ModelError
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.model.bundle import load_bundle
for path in map(Path, sys.argv[1:]):
    try:
        make_classifier(load_bundle(path))
    except ModelError as error:
        print(error)
"""
    cuts = []
    for length in range(50_000, len(whole), 50_000):
        cuts.append(tmp_path / f"{length}.tflite")
        cuts[-1].write_bytes(whole[:length])
    done = subprocess.run(
        [str(tflite_python), "-c", script, *map(str, cuts)],
        env={**os.environ, CHOICE: "tflite", "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # without the check of references: killed by SIGSEGV
    assert done.stdout.count("is cut short or damaged") == len(cuts)
