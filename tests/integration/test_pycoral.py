"""Coral's own `pycoral` makes the Edge TPU's delegate where it is installed; whatever else has that name does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stand_in import Machine, build_delegate, model_pair, pixel
from test_tflite_runtime import tflite_python

from edge_classifierd.inference.edgetpu.delegate import LIBRARY, EdgeTpuError, EdgeTpuSettings, open_tpu
from edge_classifierd.inference.edgetpu.device_lock import claim
from edge_classifierd.inference.edgetpu.devices import ROOT, list_tpus
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.runtime import CHOICE, find_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.inference.edgetpu.subprocess_classifier import SubprocessClassifier
    from edge_classifierd.model.bundle import ModelBundle

__all__ = ["tflite_python"]  # the fixture

RED = pixel(250, 3, 0)

# What Coral's own does, which asks for the library by this name and no other.
_EDGETPU = """
from pathlib import Path
import tflite_runtime.interpreter as tflite

def load_edgetpu_delegate(options=None):
    Path(__file__).with_name("asked").write_text(repr(options))
    return tflite.load_delegate("libedgetpu.so.1", options or {})
"""

# argv: compiled model, the stand-in's mode
_CLASSIFY = """
import json, sys
from pathlib import Path
import numpy as np
from edge_classifierd.inference.edgetpu.devices import list_tpus
from edge_classifierd.inference.edgetpu.delegate import EdgeTpuError, EdgeTpuSettings, open_tpu
from edge_classifierd.inference.edgetpu.device_lock import claim
from edge_classifierd.model.bundle import load_bundle
red = np.array([250, 3, 0], np.uint8).reshape(1, 1, 1, 3)
try:
    settings = EdgeTpuSettings(options={"mode": sys.argv[2], "Usb.MaxBulkInQueueLength": "8"})
    classifier = open_tpu(load_bundle(Path(sys.argv[1])), claim(list_tpus()[0]), settings)
    scores = classifier.classify(red).confidences.tolist()
    print(json.dumps({"runtime": classifier.runtime, "scores": scores}))
except EdgeTpuError as error:
    print(json.dumps({"error": str(error)}))
"""


class Coral:
    """A folder on the path with a package `pycoral`, one with `libedgetpu.so.1`, and a machine with one stick."""

    def __init__(self, folder: Path) -> None:
        self.compiled, self.twin = model_pair(folder)
        self.machine = Machine(folder / "root")
        self.machine.add("1-1")
        self.packages = folder / "packages"
        self.libraries = folder / "libraries"
        self.libraries.mkdir()
        shutil.copy(build_delegate(folder), self.libraries / LIBRARY)
        self.package("pycoral/__init__.py", '__version__ = "2.0.3"\n')
        self.package("pycoral/utils/__init__.py", "")
        self.package("pycoral/utils/edgetpu.py", _EDGETPU)
        self.environment = {
            ROOT: str(self.machine.root),
            "LD_LIBRARY_PATH": str(self.libraries),
            "PYTHONPATH": f"{Path(__file__).resolve().parents[2]}:{self.packages}",
        }

    def package(self, name: str, text: str) -> None:
        path = self.packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @property
    def asked(self) -> str | None:
        """The options that `load_edgetpu_delegate` got."""
        path = self.packages / "pycoral/utils/asked"
        return path.read_text() if path.exists() else None


@pytest.fixture
def coral(tmp_path: Path) -> Coral:
    return Coral(tmp_path)


@pytest.fixture
def here(coral: Coral, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`here()`: the compiled model in a child of this process, which finds what the scene has."""
    for name, value in coral.environment.items():
        monkeypatch.setenv(name, value)
    made: list[SubprocessClassifier] = []

    def make(**settings: Any) -> SubprocessClassifier:
        lease = claim(list_tpus()[0])
        try:
            made.append(open_tpu(coral.compiled, lease, EdgeTpuSettings(**settings)))
        finally:
            lease.close()
        return made[-1]

    yield make
    for one in made:
        one.close()


