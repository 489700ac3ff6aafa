"""Models of other kinds and files of other formats: each is refused by what it is; odd shapes are accepted."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tflite_builder as tflite

from edge_classifierd.errors import ModelError
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.model import bundle as bundle_module
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.inspection import inspect
from edge_classifierd.model.options import ModelOptions

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {"labels.txt": b"red\ngreen\nblue\n"}


def write(folder: Path, graph: tflite.Graph, files: dict[str, bytes] | None = None) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(tflite.pack(graph, files=LABELS if files is None else files))
    return path


def outputs(*shapes: tuple[int, ...], picture: tuple[int, ...] = (1, 96, 96, 3)) -> tflite.Graph:
    tensors = [tflite.Tensor(picture, name="image"), *(tflite.Tensor(shape) for shape in shapes)]
    return tflite.Graph(tensors, [], outputs=list(range(1, len(tensors))))


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (outputs((1, 84, 8400)), "is an object-detection model"),
        (outputs((1, 1917, 4), (1, 1917, 91)), "is an object-detection model"),
        (outputs((1, 10, 4), (1, 10), (1, 10), (1,)), "is an object-detection model"),
        (outputs((1, 12, 12, 3)), "is a FOMO model: it gives a map of 12x12"),
        (outputs((1, 96, 96, 21)), "is a segmentation model"),
        (outputs((1, 1)), "one number without a sigmoid, as regression does"),
        (outputs((1, 3), picture=(1, 15600)), "takes 15,600 numbers, .* as models for sound"),
        (outputs((1, 3), picture=(1, 1, 1960, 1)), "takes maps of 1960x1, as audio models do"),
    ],
)
def test_other_kinds_of_models_are_refused_by_what_they_are(tmp_path: Path, graph: tflite.Graph, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_bundle(write(tmp_path, graph))


def test_a_model_named_after_audio_is_refused(tmp_path: Path) -> None:
    graph = outputs((1, 3), picture=(1, 96, 64, 1))
    graph.tensors[0].name = "serving_default_melspectrogram:0"
    with pytest.raises(ModelError, match="is an audio model"):
        load_bundle(write(tmp_path, graph))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\x89HDF\r\n\x1a\n", "is a Keras model"),
        (tflite.zipped({"model_unquant.tflite": b"x", "labels.txt": b"a"}), "is a zip archive.*`model_unquant.tflite`"),
        (tflite.zipped({"a.txt": b"x"}), "is a zip archive without a .tflite file"),
    ],
)
def test_files_of_other_formats_are_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=sentence):
        load_bundle(path)


def test_operators_of_the_full_tensorflow_cannot_run(tmp_path: Path) -> None:
    path = write(tmp_path, tflite.custom("FlexAdjustContrastv2"))
    with pytest.raises(ModelError, match=r"needs operators of the full TensorFlow \(FlexAdjustContrastv2\)"):
        load_bundle(path)
    assert "which no runtime here has" in str(inspect(path).cannot_run)


def test_an_ultralytics_model_for_another_task_is_refused(tmp_path: Path) -> None:
    notes = json.dumps({"author": "Ultralytics", "task": "obb", "imgsz": [64, 64], "names": {"0": "a"}}).encode()
    with pytest.raises(ModelError, match="is a model for the task `obb`"):
        load_bundle(write(tmp_path, tflite.classifier(tflite.SOFTMAX), {"metadata.json": notes}))


def summing(shape: tuple[int, ...], signature: tuple[int, ...] | None = None) -> tflite.Graph:
    """A picture's values, reshaped to (batch, values), as logits."""
    values = int(np.prod(shape[1:]))
    tensors = [
        tflite.Tensor(shape, signature=signature, name="image"),
        tflite.Tensor((2,), "int32", data=np.array([-1, values], np.int32)),
        tflite.Tensor((shape[0], values)),
        tflite.Tensor((shape[0], values)),
    ]
    return tflite.Graph(
        tensors, [tflite.Operator(tflite.RESHAPE, [0, 1], [2]), tflite.Operator(tflite.SOFTMAX, [2], [3])]
    )


@pytest.mark.parametrize("shape", [(1, 2, 2, 1), (1, 2, 2), (1, 1, 2, 2), (1, 3, 1, 2), (8, 2, 1, 3)])
def test_unusual_shapes_of_pictures_run(tmp_path: Path, shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape[1:]))
    labels = "".join(f"label {number}\n" for number in range(count)).encode()
    loaded = load_bundle(write(tmp_path, summing(shape), {"labels.txt": labels}))
    assert loaded.input.shape == (1, *shape[1:])
    classifier = make_classifier(loaded)
    tensor = np.zeros(loaded.input.shape, np.float32)
    tensor.flat[1] = 9.0
    assert int(classifier.classify(tensor).confidences.argmax()) == 1


