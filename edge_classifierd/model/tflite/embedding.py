"""Finds the embedding of a graph: the features of the picture, before the layer that computes the classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import ModelError
from edge_classifierd.model.tflite import operators as op

if TYPE_CHECKING:
    from edge_classifierd.model.tflite.graph import Graph, Operator

_HEADS: Final = frozenset({op.SOFTMAX, op.LOGISTIC, op.LOG_SOFTMAX})
_RESHAPING: Final = frozenset({op.RESHAPE, op.SQUEEZE, op.EXPAND_DIMS, op.QUANTIZE, op.DEQUANTIZE})


@dataclass(frozen=True, slots=True)
class Embedding:
    """The tensor with the features of the picture, before the layer that computes the classes."""

    tensor: int
    features: int
    layer: Operator | None
    """The classifier's last layer, which reads the tensor; None for an extractor."""
    pooled_from: int | None
    """The tensor (1, height, width, features) of which the embedding is the mean; None where it is no mean."""
    detail_from: int
    """The last tensor before `pooled_from` of twice its side; else the same tensor."""


def find_embedding(graph: Graph, output: int, *, labelled: bool) -> Embedding:
    """Return the embedding from which the tensor `output` is computed.

    The output is followed back through softmax and reshaping to the layer that makes one score per class (a matrix
    product, or a 1×1 convolution of a single position); its input is the embedding. An extractor, recognised by having
    neither softmax nor labels (`labelled`), is its own embedding. Raises ModelError when there is no such tensor.
    """
    producers = _producers(graph)
    trail, scored = output, labelled
    while (operator := producers.get(trail)) is not None and operator.code in _HEADS | _RESHAPING:
        scored = scored or operator.code in _HEADS
        trail = operator.inputs[0]
    if not scored:
        return _embedding(graph, output, None, producers)
    if operator is None or not _is_last_layer(graph, operator):
        compiled = operator is not None and operator.code == op.CUSTOM
        reason = "the compiled part reaches to its scores" if compiled else "no layer that makes the scores is found"
        raise ModelError(f"cannot be taken apart: {reason}; give an embedding extractor or another classifier")
    return _embedding(graph, operator.inputs[0], operator, producers)


def _producers(graph: Graph) -> dict[int, Operator]:
    """What makes each tensor. Raises ModelError where operators are out of order: following them would never end."""
    producers: dict[int, Operator] = {}
    for operator in graph.operators:
        if not operator.inputs or any(made in producers for made in operator.outputs):
            raise ModelError("is damaged: its operators are not in order; copy or download it again")
        producers.update(dict.fromkeys(operator.outputs, operator))
    later = set(producers)
    for operator in graph.operators:
        if later & set(operator.inputs):
            raise ModelError("is damaged: its operators are not in order; copy or download it again")
        later -= set(operator.outputs)
    return producers


def _embedding(graph: Graph, tensor: int, layer: Operator | None, producers: dict[int, Operator]) -> Embedding:
    shape = graph.tensors[tensor].shape
    features = math.prod(shape)
    if max(shape, default=0) != features or features < 2:
        raise ModelError(f"gives no embedding of shape (1, features) but {shape}; give an embedding extractor")
    trail = tensor
    while (operator := producers.get(trail)) is not None and operator.code in _RESHAPING - {op.QUANTIZE, op.DEQUANTIZE}:
        trail = operator.inputs[0]
    if operator is None or not _pools_everything(graph, operator):
        return Embedding(tensor, features, layer, None, tensor)
    pooled = operator.inputs[0]
    return Embedding(tensor, features, layer, pooled, _detail(graph, pooled, producers))


def _detail(graph: Graph, pooled: int, producers: dict[int, Operator]) -> int:
    """Return the last tensor on the way to `pooled` whose map has twice the side."""
    side = graph.tensors[pooled].shape[1]
    trail = pooled
    while (operator := producers.get(trail)) is not None and operator.inputs:
        trail = operator.inputs[0]
        shape = graph.tensors[trail].shape
        if len(shape) == 4 and shape[1] >= 2 * side - 1:
            return trail if trail in producers else pooled
    return pooled


def _pools_everything(graph: Graph, operator: Operator) -> bool:
    """Return whether it is the mean of one tensor (1, height, width, features) over both sides, each 3 or more."""
    if operator.code not in {op.AVERAGE_POOL_2D, op.MEAN}:
        return False
    source, made = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    if len(source.shape) != 4 or source.shape[0] != 1 or min(source.shape[1:3]) < 3 or not made.shape:
        return False
    return math.prod(made.shape) == source.shape[3] == made.shape[-1]


def _is_last_layer(graph: Graph, operator: Operator) -> bool:
    if operator.code not in {op.FULLY_CONNECTED, op.CONV_2D} or len(operator.inputs) < 2:
        return False
    source, weights = graph.tensors[operator.inputs[0]], graph.tensors[operator.inputs[1]]
    if len(weights.shape) < 2:
        return False
    features = math.prod(source.shape)
    return bool(weights.data) and weights.shape[-1] == features and math.prod(weights.shape[1:]) == features
