"""Whole model files, real and made here: what is read, and the sentence for each that cannot be used."""

from __future__ import annotations

import os
import random
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tflite_builder as tflite
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.errors import ModelError
from edge_classifierd.model.bundle import BUNDLED_MODELS, bundled_model_path, is_bundled, load_bundle, model_title
from edge_classifierd.model.tflite.metadata import Normalisation

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.model.bundle import BundledName

COLOURS = b"red\ngreen\nblue\n"


def write(folder: Path, content: bytes, name: str = "model.tflite") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def colours(**tensor: object) -> bytes:
    return tflite.pack(tflite.classifier(tflite.SOFTMAX, **tensor), files={"labels.txt": COLOURS})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bundled", "name", "side"),
    [("fast", "efficientnet_lite0_int8", 224), ("accurate", "efficientnet_lite2_int8", 260)],
)
def test_bundled_models_are_complete_and_quantise_by_one_bit_flip(bundled: BundledName, name: str, side: int) -> None:
    path = bundled_model_path(bundled)
    bundle = load_bundle(path)
    assert is_bundled(path)
    assert bundle.name == name
    assert bundle.metadata.name == name
    assert bundle.input.shape == (1, side, side, 3)
    assert (bundle.input.dtype, bundle.input.scale, bundle.input.zero_point) == ("int8", 1 / 128, -1)
    assert bundle.normalisation == Normalisation((127.0,), (128.0,))
    assert bundle.output_kind == "softmax"
    assert len(bundle.labels) == 1000
    assert "Apache" in (bundle.metadata.licence or "")
    assert not bundle.edgetpu_compiled


def test_bundled_models_have_the_same_labels_and_another_name_in_messages() -> None:
    fast, accurate = (load_bundle(bundled_model_path(name)) for name in BUNDLED_MODELS)
    assert fast.labels == accurate.labels
    assert (model_title(fast.path), model_title(accurate.path)) == ("the bundled model", "the accurate bundled model")


@pytest.mark.parametrize(
    ("name", "side", "classes", "background"),
    [
        ("mobilenet_v1_0.25_128_quant", 128, 1001, 0),
        ("mobilenet_v1_0.75_192_quant_edgetpu", 192, 1001, 0),
        ("mobilenet_v2_1.0_224_quant", 224, 1001, 0),
        ("mobilenet_v2_1.0_224_inat_bird_quant", 224, 965, 964),
    ],
)
def test_coral_models_take_the_pixel_itself(shared: Path, name: str, side: int, classes: int, background: int) -> None:
    bundle = load_bundle(shared / "data/coral" / f"{name}.tflite")
    assert bundle.input.shape == (1, side, side, 3)
    assert bundle.normalisation == Normalisation((128.0,), (128.0,))
    assert (len(bundle.labels), bundle.labels.background) == (classes, background)
    assert bundle.output_kind == "softmax"
    assert bundle.edgetpu_compiled == name.endswith("_edgetpu")


def test_model_without_labels_names_the_remedy(shared: Path) -> None:
    with pytest.raises(ModelError, match=r"its 1,024 outputs, and `imagenet_labels.txt` beside it holds 1,001; set"):
        load_bundle(shared / "data/coral/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite")


def test_model_that_is_no_picture_classifier_is_refused(shared: Path) -> None:
    with pytest.raises(ModelError, match=r"takes 3 numbers, shape \(1, 3\), as models for sound"):
        load_bundle(shared / "data/coral/model_invoking_error.tflite")


