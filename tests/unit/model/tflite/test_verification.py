"""A model that refers to what is not there is refused, since a runtime would follow the reference out of the file."""

from __future__ import annotations

import numpy as np
import pytest
import tflite_builder as tflite

from edge_classifierd.errors import ModelError
from edge_classifierd.model.tflite.signature import read_signature


def _graph() -> tflite.Graph:
    graph = tflite.classifier(tflite.SOFTMAX)
    graph.tensors.append(tflite.Tensor((2, 3), data=np.zeros((2, 3), np.float32)))
    graph.outputs = [3]
    return graph


def test_graph_whose_references_fit_is_read() -> None:
    assert read_signature(tflite.pack(_graph())).outputs[0].classes == 3


def test_optional_input_that_is_left_out_is_no_missing_tensor() -> None:
    graph = _graph()
    graph.operators[0].inputs.append(-1)
    assert read_signature(tflite.pack(graph)).outputs[0].classes == 3


@pytest.mark.parametrize("index", [5, -2, 2**31 - 1])
def test_operator_on_a_tensor_that_is_not_there_is_refused(index: int) -> None:
    for used in ("inputs", "outputs"):
        graph = _graph()
        getattr(graph.operators[1], used).append(index)
        with pytest.raises(ModelError, match="refers to a tensor that is not there"):
            read_signature(tflite.pack(graph))


def test_more_weights_claimed_than_stored_are_refused() -> None:
    graph = _graph()
    graph.tensors[-1].shape = (2, 4)
    with pytest.raises(ModelError, match="fewer weights than its shape needs"):
        read_signature(tflite.pack(graph))


def test_tensor_that_no_device_could_hold_is_refused() -> None:
    graph = _graph()
    graph.tensors.append(tflite.Tensor((50_000, 50_000)))
    with pytest.raises(ModelError, match="would take more than 512 MB"):
        read_signature(tflite.pack(graph))


def test_tensor_without_its_buffer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tflite._tensor

    def elsewhere(model: object, tensor: tflite.Tensor) -> object:
        result = made(model, tensor)
        result.buffer += 40
        return result

    monkeypatch.setattr(tflite, "_tensor", elsewhere)
    with pytest.raises(ModelError, match="weights are missing"):
        read_signature(tflite.pack(_graph()))


def test_weights_behind_the_end_of_the_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tflite.schema.BufferT

    def outside() -> object:
        buffer = made()
        buffer.offset, buffer.size = 64, 1 << 40
        return buffer

    monkeypatch.setattr(tflite.schema, "BufferT", outside)
    with pytest.raises(ModelError, match="weights lie behind the file's end"):
        read_signature(tflite.pack(_graph()))


def test_operator_without_a_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tflite.schema.OperatorT

    class Coded(made):  # type: ignore[misc, valid-type]
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, 17 if name == "opcodeIndex" else value)

    monkeypatch.setattr(tflite.schema, "OperatorT", Coded)
    with pytest.raises(ModelError, match="an operator has no code"):
        read_signature(tflite.pack(_graph()))


def test_an_operators_scratch_tensor_must_be_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tflite.schema.OperatorT

    class Scratching(made):  # type: ignore[misc, valid-type]
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, [99] if name == "intermediates" else value)

    monkeypatch.setattr(tflite.schema, "OperatorT", Scratching)
    with pytest.raises(ModelError, match="refers to a tensor that is not there"):
        read_signature(tflite.pack(_graph()))