def test_a_batch_that_cannot_be_changed_is_named(tmp_path: Path) -> None:
    graph = summing((8, 2, 1, 3))
    graph.tensors[1].data = np.array([8, 6], np.int32)
    loaded = load_bundle(write(tmp_path, graph, {"labels.txt": b"a\nb\nc\nd\ne\nf\n"}))
    with pytest.raises(ModelError, match="its batch is fixed at 8 pictures and cannot be changed to 1"):
        make_classifier(loaded)


def test_an_open_size_is_taken_from_the_options(tmp_path: Path) -> None:
    graph = summing((1, 1, 1, 3), signature=(-1, -1, -1, 3))
    graph.tensors[1].data = np.array([-1, 3], np.int32)
    path = write(tmp_path, graph)
    with pytest.raises(ModelError, match=r"set `model.input.size` \(--size"):
        load_bundle(path)
    assert load_bundle(path, options=ModelOptions(size=(8, 6))).input.shape == (1, 8, 6, 3)


def test_a_size_for_a_model_with_a_fixed_one_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, tflite.classifier(tflite.SOFTMAX))
    with pytest.raises(ModelError, match="takes pictures of height 1 and width 1 only"):
        load_bundle(path, options=ModelOptions(size=(2, 2)))


@pytest.mark.parametrize(("labels", "expected"), [(b"low\nhigh\n", [0.25, 0.75]), (b"high\n", [0.75])])
def test_one_sigmoid_has_one_or_two_names(tmp_path: Path, labels: bytes, expected: list[float]) -> None:
    tensors = [
        tflite.Tensor((1, 1, 1, 1), name="image"),
        tflite.Tensor((2,), "int32", data=np.array([1, 1], np.int32)),
        tflite.Tensor((1, 1)),
        tflite.Tensor((1, 1)),
    ]
    operators = [tflite.Operator(tflite.RESHAPE, [0, 1], [2]), tflite.Operator(tflite.LOGISTIC, [2], [3])]
    loaded = load_bundle(write(tmp_path, tflite.Graph(tensors, operators), {"labels.txt": labels}))
    confidences = make_classifier(loaded).classify(np.full((1, 1, 1, 1), np.log(3.0), np.float32)).confidences
    np.testing.assert_allclose(confidences, expected, atol=1e-6)


def test_int16_tensors_run(tmp_path: Path) -> None:
    scale = 1 / 32767
    tensors = [
        tflite.Tensor((1, 1, 1, 3), "int16", scale, 0, name="image"),
        tflite.Tensor((2,), "int32", data=np.array([1, 3], np.int32)),
        tflite.Tensor((1, 3), "int16", scale, 0),
    ]
    loaded = load_bundle(write(tmp_path, tflite.Graph(tensors, [tflite.Operator(tflite.RESHAPE, [0, 1], [2])])))
    assert loaded.output_kind == "logits"
    confidences = make_classifier(loaded).classify(np.array([[[[0, 32767, 0]]]], np.int16)).confidences
    expected = np.exp([0, 1, 0]) / np.exp([0, 1, 0]).sum()
    np.testing.assert_allclose(confidences, expected, atol=1e-4)


def test_a_guess_is_logged_once_with_its_alternatives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "_warned", set())
    path = write(tmp_path, tflite.classifier(tflite.SOFTMAX))
    with caplog.at_level(logging.WARNING):
        load_bundle(path)
        load_bundle(path)
        load_bundle(path, options=ModelOptions(mean=(0.0,), std=(255.0,)))
    (record,) = caplog.records
    assert "its preprocessing is a guess: pixels of [-1, 1]" in record.message
    assert "models probe" in record.message


def test_options_must_suit_the_channels(tmp_path: Path) -> None:
    path = write(tmp_path, summing((1, 1, 3, 1)))
    with pytest.raises(ModelError, match="has 1 channel, but `mean` has 3 values; give one value"):
        load_bundle(path, options=ModelOptions(mean=(1.0, 2.0, 3.0)))
    with pytest.raises(ModelError, match="takes greyscale pictures; leave out `channels`"):
        load_bundle(path, options=ModelOptions(channels="bgr"))