def with_tflite(coral: Coral, python: Path, mode: str) -> dict[str, Any]:
    """The same with tflite-runtime, and with a LiteRT beside it that must not be touched."""
    coral.package("ai_edge_litert/__init__.py", "raise AssertionError('LiteRT was imported')")
    done = subprocess.run(
        [str(python), "-c", _CLASSIFY, str(coral.compiled.path), mode],
        env={**os.environ, **coral.environment}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def expected(twin: ModelBundle) -> np.ndarray:
    return make_classifier(twin).classify(RED).confidences


def test_pycoral_makes_the_delegate_and_its_runtime_runs_the_model(coral: Coral, tflite_python: Path) -> None:
    told = with_tflite(coral, tflite_python, "ok")
    assert told["runtime"] == "tflite-runtime 2.14.0 with pycoral 2.0.3"
    np.testing.assert_allclose(told["scores"], expected(coral.twin), atol=1 / 256)
    assert coral.asked is not None
    for option in ("'device': 'usb:0'", "'Performance': 'High'", "'Usb.MaxBulkInQueueLength': '8'"):
        assert option in coral.asked


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("refuse", "usb:0: libedgetpu.so.1 refused: stand-in: the device is claimed by somebody else"),
        ("refuse-silent", "libedgetpu.so.1 was loaded but found no Edge TPU that it may open, and gives no reason"),
        ("segv", "(stand-in 1) was not built for tflite-runtime 2.14.0 with pycoral 2.0.3: install the libedgetpu"),
    ],
)
def test_a_tpu_that_pycoral_cannot_use_gives_the_same_sentences(
    coral: Coral, tflite_python: Path, mode: str, words: str
) -> None:
    assert words in with_tflite(coral, tflite_python, mode)["error"]


def test_a_missing_library_is_reported_with_pycoral_too(coral: Coral, tflite_python: Path) -> None:
    (coral.libraries / LIBRARY).unlink()
    assert "the library libedgetpu.so.1 is not installed" in with_tflite(coral, tflite_python, "ok")["error"]


def test_a_configured_library_goes_without_pycoral(coral: Coral, here: Any) -> None:
    coral.package("pycoral/utils/edgetpu.py", "import os; os.abort()")
    child = here(library=str(coral.libraries / LIBRARY))
    assert child.runtime == str(find_runtime())
    np.testing.assert_array_equal(child.classify(RED).confidences, expected(coral.twin))


def test_the_runtime_chosen_by_hand_goes_without_pycoral(
    coral: Coral, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    coral.package("pycoral/utils/edgetpu.py", "import os; os.abort()")
    monkeypatch.setenv(CHOICE, "litert")
    assert here().runtime.startswith("ai-edge-litert ")


def test_the_unrelated_pycoral_of_pypi_is_not_even_imported(coral: Coral, here: Any) -> None:
    shutil.rmtree(coral.packages / "pycoral")
    coral.package("pycoral/__init__.py", "import os; os.abort()")
    coral.package("pycoral/pycoral.py", "import os; os.abort()")
    assert here().runtime == str(find_runtime())


def test_a_module_of_that_name_is_not_even_imported(coral: Coral, here: Any) -> None:
    shutil.rmtree(coral.packages / "pycoral")
    coral.package("pycoral.py", "import os; os.abort()")
    assert here().runtime == str(find_runtime())


@pytest.mark.parametrize(
    "source",
    ["from pycoral.pybind._pywrap_coral import ListEdgeTpus", "raise ValueError('numpy.dtype size changed')", ""],
)
def test_a_pycoral_that_does_not_start_leaves_the_runtime_as_without_it(coral: Coral, here: Any, source: str) -> None:
    coral.package("pycoral/utils/edgetpu.py", source)
    assert here().runtime == str(find_runtime())


def test_why_pycoral_was_not_used_is_among_the_last_words(coral: Coral, here: Any) -> None:
    coral.package("pycoral/utils/edgetpu.py", "from pycoral.pybind import _pywrap_coral")
    with pytest.raises(EdgeTpuError, match=r"last output: pycoral is installed but does not start \(No module named"):
        here(options={"mode": "abort"})


def test_a_pycoral_that_crashes_is_named_with_the_way_around_it(coral: Coral, here: Any) -> None:
    coral.package("pycoral/utils/edgetpu.py", "import os; os.abort()")
    with pytest.raises(EdgeTpuError, match=r"SIGABRT during loading pycoral; remove pycoral, or set `model\."):
        here()
