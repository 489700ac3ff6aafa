"""Finding a model's preprocessing from pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tflite_builder as tflite
from PIL import Image

from edge_classifierd.errors import UsageError
from edge_classifierd.learning.probe import probe
from edge_classifierd.model.bundle import load_bundle

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {"red": (230, 30, 30), "green": (30, 230, 30), "blue": (30, 30, 230)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A float model of one pixel whose channels are the logits of three colours, times 6: made for [0, 1] in BGR."""
    graph = tflite.classifier(tflite.SOFTMAX)
    graph.tensors[2:3] = [
        tflite.Tensor((1, 3)),
        tflite.Tensor((1,), data=np.array([6.0], np.float32)),
        tflite.Tensor((1, 3)),
    ]
    graph.operators = [
        tflite.Operator(tflite.RESHAPE, [0, 1], [2]),
        tflite.Operator(tflite.MUL, [2, 3], [4]),
        tflite.Operator(tflite.SOFTMAX, [4], [5]),
    ]
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.pack(graph, files={"labels.txt": b"blue\ngreen\nred\n"}))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    for name, colour in COLOURS.items():
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(12):
            noisy = np.clip(random.normal(colour, 20), 0, 255).astype(np.uint8)
            Image.new("RGB", (8, 8), tuple(noisy.tolist())).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def test_labelled_pictures_decide_the_order_of_the_channels(model: Path, pictures: Path) -> None:
    result = probe(load_bundle(model), [pictures], lambda _done, _of: None)
    best = result.candidates[0]
    assert (result.labelled, result.pictures) == (True, 36)
    assert best.normalisation.channels == "bgr"
    assert best.accuracy == 1.0
    assert next(one for one in result.candidates if one.name == "[0, 1], RGB").accuracy < 0.5


def test_few_pictures_decide_nothing(model: Path, pictures: Path) -> None:
    files = sorted((pictures / "red").iterdir())[:5]
    result = probe(load_bundle(model), files, lambda _done, _of: None)
    assert not result.labelled
    assert not result.decided
    assert "5 pictures are too few" in result.sentence


def test_pictures_without_labels_are_scored_by_what_the_scores_tell(model: Path, pictures: Path) -> None:
    files = sorted(pictures.rglob("*.png"))
    result = probe(load_bundle(model), files, lambda _done, _of: None)
    assert result.candidates[0].accuracy is None
    assert result.candidates[0].labels == 3
    assert not result.decided, "RGB and BGR name the three colours alike here, and so do several ranges"


def test_a_quantised_input_leaves_only_the_order_open(tmp_path: Path, pictures: Path) -> None:
    path = tmp_path / "quantised.tflite"
    data = tflite.pack(
        tflite.classifier(tflite.SOFTMAX, "uint8", 1 / 16, 0), files={"labels.txt": b"red\ngreen\nblue\n"}
    )
    path.write_bytes(data)
    result = probe(load_bundle(path), [pictures], lambda _done, _of: None)
    assert [one.normalisation.channels for one in result.candidates] == ["rgb", "bgr"]
    assert result.decided
    assert result.candidates[0].accuracy == 1.0


def test_a_folder_without_pictures_is_one_sentence(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no pictures"):
        probe(load_bundle(model), [tmp_path / "empty"], lambda _done, _of: None)
