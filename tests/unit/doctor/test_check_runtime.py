"""The trial of the runtime in a child process: real children that work, that end with an error, and that are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_classifierd.doctor import check_runtime as module
from edge_classifierd.doctor.check_runtime import check_runtime

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of LiteRT's name that comes before the real one; the test writes what it does when it is imported."""
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("EDGE_CLASSIFIERD_RUNTIME", "litert")
    return package / "interpreter.py"


def test_a_runtime_that_works_is_named_with_what_it_needs() -> None:
    finding = check_runtime()
    assert (finding.verdict, finding.remedy) == ("ok", "")
    assert "numpy 2." in finding.sentence or "numpy 1." in finding.sentence


def test_an_illegal_instruction_is_explained(stand_in: Path) -> None:
    stand_in.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    finding = check_runtime()
    assert (finding.verdict, finding.missing) == ("failed", True)
    assert "the TensorFlow Lite runtime stops with an illegal instruction (SIGILL)" in finding.sentence
    assert "lacks instructions" in finding.sentence
    assert "virtual machine" in finding.remedy


def test_any_other_end_by_a_signal_is_named(stand_in: Path) -> None:
    stand_in.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert "ends the process with SIGSEGV" in check_runtime().sentence
    stand_in.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGRTMIN + 1)\n")
    assert "ends the process with signal " in check_runtime().sentence


def test_a_runtime_that_is_not_there_or_does_not_start_is_missing_with_the_remedy(stand_in: Path) -> None:
    stand_in.write_text("raise ModuleNotFoundError('no', name='ai_edge_litert')\n")
    finding = check_runtime()
    assert (finding.verdict, finding.missing) == ("failed", True)
    assert finding.remedy == "run `pip install ai-edge-litert`"
    stand_in.write_text("raise OSError('GLIBC_2.99 not found')\n")
    finding = check_runtime()
    assert "GLIBC_2.99 not found" in finding.sentence
    assert "--force-reinstall" in finding.remedy


def test_a_library_that_does_not_load_is_named(stand_in: Path) -> None:
    stand_in.parents[1].joinpath("av.py").write_text("raise ImportError('libz.so.9: not found')\n")
    finding = check_runtime()
    assert (finding.verdict, finding.missing) == ("failed", True)
    assert finding.sentence == "av does not start (libz.so.9: not found)"


def test_a_fault_of_the_runtime_is_one_line_of_it(stand_in: Path) -> None:
    stand_in.write_text("class Interpreter:\n    def __init__(self, **_):\n        raise KeyError('tensor 7')\n")
    finding = check_runtime()
    assert finding.verdict == "failed"
    assert "KeyError: 'tensor 7'" in finding.sentence


def test_a_child_that_hangs_is_ended(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRIAL_S", 1.0)
    stand_in.write_text("import time\ntime.sleep(60)\n")
    assert "did not run within 1 s" in check_runtime().sentence
