"""Model files as people bring them: those of the field cases, where they are at hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.options import NO_OPTIONS, ModelOptions
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from pathlib import Path

PREPARATIONS = {
    "01": ((0.0,), (255.0,)),
    "m1": ((127.5,), (127.5,)),
    "255": ((0.0,), (1.0,)),
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
DECIDED_BY_THE_FILE = {
    "greyscale-int8": "quantisation",
    "labels-beside-model": "graph",
    "ultralytics-metadata": "metadata",
}


def right(folder: Path, options: ModelOptions) -> tuple[int, int]:
    """How many pictures of a case have the expected label, and how many there are."""
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())["expected"]
    bundle = load_bundle(folder / "model.tflite", options=options)
    classifier, prepare = make_classifier(bundle), Preprocessor(bundle.input, bundle.normalisation)
    tops = {
        name: int(classifier.classify(prepare(read_image(folder / "pictures" / name))).confidences.argmax())
        for name in expected
    }
    return sum(tops[name] == one["top"] for name, one in expected.items()), len(expected)


@pytest.mark.parametrize(
    "name",
    ["float-0-1", "float-0-255-rescaling-inside", "float-bgr", "float-imagenet-mean-std", "greyscale-float", "nchw"],
)
def test_with_the_right_options_the_labels_are_right(shared: Path, name: str) -> None:
    folder = shared / "cases/models" / name
    if not folder.is_dir():
        pytest.skip("the field cases are not at hand")
    facts = json.loads((folder / "expected.json").read_text())
    mean, std = PREPARATIONS[facts["preparation"]]
    count, of = right(folder, ModelOptions(mean, std, "bgr" if facts["bgr"] else None))
    assert count >= 0.9 * of


@pytest.mark.parametrize("name", DECIDED_BY_THE_FILE)
def test_what_the_file_shows_needs_no_options(shared: Path, name: str) -> None:
    folder = shared / "cases/models" / name
    if not folder.is_dir():
        pytest.skip("the field cases are not at hand")
    assert load_bundle(folder / "model.tflite").preparation.decided_by == DECIDED_BY_THE_FILE[name]
    count, of = right(folder, NO_OPTIONS)
    assert count >= 0.9 * of
