"""The arithmetic between a graph's input and its first layer."""

from __future__ import annotations

import numpy as np
import pytest
import tflite_builder as tflite

from edge_classifierd.model.tflite.graph import read_graph
from edge_classifierd.model.tflite.leading_arithmetic import GraphHead, read_graph_head

FULLY_CONNECTED, TRANSPOSE, DIV = 9, 39, 42


def head_of(*steps: tuple[int, list[float], bool]) -> GraphHead:
    """The head of a graph that applies (operator, constants, input first) one after the other, then one layer."""
    tensors = [tflite.Tensor((1, 1, 1, 3), name="image")]
    operators = []
    for code, constants, first in steps:
        tensors.append(tflite.Tensor((len(constants),), data=np.array(constants, np.float32)))
        tensors.append(tflite.Tensor((1, 1, 1, 3)))
        last = 0 if not operators else operators[-1].outputs[0]
        constant, made = len(tensors) - 2, len(tensors) - 1
        operators.append(tflite.Operator(code, [last, constant] if first else [constant, last], [made]))
    tensors.append(tflite.Tensor((2, 3), data=np.full((2, 3), 0.5, np.float32)))
    tensors.append(tflite.Tensor((1, 2)))
    last = operators[-1].outputs[0] if operators else 0
    operators.append(tflite.Operator(FULLY_CONNECTED, [last, len(tensors) - 2], [len(tensors) - 1]))
    return read_graph_head(read_graph(tflite.pack(tflite.Graph(tensors, operators))))


@pytest.mark.parametrize(
    ("steps", "scale", "offset"),
    [
        ([(tflite.MUL, [0.5], True), (tflite.ADD, [0.25], True)], [0.5], [0.25]),
        ([(tflite.SUB, [1.0, 2.0, 3.0], True), (DIV, [2.0], True)], [0.5], [-0.5, -1.0, -1.5]),
        ([(tflite.SUB, [255.0], False)], [-1.0], [255.0]),
        ([(tflite.MUL, [2.0], False), (tflite.MUL, [1.0, 2.0, 3.0], True)], [2.0, 4.0, 6.0], [0.0]),
    ],
)
def test_arithmetic_by_constants_is_composed(
    steps: list[tuple[int, list[float], bool]], scale: list[float], offset: list[float]
) -> None:
    head = head_of(*steps)
    assert head.arithmetic
    np.testing.assert_allclose(np.broadcast_to(head.scale, 3), np.broadcast_to(scale, 3))
    np.testing.assert_allclose(np.broadcast_to(head.offset, 3), np.broadcast_to(offset, 3))
    assert head.filter_norm == pytest.approx(0.75**0.5 * np.abs(head.scale).mean())


def test_a_graph_without_arithmetic_has_the_norm_of_its_first_layer() -> None:
    head = head_of()
    assert not head.arithmetic
    assert head.filter_norm == pytest.approx(0.75**0.5)
    assert head.output_range(-1, 1) == (-1, 1)


def test_constants_that_give_no_number_are_ignored() -> None:
    assert not head_of((DIV, [0.0], True)).arithmetic


def test_the_range_after_a_negative_scale_is_in_order() -> None:
    assert head_of((tflite.SUB, [255.0], False)).output_range(0, 255) == (0.0, 255.0)


def test_a_float_input_that_is_quantised_first_has_a_range() -> None:
    tensors = [
        tflite.Tensor((1, 1, 1, 3), name="image"),
        tflite.Tensor((1, 1, 1, 3), "int8", 1 / 127.5, -1),
        tflite.Tensor((1, 3), "int8", 1 / 127.5, -1),
    ]
    operators = [tflite.Operator(tflite.QUANTIZE, [0], [1]), tflite.Operator(tflite.RESHAPE, [1], [2])]
    head = read_graph_head(read_graph(tflite.pack(tflite.Graph(tensors, operators))))
    assert head.quantised_range == pytest.approx((-127 / 127.5, 128 / 127.5))