def test_sha256_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    import hashlib

    content = colours()
    bundle = load_bundle(write(tmp_path, content))
    assert (bundle.sha256, bundle.size) == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize(
    ("graph", "kind"),
    [
        (tflite.classifier(tflite.SOFTMAX), "softmax"),
        (tflite.classifier(tflite.SOFTMAX, "int8", 1 / 128, -1, dequantised=True), "softmax"),
        (tflite.classifier(tflite.LOGISTIC), "multi_label"),
        (tflite.classifier(tflite.LOGISTIC, "uint8", 1 / 128, 128), "multi_label"),
        (tflite.classifier(tflite.LOG_SOFTMAX), "logits"),
        (tflite.classifier(None), "logits"),
        (tflite.classifier(None, "uint8", 0.1, 100, dequantised=True), "logits"),
        (tflite.classifier(None, "uint8", 1 / 256, 0), "softmax"),
        (tflite.classifier(None, "int8", 1 / 128, 0), "logits"),  # from -1 to 1, as a tanh
    ],
)
def test_meaning_of_scores_is_traced_to_their_operator(tmp_path: Path, graph: tflite.Graph, kind: str) -> None:
    bundle = load_bundle(write(tmp_path, tflite.pack(graph, files={"labels.txt": COLOURS})))
    assert bundle.output_kind == kind


@pytest.mark.parametrize(
    ("scale", "zero_point", "kind"), [(1 / 256, 0, "softmax"), (0.1, 77, "logits"), (0.1, 0, "logits")]
)
def test_a_compiled_model_is_recognised_and_its_quantisation_shows_the_kind_of_scores(
    tmp_path: Path, scale: float, zero_point: int, kind: str
) -> None:
    graph = tflite.custom("edgetpu-custom-op")
    graph.tensors[-1].scale, graph.tensors[-1].zero_point = scale, zero_point
    bundle = load_bundle(write(tmp_path, tflite.pack(graph, files={"labels.txt": COLOURS})))
    assert bundle.edgetpu_compiled
    assert bundle.output_kind == kind


def test_metadata_has_origin_labels_and_display_names_by_locale(tmp_path: Path) -> None:
    described = tflite.metadata(label_files=(("de.txt", "de"), ("names.txt", ""), ("pt.txt", "pt-BR")))
    files = {"de.txt": "Rot\nGrün\nBlau\n".encode(), "names.txt": COLOURS, "pt.txt": b"vermelho\nverde\nazul"}
    path = write(tmp_path, tflite.pack(tflite.classifier(tflite.SOFTMAX), described, files))
    plain = load_bundle(path)
    assert plain.labels.names == plain.labels.display == ("red", "green", "blue")
    assert (plain.metadata.name, plain.metadata.licence) == ("Test model", "Apache-2.0")
    german = load_bundle(path, locale="de_AT.UTF-8").labels
    assert (german.names, german.display) == (("red", "green", "blue"), ("Rot", "Grün", "Blau"))
    assert load_bundle(path, locale="pt_BR").labels.display[0] == "vermelho"
    assert load_bundle(path, locale="fi").labels.display[0] == "red"


def test_locale_file_with_too_few_labels_is_refused(tmp_path: Path) -> None:
    described = tflite.metadata(label_files=(("names.txt", ""), ("de.txt", "de")))
    files = {"names.txt": COLOURS, "de.txt": b"Rot\n"}
    path = write(tmp_path, tflite.pack(tflite.classifier(tflite.SOFTMAX), described, files))
    with pytest.raises(ModelError, match=r"has 3 outputs but its own `de.txt` holds 1 label;"):
        load_bundle(path, locale="de")


def test_label_file_that_metadata_names_must_be_there(tmp_path: Path) -> None:
    described = tflite.metadata(label_files=(("names.txt", ""),))
    path = write(tmp_path, tflite.pack(tflite.classifier(tflite.SOFTMAX), described, {"other.txt": COLOURS}))
    with pytest.raises(ModelError, match=r"`names.txt` in its metadata that is not there; set"):
        load_bundle(path)


def test_given_labels_win_over_those_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, colours())
    labels = write(tmp_path, b"x\ny\nz\n", "mine.txt")
    assert load_bundle(path, labels).labels.names == ("x", "y", "z")


def test_labels_beside_the_model_are_found(tmp_path: Path) -> None:
    path = write(tmp_path, tflite.pack(tflite.classifier(tflite.SOFTMAX)))
    with pytest.raises(ModelError, match="carries no labels"):
        load_bundle(path)
    write(tmp_path, COLOURS, "model.txt")
    assert load_bundle(path).labels.names == ("red", "green", "blue")


