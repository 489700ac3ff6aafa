"""Where the labels of a model are found, and which output they choose."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import tflite_builder as tflite

from edge_classifierd.errors import ModelError
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.options import ModelOptions

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("red", "green", "blue")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX)))
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.txt", "red\ngreen\nblue\n"),
        ("labels.txt", "0 red\n1 green\n2 blue\n"),
        ("labels.txt", "0,red\n1,green\n2,blue\n"),
        ("my_labels_v2.json", '{"0": "red", "1": "green", "2": "blue"}'),
        ("metadata.json", '{"packageName": "@teachablemachine/image", "labels": ["red", "green", "blue"]}'),
        ("signature.json", '{"doc_name": "Lobe", "classes": {"Label": ["red", "green", "blue"]}}'),
        ("class_indices.json", '{"red": 0, "green": 1, "blue": 2}'),
        ("data.yaml", "names:\n  0: red\n  1: green\n  2: blue\n"),
        ("label_map.pbtxt", "item { id: 1 name: 'red' }\nitem { id: 2 name: 'green' }\nitem { id: 3 name: 'blue' }\n"),
    ],
)
def test_labels_are_found_in_the_files_that_tools_write(model: Path, name: str, content: str) -> None:
    model.with_name(name).write_text(content)
    bundle = load_bundle(model)
    assert bundle.labels.names == NAMES
    assert bundle.labels_source == str(model.with_name(name))
    assert bundle.labels_beside == (not name.startswith("model."))


def test_a_file_with_another_number_of_labels_is_passed_over_and_named(model: Path) -> None:
    model.with_name("labels.txt").write_text("a\nb\n")
    with pytest.raises(ModelError, match=r"for its 3 outputs, and `labels.txt` beside it holds 2; set"):
        load_bundle(model)
    model.with_name("labels_of_this.txt").write_text("red\ngreen\nblue\n")
    assert load_bundle(model).labels.names == NAMES


def test_names_in_an_archive_s_metadata_are_found(tmp_path: Path) -> None:
    notes = json.dumps({"author": "Ultralytics", "task": "classify", "names": dict(enumerate(NAMES))}).encode()
    path = tmp_path / "a.tflite"
    path.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"metadata.json": notes}))
    bundle = load_bundle(path)
    assert bundle.labels.names == NAMES
    assert bundle.labels_source == "its own `metadata.json`"
    assert (bundle.normalisation.mean, bundle.normalisation.std) == ((0.0,), (255.0,))
    assert bundle.preparation.decided_by == "metadata"


def test_codes_are_shown_in_the_user_s_language_or_in_english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"codes.txt": b"/m/01\n/m/02\n/m/03\n", "en.txt": b"one\ntwo\nthree\n", "de.txt": b"eins\nzwei\ndrei\n"}
    metadata = tflite.metadata(label_files=(("codes.txt", ""), ("en.txt", "en"), ("de.txt", "de")))
    path = tmp_path / "a.tflite"
    path.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX), metadata, files))
    monkeypatch.setenv("LC_ALL", "de_AT.UTF-8")
    assert load_bundle(path).labels.display == ("eins", "zwei", "drei")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert load_bundle(path).labels.display == ("one", "two", "three")
    assert load_bundle(path, locale="de").labels.display == ("eins", "zwei", "drei")


def two_outputs() -> tflite.Graph:
    """A model with three scores and, as a second output, two."""
    graph = tflite.classifier(tflite.SOFTMAX)
    graph.tensors[3].name = "colours"
    graph.tensors.append(tflite.Tensor((1, 2), name="sizes"))
    graph.outputs = [3, 4]
    return graph


def test_the_output_with_as_many_scores_as_labels_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.pack(two_outputs()))
    path.with_suffix(".txt").write_text("big\nsmall\n")
    assert (load_bundle(path).output_position, len(load_bundle(path).labels)) == (1, 2)
    path.with_suffix(".txt").write_text("red\ngreen\nblue\n")
    assert load_bundle(path).output_position == 0


@pytest.mark.parametrize(("output", "position"), [(1, 1), ("sizes", 1), (0, 0), ("colours", 0)])
def test_the_output_can_be_chosen_by_number_or_name(tmp_path: Path, output: int | str, position: int) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.pack(two_outputs()))
    path.with_suffix(".txt").write_text("big\nsmall\n" if position else "red\ngreen\nblue\n")
    assert load_bundle(path, options=ModelOptions(output=output)).output_position == position


def test_an_unknown_output_lists_the_outputs(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.pack(two_outputs()))
    with pytest.raises(ModelError, match=r"has no output `x` of scores; .* 0 \(`colours`, 3 scores\) or 1 \(`sizes`"):
        load_bundle(path, options=ModelOptions(output="x"))


def test_label_files_that_differ_are_ambiguous_unless_one_has_the_model_s_name(model: Path) -> None:
    model.with_name("a_labels.txt").write_text("red\ngreen\nblue\n")
    model.with_name("b_labels.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(ModelError, match=r"several label files beside it \(`a_labels.txt`, `b_labels.txt`\); set"):
        load_bundle(model)
    model.with_name("model_labels.txt").write_text("x\ny\nz\n")
    assert load_bundle(model).labels.names == ("x", "y", "z")
