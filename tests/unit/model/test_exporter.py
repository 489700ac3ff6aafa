"""What exporting tools leave inside or beside a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import tflite_builder as tflite

from edge_classifierd.model.bundle import load_bundle, read_content

if TYPE_CHECKING:
    from pathlib import Path

UNIT, SYMMETRIC = ((0.0,), (255.0,)), ((127.5,), (127.5,))


@pytest.mark.parametrize(
    ("model", "file", "content", "tool", "expected"),
    [
        ("model.tflite", "signature.json", {"doc_name": "Lobe", "filename": "model.tflite"}, "Lobe", UNIT),
        ("model.tflite", "metadata.json", {"packageName": "@teachablemachine/image"}, "Teachable Machine", SYMMETRIC),
        ("model.tflite", "metadata.yaml", {"task": "classify", "imgsz": [1, 1], "names": ["a"]}, "Ultralytics", UNIT),
        ("trained.tflite", "ei_image_classification.py", "", "Edge Impulse", UNIT),
        ("ei-birds-tensorflow-lite-float32-model.lite", "x", "", "Edge Impulse", UNIT),
    ],
)
def test_a_tool_s_files_decide_the_preprocessing(
    tmp_path: Path, model: str, file: str, content: object, *, tool: str, expected: tuple[object, object]
) -> None:
    path = tmp_path / model
    path.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"labels.txt": b"a\nb\nc\n"}))
    (tmp_path / file).write_text(json.dumps(content))
    preparation = load_bundle(path).preparation
    assert (preparation.normalisation.mean, preparation.normalisation.std) == expected
    assert preparation.decided_by == "metadata"
    assert tool in preparation.reason


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("signature.json", '{"doc_name": "Lobe", "filename": "another.tflite"}'),
        ("metadata.json", "not JSON: ["),
        ("metadata.json", '["a"]'),
        ("metadata.json", "\xff"),
        ("metadata.yaml", "task: classify\n"),
    ],
)
def test_files_of_other_models_and_other_purposes_are_ignored(tmp_path: Path, file: str, content: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
    (tmp_path / file).write_bytes(content.encode("latin-1"))
    assert read_content(path).notes is None


def test_the_size_in_the_notes_is_used_where_the_model_leaves_it_open(tmp_path: Path) -> None:
    graph = tflite.classifier(tflite.SOFTMAX)
    graph.tensors[0].signature = (-1, -1, -1, 3)
    path = tmp_path / "model.tflite"
    notes = {"author": "Ultralytics", "task": "classify", "imgsz": [6, 8], "names": {"0": "a", "1": "b", "2": "c"}}
    path.write_bytes(tflite.pack(graph, files={"metadata.json": json.dumps(notes).encode()}))
    assert read_content(path).signature.input.shape == (1, 6, 8, 3)