def test_wrong_label_count_names_both_counts_the_file_and_the_remedy(tmp_path: Path) -> None:
    labels = write(tmp_path, b"one\ntwo\n", "two.txt")
    with pytest.raises(ModelError) as caught:
        load_bundle(write(tmp_path, colours()), labels)
    for part in ("model.tflite", "3 outputs", "two.txt", "2 labels", "model.labels"):
        assert part in str(caught.value)


def test_several_text_files_without_metadata_are_ambiguous(tmp_path: Path) -> None:
    graph = tflite.classifier(tflite.SOFTMAX)
    path = write(tmp_path, tflite.pack(graph, files={"a.txt": COLOURS, "b.txt": COLOURS}))
    with pytest.raises(ModelError, match="does not say which holds its labels"):
        load_bundle(path)
    path = write(tmp_path, tflite.pack(graph, files={"LICENSE.txt": b"free", "labels.txt": COLOURS}))
    assert load_bundle(path).labels.names[0] == "red"


def test_second_output_is_chosen_when_only_it_holds_scores(tmp_path: Path) -> None:
    graph = tflite.classifier(tflite.SOFTMAX)
    graph.tensors.append(tflite.Tensor((1, 7, 7, 5)))
    graph.outputs = [4, 3]
    bundle = load_bundle(write(tmp_path, tflite.pack(graph, files={"labels.txt": COLOURS})))
    assert (bundle.output_position, bundle.output.shape) == (1, (1, 3))


def test_dynamic_batch_counts_as_one(tmp_path: Path) -> None:
    graph = tflite.classifier(tflite.SOFTMAX)
    graph.tensors[0].signature = (-1, 1, 1, 3)
    graph.tensors[3].shape = (-1, 3)
    bundle = load_bundle(write(tmp_path, tflite.pack(graph, files={"labels.txt": COLOURS})))
    assert (bundle.input.shape, bundle.output.shape) == ((1, 1, 1, 3), (1, 3))


def _two_inputs(graph: tflite.Graph) -> None:
    graph.inputs = [0, 1]


def _shape(*shape: int) -> object:
    def change(graph: tflite.Graph) -> None:
        graph.tensors[0].shape = shape

    return change


def _open_size(graph: tflite.Graph) -> None:
    graph.tensors[0].signature = (1, -1, -1, 3)


def _input_type(graph: tflite.Graph) -> None:
    graph.tensors[0].dtype = "int32"


def _output_type(graph: tflite.Graph) -> None:
    graph.tensors[-1].dtype = "int64"


def _no_output_scale(graph: tflite.Graph) -> None:
    graph.tensors[-1].dtype = "uint8"


def _zero_scale(graph: tflite.Graph) -> None:
    graph.tensors[0].dtype, graph.tensors[0].scale = "uint8", 0.0


def _detection(graph: tflite.Graph) -> None:
    graph.operators.append(tflite.Operator(tflite.CUSTOM, [0], [3], "TFLite_Detection_PostProcess"))


