from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_builder import LOGISTIC, SOFTMAX, Graph, Operator, Tensor, classifier, custom, pack

from edge_classifierd.errors import ModelError
from edge_classifierd.model.archive import Archive
from edge_classifierd.model.bundle import bundled_model_path, load_bundle
from edge_classifierd.model.tflite import operators as op
from edge_classifierd.model.tflite.embedding import find_embedding
from edge_classifierd.model.tflite.graph import read_graph
from edge_classifierd.model.tflite.head import Head, OtherKinds, cut, last_layer, own_scores, with_head
from edge_classifierd.model.tflite.metadata import Normalisation
from edge_classifierd.model.tflite.writer import About, write_model

if TYPE_CHECKING:
    from pathlib import Path

BUNDLED = bundled_model_path().read_bytes()


def run(model: bytes, tensor: np.ndarray) -> list[np.ndarray]:
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tensor)
    interpreter.invoke()
    return [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(-128, 128, (1, 14, 14, 3))
    return coarse.repeat(16, 1).repeat(16, 2).astype(np.int8)


def test_operator_names_and_numbers_are_those_of_the_schema() -> None:
    for name, number in vars(schema.BuiltinOperator).items():
        if name.isupper() and number < 160:
            assert op.operator_name(number) == name
            assert getattr(op, name, number) == number


def test_a_model_written_back_gives_the_same_scores(picture: np.ndarray) -> None:
    again = write_model(read_graph(BUNDLED))
    assert np.array_equal(run(again, picture)[0], run(BUNDLED, picture)[0])


def test_a_graph_is_the_same_after_writing_and_reading() -> None:
    graph = read_graph(BUNDLED)
    again = read_graph(write_model(graph))
    assert [(t.name, t.shape, t.type, bytes(t.data), t.quantisation) for t in again.tensors] == [
        (t.name, t.shape, t.type, bytes(t.data), t.quantisation) for t in graph.tensors
    ]
    assert [(o.code, o.version, o.inputs, o.outputs) for o in again.operators] == [
        (o.code, o.version, o.inputs, o.outputs) for o in graph.operators
    ]
    assert (again.inputs, again.outputs) == (graph.inputs, graph.outputs)


def test_operators_and_multiply_adds_of_the_bundled_model() -> None:
    graph = read_graph(BUNDLED)
    counts = graph.operator_counts()
    assert list(counts)[:2] == ["CONV_2D", "DEPTHWISE_CONV_2D"]
    assert sum(counts.values()) == len(graph.operators)
    # EfficientNet-Lite0 is published with 407 million; counting one per weight and position gives 385.
    assert 380_000_000 < (graph.multiply_adds() or 0) < 410_000_000


def test_a_compiled_model_hides_its_multiply_adds() -> None:
    assert read_graph(pack(custom("edgetpu-custom-op"))).multiply_adds() is None


def test_the_embedding_of_a_classifier_is_what_its_last_layer_reads() -> None:
    graph = read_graph(BUNDLED)
    embedding = find_embedding(graph, graph.outputs[0], labelled=True)
    assert embedding.features == 1280
    assert embedding.layer is not None
    assert embedding.layer.code == op.FULLY_CONNECTED
    assert embedding.pooled_from is not None
    assert graph.tensors[embedding.pooled_from].shape == (1, 7, 7, 1280)
    assert graph.tensors[embedding.detail_from].shape == (1, 14, 14, 672)


def test_an_extractor_is_its_own_embedding_and_a_bare_softmax_has_none() -> None:
    extractor = read_graph(pack(classifier(None)))
    embedding = find_embedding(extractor, extractor.outputs[0], labelled=False)
    assert (embedding.features, embedding.layer, embedding.pooled_from) == (3, None, None)
    for head in (SOFTMAX, LOGISTIC):
        bare = read_graph(pack(classifier(head)))
        with pytest.raises(ModelError, match="no layer that makes the scores"):
            find_embedding(bare, bare.outputs[0], labelled=False)


def test_a_classifier_compiled_to_its_end_cannot_be_taken_apart() -> None:
    graph = read_graph(pack(custom("edgetpu-custom-op")))
    with pytest.raises(ModelError, match="the compiled part reaches to its scores"):
        find_embedding(graph, graph.outputs[0], labelled=True)


@pytest.mark.parametrize("pooling", ["own", "mean", "detail"])
def test_a_head_computes_softmax_of_a_matrix_product(picture: np.ndarray, pooling: str) -> None:
    graph = read_graph(BUNDLED)
    embedding = find_embedding(graph, graph.outputs[0], labelled=True)
    area, detail = run(write_model(cut(graph, embedding)), picture)
    x = area[0].mean((0, 1))
    if pooling == "detail":
        starts = (0, 4, 8)  # three windows of 6 that cover 14
        x = np.concatenate([x, *(detail[0, y : y + 6, z : z + 6].mean((0, 1)) for y in starts for z in starts)])
    random = np.random.default_rng(1)
    weights = random.normal(0, 0.02, (4, len(x))).astype(np.float32)
    bias = random.normal(0, 1, 4).astype(np.float32)
    head = Head(weights, bias, pooling, square_root=True)  # type: ignore[arg-type]
    scores = run(write_model(with_head(graph, embedding, head)), picture)[0]
    logits = np.sqrt(x) @ weights.T + bias
    expected = np.exp(logits) / np.exp(logits).sum()
    assert scores.shape == (1, 4)
    # The model's own mean is rounded to 8 bits; those taken anew are not.
    assert np.abs(scores[0] - expected).max() < (0.05 if pooling == "own" else 1e-5)
    if pooling == "own":
        assert np.abs(scores[0] - expected).max() > 1e-5


def test_other_kinds_lower_a_logit_unless_the_classifier_recognises_the_given_ones(picture: np.ndarray) -> None:
    graph = read_graph(BUNDLED)
    embedding = find_embedding(graph, graph.outputs[0], labelled=True)
    scores = own_scores(graph, embedding)
    logits = run(write_model(cut(graph, embedding, scores)), picture)[-1][0]
    kinds = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    weights = np.zeros((3, 1000), np.float32)
    weights[0], weights[1, kinds.argmax()] = 0.2, 1 / kinds.max()
    strength = np.array([4, 4, 0], np.float32)
    x = run(write_model(cut(graph, embedding)), picture)[0][0].mean((0, 1))
    own = np.random.default_rng(1).normal(0, 0.02, (3, 1280)).astype(np.float32)
    head = Head(own, np.zeros(3, np.float32), "mean", other_kinds=OtherKinds(weights, strength))
    expected = own @ x - strength * np.maximum(1 - weights @ kinds, 0)
    assert expected[0] < (own @ x)[0] - 3
    assert expected[1] == pytest.approx((own @ x)[1], abs=1e-4)
    made = run(write_model(with_head(graph, embedding, head)), picture)[0][0]
    assert made == pytest.approx(np.exp(expected) / np.exp(expected).sum(), abs=1e-5)


def test_the_cut_drops_what_only_the_old_classes_needed() -> None:
    graph = read_graph(BUNDLED)
    embedding = find_embedding(graph, graph.outputs[0], labelled=True)
    head = Head(np.zeros((2, 1280), np.float32), np.zeros(2, np.float32), "mean")
    assert len(write_model(with_head(graph, embedding, head))) < len(BUNDLED) - 1_200_000


def test_a_classifiers_own_last_layer_as_a_float_head_ranks_as_before(picture: np.ndarray) -> None:
    graph = read_graph(BUNDLED)
    embedding = find_embedding(graph, graph.outputs[0], labelled=True)
    scores = run(write_model(with_head(graph, embedding, Head(*last_layer(graph, embedding), "mean"))), picture)[0]
    before = run(BUNDLED, picture)[0]
    assert scores.argmax() == before.argmax()
    assert np.abs(scores - before).max() < 0.02


def test_kept_classes_stand_first_and_see_the_plain_embedding(picture: np.ndarray) -> None:
    graph = read_graph(BUNDLED)
    embedding = find_embedding(graph, graph.outputs[0], labelled=True)
    kept, bias = last_layer(graph, embedding)
    far_below = Head(
        np.zeros((2, 1280), np.float32),
        np.full(2, -50, np.float32),
        "mean",
        square_root=True,
        unit_length=True,
        kept_weights=kept,
        kept_bias=bias,
    )
    scores = run(write_model(with_head(graph, embedding, far_below)), picture)[0]
    alone = run(write_model(with_head(graph, embedding, Head(kept, bias, "mean"))), picture)[0]
    assert scores.shape == (1, 1002)
    assert np.abs(scores[:, :1000] - alone).max() < 1e-6


def test_a_written_model_is_a_bundle_with_labels_and_normalisation(tmp_path: Path) -> None:
    graph = read_graph(BUNDLED)
    embedding = find_embedding(graph, graph.outputs[0], labelled=True)
    head = Head(np.zeros((2, 1280), np.float32), np.zeros(2, np.float32), "mean")
    about = About("garden", "two birds", ("Amsel, Männchen", "tit"), Normalisation((127.0,), (128.0,)), "Apache-2.0")
    path = tmp_path / "garden.tflite"
    path.write_bytes(write_model(with_head(graph, embedding, head), about))
    bundle = load_bundle(path)
    assert bundle.labels.names == ("Amsel, Männchen", "tit")
    assert bundle.normalisation == load_bundle(bundled_model_path()).normalisation
    assert bundle.output_kind == "softmax"
    assert (bundle.metadata.name, bundle.metadata.description) == ("garden", "two birds")
    assert bundle.metadata.licence == "Apache-2.0"
    assert Archive(path.read_bytes()).names == ("labels.txt",)
    assert path.read_bytes() == write_model(with_head(graph, embedding, head), about)


def test_a_compiled_extractor_keeps_its_custom_operator_and_its_settings(shared: Path) -> None:
    name = "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    graph = read_graph((shared / "data/coral" / name).read_bytes())
    embedding = find_embedding(graph, graph.outputs[0], labelled=False)
    head = Head(np.zeros((5, 1024), np.float32), np.zeros(5, np.float32))
    again = read_graph(write_model(with_head(graph, embedding, head)))
    assert list(again.operator_counts()) == ["DEQUANTIZE", "FULLY_CONNECTED", "SOFTMAX", "edgetpu-custom-op"]
    assert bytes(again.operators[0].custom_options) == bytes(graph.operators[0].custom_options)


def test_weights_kept_behind_the_flatbuffer_come_inside() -> None:
    values = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    inside = Graph(
        [Tensor((1, 1, 1, 3)), Tensor((2, 3), data=values), Tensor((2,), data=np.zeros(2, np.float32)), Tensor((1, 2))],
        [Operator(op.FULLY_CONNECTED, [0, 1, 2], [3])],
    )
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(pack(inside), 0))
    outer = next(buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) == values.nbytes)

    def packed(offset: int) -> bytes:
        outer.data, outer.offset, outer.size = None, offset, values.nbytes
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    start = -(-len(packed(1 << 20)) // 16) * 16
    outside = packed(start).ljust(start, b"\0") + values.tobytes()
    tensor = np.array([[[[1, 0, 2]]]], np.float32)
    assert run(write_model(read_graph(outside)), tensor)[0].tolist() == [[7, 16]]


@settings(max_examples=150)
@given(st.integers(0, 4000), st.integers(1, 255))
def test_a_damaged_file_is_read_or_refused_but_never_crashes(position: int, flip: int) -> None:
    damaged = bytearray(pack(classifier(SOFTMAX, "int8", 0.1, dequantised=True)))
    damaged[position % len(damaged)] ^= flip
    with contextlib.suppress(ModelError):
        graph = read_graph(bytes(damaged))
        graph.multiply_adds()
        for output in graph.outputs:
            find_embedding(graph, output, labelled=False)


def test_operators_that_feed_one_another_are_refused_instead_of_followed_for_ever() -> None:
    circle = Graph(
        [Tensor((1, 3)), Tensor((1, 3)), Tensor((1, 3))],
        [Operator(SOFTMAX, [1], [2]), Operator(SOFTMAX, [2], [1])],
    )
    graph = read_graph(pack(circle))
    with pytest.raises(ModelError, match="not in order"):
        find_embedding(graph, 2, labelled=False)
