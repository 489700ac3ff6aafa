"""The trial of a model in a child process, and what is remembered of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import tflite_builder as tflite

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import ModelError, ModelRefusedError
from edge_classifierd.inference import trial
from edge_classifierd.inference.trial import ModelTrials, try_model
from edge_classifierd.model.bundle import ModelBundle, load_bundle
from edge_classifierd.model.inspection import inspect

if TYPE_CHECKING:
    from pathlib import Path


class StillClock(SystemClock):
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def bundle_of(folder: Path, graph: tflite.Graph) -> ModelBundle:
    path = folder / "model.tflite"
    path.write_bytes(tflite.pack(graph, files={"labels.txt": b"red\ngreen\nblue\n"}))
    return load_bundle(path)


def test_a_model_that_works_passes_and_one_that_does_not_is_one_sentence(tmp_path: Path) -> None:
    works = bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX))
    try_model(works)
    try_model(inspect(works.path))
    broken = bundle_of(tmp_path, tflite.mistyped())
    with pytest.raises(ModelError, match=r"model.tflite: the model's output is .*; convert the model again$"):
        try_model(broken)


def test_a_model_that_kills_its_process_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime's Python package is replaced by one that crashes, as native code does."""
    fake = tmp_path / "site" / "ai_edge_litert"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "interpreter.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    bundle = bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setattr("edge_classifierd.inference.edgetpu.spawn._KEPT_PREFIXES", ("LC_", "PYTHON"))
    with pytest.raises(ModelError, match=r"model.tflite: the process was killed by SIGSEGV during starting; .*another"):
        try_model(bundle)


def test_a_model_that_passed_is_not_tried_again_until_it_or_the_runtime_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(trial, "try_model", lambda bundle: tried.append(bundle.sha256))
    bundle = bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX))
    trials = ModelTrials(tmp_path / "trials.json", StillClock())
    assert not trials.passed(bundle)
    trials.require(bundle)
    trials.require(bundle)
    ModelTrials(tmp_path / "trials.json", StillClock()).require(bundle)
    assert tried == [bundle.sha256]
    monkeypatch.setattr(trial, "_runtimes", lambda: ("ai-edge-litert 99",))
    trials.require(bundle)
    other = bundle_of(tmp_path, tflite.classifier(None))
    trials.require(other)
    assert tried == [bundle.sha256, bundle.sha256, other.sha256]


def test_a_refusal_is_remembered_for_five_minutes_and_another_failure_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StillClock()
    trials = ModelTrials(tmp_path / "trials.json", clock)
    broken = bundle_of(tmp_path, tflite.mistyped())
    with pytest.raises(ModelRefusedError, match="convert the model again"):
        trials.require(broken)
    assert not (tmp_path / "trials.json").exists()
    tried: list[str] = []

    def crash(bundle: ModelBundle) -> None:
        tried.append(bundle.sha256)
        raise ModelError("the process was killed by SIGSEGV")

    monkeypatch.setattr(trial, "try_model", crash)
    with pytest.raises(ModelRefusedError, match="convert the model again"):
        trials.require(broken)
    assert tried == []
    for clock.now_s in (301.0, 302.0):
        with pytest.raises(ModelError, match="SIGSEGV"):
            trials.require(broken)
    assert tried == [broken.sha256] * 2
    repaired = bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX))
    monkeypatch.setattr(trial, "try_model", lambda _bundle: None)
    trials.require(repaired)


def test_what_is_remembered_is_bounded_and_may_be_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "try_model", lambda _bundle: None)
    file = tmp_path / "trials.json"
    file.write_text(json.dumps({trial._VERSION: [str(number) for number in range(200)]}))
    bundle = bundle_of(tmp_path, tflite.classifier(tflite.SOFTMAX))
    ModelTrials(file, StillClock()).require(bundle)
    kept = json.loads(file.read_text())[trial._VERSION]
    assert (len(kept), kept[0], bundle.sha256 in kept[-1]) == (200, "1", True)
    file.write_text("{")
    assert not ModelTrials(file, StillClock()).passed(bundle)