def _two_scores(graph: tflite.Graph) -> None:
    graph.tensors.append(tflite.Tensor((1, 3), name="twin"))
    graph.operators.append(tflite.Operator(tflite.SOFTMAX, [2], [4]))
    graph.outputs = [3, 4]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_two_inputs, "has 2 inputs"),
        (_shape(1, 9, 9, 4), r"wants an input of shape \(1, 9, 9, 4\)"),
        (_shape(1, 49, 10, 1), "takes maps of 10x49, as audio models do"),
        (_shape(1, 5000, 1, 3), "pictures of 1x5000 pixels"),
        (_shape(1, 0, 1, 3), "leaves the picture's size open"),
        (_open_size, "leaves the picture's size open"),
        (_input_type, "an input of int32"),
        (_output_type, "an output of int64"),
        (_no_output_scale, "0 quantisation scales"),
        (_zero_scale, "impossible quantisation"),
        (_detection, "an object-detection model"),
        (_two_scores, r"has several outputs of 3 scores; set `model.output` .* to 0 \(`scores`, 3 scores\) or 1 "),
    ],
)
def test_unusable_graph_is_refused_in_one_sentence(tmp_path: Path, change: object, sentence: str) -> None:
    graph = tflite.classifier(tflite.SOFTMAX)
    change(graph)  # type: ignore[operator]
    path = write(tmp_path, tflite.pack(graph, files={"labels.txt": COLOURS}))
    with pytest.raises(ModelError, match=sentence) as caught:
        load_bundle(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a TensorFlow Lite model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a TensorFlow Lite model"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(100), "is cut short or damaged"),
        (b"<html>404</html>", "is a web page, not the model; download the file itself"),
    ],
)
def test_other_files_are_refused_by_what_they_are(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_bundle(write(tmp_path, content))


def test_missing_file_folder_pipe_and_loop_do_not_block_or_raise_anything_else(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused = {"none": "no such file", "": "is not a file", "pipe": "is not a file", "loop": "cannot be read"}
    for name, sentence in refused.items():
        with pytest.raises(ModelError, match=sentence):
            load_bundle(tmp_path / name)
    with pytest.raises(ModelError, match="labels: no such file; give a label file"):
        load_bundle(write(tmp_path, colours()), tmp_path / "labels")


def test_file_larger_than_any_classifier_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.tflite"
    with path.open("wb") as file:
        file.truncate(10_000_000_000)
    with pytest.raises(ModelError, match="is 10,000 MB"):
        load_bundle(path)


def test_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path, tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"labels.txt": bytes(100_000_000)}))
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("labels.txt").compress_size < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match="more than 16 MB"):
            load_bundle(path)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def whole() -> bytes:
    weights = np.arange(12, dtype=np.float32)
    graph = tflite.classifier(tflite.SOFTMAX, "int8", 1 / 128, -1, dequantised=True)
    graph.tensors.append(tflite.Tensor((12,), data=weights))
    graph.outputs = [4]
    described = tflite.metadata(mean=(127.0,), std=(128.0,), label_files=(("labels.txt", ""), ("de.txt", "de")))
    return tflite.pack(graph, described, {"labels.txt": COLOURS, "de.txt": b"Rot\nBlau\nLila"})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@given(data=st.data())
def test_damaged_file_gives_a_bundle_or_one_sentence(whole: bytes, scratch: Path, data: st.DataObject) -> None:
    content = bytearray(whole)
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[position] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    path = write(scratch, bytes(content[:cut]), f"damaged{random.getrandbits(40)}.tflite")
    try:
        load_bundle(path, locale="de")
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a bundle is as right as this error
    finally:
        path.unlink()


def test_every_truncation_is_a_sentence_until_the_end(whole: bytes, tmp_path: Path) -> None:
    for length in range(0, len(whole), 7):
        with pytest.raises(ModelError):
            load_bundle(write(tmp_path, whole[:length]))
    assert load_bundle(write(tmp_path, whole)).labels.names == ("red", "green", "blue")


def test_where_every_label_file_has_a_language_the_english_one_names_the_labels(tmp_path: Path) -> None:
    described = tflite.metadata(label_files=(("de.txt", "de"), ("en.txt", "en")))
    files = {"de.txt": "Rot\nGrün\nBlau\n".encode(), "en.txt": COLOURS}
    path = write(tmp_path, tflite.pack(tflite.classifier(tflite.SOFTMAX), described, files))
    labels = load_bundle(path, locale="de").labels
    assert (labels.names, labels.display) == (("red", "green", "blue"), ("Rot", "Grün", "Blau"))


def test_a_name_that_the_runtimes_cannot_take_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    path = write(folder, tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"labels.txt": COLOURS}))
    labels = write(folder, COLOURS, "labels.txt")
    with pytest.raises(ModelError, match=r"d\\xff/model.tflite: has a name that is not UTF-8; rename") as caught:
        load_bundle(path)
    assert str(caught.value).isascii()
    ordinary = write(tmp_path, path.read_bytes(), "Küche.tflite")
    assert load_bundle(ordinary, labels).labels.names == ("red", "green", "blue")
