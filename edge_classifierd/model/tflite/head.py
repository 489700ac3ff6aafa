"""Replaces a model's last layer: cuts the graph at its embedding and appends a float head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge_classifierd.errors import ModelError
from edge_classifierd.model.tflite import operators as op
from edge_classifierd.model.tflite.graph import (
    FLOAT32,
    INT8,
    INT32,
    UINT8,
    Graph,
    Operator,
    OperatorOptions,
    Tensor,
    real_values,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.model.tflite.embedding import Embedding

# Numbers in the union BuiltinOptions.
_FULLY_CONNECTED_OPTIONS, _SOFTMAX_OPTIONS, _L2_NORM_OPTIONS, _REDUCER_OPTIONS, _DEQUANTIZE_OPTIONS = 8, 9, 12, 27, 38
_POOL_2D_OPTIONS, _VALID, _CONCATENATION_OPTIONS = 5, 1, 10
_RELU: Final = bytes([1])  # in the enumeration ActivationFunctionType


Pooling = Literal["own", "mean", "detail"]
"""How the embedding is computed.

`own`: the model's own tensor. `mean`: the mean of the map (1, height, width, channels) in floats, because a quantised
mean has only the steps of the map. `detail`: that mean, and the means of 3 × 3 overlapping parts of the last map of
twice the side, which contain shape and position.
"""
PARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Head:
    """A softmax layer over embeddings: probabilities = softmax(weights · embedding + bias)."""

    weights: NDArray[np.float32]
    """Shape (classes, features)."""
    bias: NDArray[np.float32]
    """Shape (classes,)."""
    pooling: Pooling = "own"
    square_root: bool = False
    """Whether the head gets the square root of the (never negative) embedding."""
    unit_length: bool = False
    """Whether embeddings are then scaled to length 1."""
    kept_weights: NDArray[np.float32] | None = None
    """Weights of classes placed first, for the embedding without root and scaling; shape (kept classes, features)."""
    kept_bias: NDArray[np.float32] | None = None
    other_kinds: OtherKinds | None = None


@dataclass(frozen=True, slots=True)
class OtherKinds:
    """Lowers the logits of classes for pictures in which the original classifier recognises other kinds of objects.

    logits -= strength · max(0, 1 - weights · softmax(logits of the original classifier)). It is written as two more
    layers; the original classifier's last layer stays in the file.
    """

    weights: NDArray[np.float32]
    """Shape (classes, classes of the original classifier)."""
    strength: NDArray[np.float32]
    """Shape (classes,); 0 for a class whose logit is never lowered."""


def own_scores(graph: Graph, embedding: Embedding) -> int | None:
    """Return the tensor with the original classifier's logits; None for an extractor or an unusual type."""
    if embedding.layer is None:
        return None
    made = graph.tensors[embedding.layer.outputs[0]]
    usable = made.type == FLOAT32 or (made.type in {UINT8, INT8} and made.quantisation is not None)
    return embedding.layer.outputs[0] if usable else None


def cut(graph: Graph, embedding: Embedding, scores: int | None = None) -> Graph:
    """Return the part of `graph` before pooling, as floats.

    Its outputs are the map and the detail map, both (1, height, width, channels), where the embedding is a mean, else
    the embedding itself; then the tensor `scores`, if one is given.
    """
    ends: tuple[int, ...] = (embedding.tensor,)
    if embedding.pooled_from is not None:
        ends = tuple(dict.fromkeys((embedding.pooled_from, embedding.detail_from)))
    return _HeadWriter(graph, ends if scores is None else (*ends, scores)).finished()


def with_head(graph: Graph, embedding: Embedding, head: Head) -> Graph:
    """Return `cut` followed by pooling and the head; output `scores` of shape (1, classes), float32."""
    starts: tuple[int, ...] = (embedding.tensor,)
    if head.pooling != "own":
        if embedding.pooled_from is None:
            raise ValueError(f"there is no map for the pooling `{head.pooling}`")
        starts = (embedding.pooled_from,)
        if head.pooling == "detail":
            starts = (embedding.pooled_from, embedding.detail_from)
    if head.other_kinds is None:
        return _HeadWriter(graph, starts).with_head(head)
    scores = own_scores(graph, embedding)
    if scores is None:
        raise ValueError("there are no scores of an original classifier")
    return _HeadWriter(graph, (*starts, scores)).with_head(head)


def part(side: int) -> tuple[int, int]:
    """Return length and step of three overlapping parts that cover `side`, which is 3 or more."""
    step = side // PARTS
    return side - (PARTS - 1) * step, step


def last_layer(graph: Graph, embedding: Embedding) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights (classes, features) and bias (classes,) of a classifier's last layer, as real numbers.

    Raises ModelError for an extractor, which has none, and for an unknown quantisation.
    """
    layer = embedding.layer
    if layer is None:
        raise ModelError("is an extractor without classes; there are none to keep")
    weights = real_values(graph.tensors[layer.inputs[1]]).reshape(-1, embedding.features)
    bias = np.zeros(len(weights), np.float32)
    if len(layer.inputs) > 2 and layer.inputs[2] >= 0:
        stored = graph.tensors[layer.inputs[2]]
        bias = real_values(stored).reshape(-1)
        if stored.type == INT32 and stored.quantisation is None:  # its scale is the product of the other two
            source, kernel = graph.tensors[layer.inputs[0]].quantisation, graph.tensors[layer.inputs[1]].quantisation
            if source is None or kernel is None:
                raise ModelError("has a last layer whose bias has no scale; give another model")
            bias = bias * np.float32(source.scales[0]) * np.asarray(kernel.scales, np.float32)
    return weights, bias


def _softmax_options() -> OperatorOptions:
    return OperatorOptions(_SOFTMAX_OPTIONS, ((0, 0, np.float32(1.0).tobytes()),))


class _HeadWriter:
    """Keeps the tensors and operators that are needed, with new numbers, and appends others."""

    def __init__(self, graph: Graph, starts: tuple[int, ...]) -> None:
        needed, kept = set(starts), []
        for operator in reversed(graph.operators):
            if needed & set(operator.outputs):
                kept.append(operator)
                needed.update(index for index in operator.inputs if index >= 0)
                needed.update(operator.outputs)
        order = sorted(needed | set(graph.inputs))
        place = {index: at for at, index in enumerate(order)} | {-1: -1}
        self._tensors = [graph.tensors[index] for index in order]
        self._operators = [
            Operator(
                one.code,
                tuple(place[index] for index in one.inputs),
                tuple(place[index] for index in one.outputs),
                one.version,
                one.options,
                one.custom,
                one.custom_options,
            )
            for one in reversed(kept)
        ]
        self._inputs = tuple(place[index] for index in graph.inputs)
        self._ends = tuple(self._dequantised(place[start]) for start in starts)

    def finished(self) -> Graph:
        return Graph(tuple(self._tensors), tuple(self._operators), self._inputs, self._ends)

    def with_head(self, head: Head) -> Graph:
        classes, features = head.weights.shape
        last = self._ends[0]
        if head.pooling != "own":
            last = self._mean(last)
        if head.pooling == "detail":
            last = self._joined(last, self._parts(self._ends[1]), "embedding/joined")
        plain, shape = last, self._tensors[last].shape
        if features != math.prod(shape) or head.bias.shape != (classes,):
            raise ValueError(f"a head of {head.weights.shape} and {head.bias.shape} on an embedding of {shape}")
        if head.square_root:
            last = self._append(op.SQRT, (last,), "head/square_root", shape)
        if head.unit_length:
            options = OperatorOptions(_L2_NORM_OPTIONS)
            last = self._append(op.L2_NORMALIZATION, (last,), "head/unit_length", shape, options)
        weights = head.weights
        if head.other_kinds is not None:
            last = self._joined(last, self._others(self._ends[-1], head.other_kinds), "head/joined")
            weights = np.concatenate([weights, -np.diag(head.other_kinds.strength)], 1)
        last = self._layer(last, weights, head.bias, "head")
        if head.kept_weights is not None and head.kept_bias is not None:
            last = self._joined(self._layer(plain, head.kept_weights, head.kept_bias, "kept"), last, "logits")
            classes += len(head.kept_bias)
        self._ends = (self._append(op.SOFTMAX, (last,), "scores", (1, classes), _softmax_options()),)
        return self.finished()

    def _others(self, scores: int, others: OtherKinds) -> int:
        """Append max(0, 1 - weights · softmax(scores)), shape (1, classes)."""
        classes, kinds = others.weights.shape
        last = self._flattened(scores, kinds, "others/scores")
        last = self._append(op.SOFTMAX, (last,), "others/probabilities", (1, kinds), _softmax_options())
        return self._layer(last, -others.weights, np.ones(classes, np.float32), "others", activation=_RELU)

    def _flattened(self, source: int, count: int, name: str) -> int:
        shape = self._constant(f"{name}/shape", np.array((1, count), np.int32))
        return self._append(op.RESHAPE, (source, shape), name, (1, count))

    def _mean(self, source: int) -> int:
        axes = self._constant("embedding/axes", np.array([1, 2], np.int32))
        shape = (1, self._tensors[source].shape[3])
        return self._append(op.MEAN, (source, axes), "embedding/mean", shape, OperatorOptions(_REDUCER_OPTIONS))

    def _parts(self, source: int) -> int:
        _, height, width, channels = self._tensors[source].shape
        (tall, down), (wide, right) = part(height), part(width)
        values = ((1, right), (2, down), (3, wide), (4, tall))
        integers = tuple((field, 0, np.int32(value).tobytes()) for field, value in values)
        options = OperatorOptions(_POOL_2D_OPTIONS, ((0, 0, bytes([_VALID])), *integers))
        pooled = self._append(op.AVERAGE_POOL_2D, (source,), "embedding/parts", (1, PARTS, PARTS, channels), options)
        return self._flattened(pooled, PARTS * PARTS * channels, "embedding/flattened")

    def _layer(
        self,
        source: int,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        name: str,
        activation: bytes | None = None,
    ) -> int:
        rows = self._constant(f"{name}/weights", np.ascontiguousarray(weights, np.float32))
        offsets = self._constant(f"{name}/bias", np.ascontiguousarray(bias, np.float32))
        fused = () if activation is None else ((0, 0, activation),)
        options, shape = OperatorOptions(_FULLY_CONNECTED_OPTIONS, fused), (1, len(bias))
        return self._append(op.FULLY_CONNECTED, (source, rows, offsets), f"{name}/logits", shape, options)

    def _joined(self, first: int, second: int, name: str) -> int:
        shape = (1, self._tensors[first].shape[1] + self._tensors[second].shape[1])
        options = OperatorOptions(_CONCATENATION_OPTIONS, ((0, 0, np.int32(1).tobytes()),))
        return self._append(op.CONCATENATION, (first, second), name, shape, options)

    def _dequantised(self, index: int) -> int:
        source = self._tensors[index]
        if source.type == FLOAT32:
            return index
        if source.quantisation is None or source.type not in {UINT8, INT8}:
            raise ModelError("has an embedding that is neither float32 nor quantised to 8 bits; give another model")
        version = 2 if source.type == INT8 else 1
        options = OperatorOptions(_DEQUANTIZE_OPTIONS)
        return self._append(op.DEQUANTIZE, (index,), f"real/{source.name}", source.shape, options, version=version)

    def _append(
        self,
        code: int,
        inputs: tuple[int, ...],
        name: str,
        shape: tuple[int, ...],
        options: OperatorOptions | None = None,
        *,
        version: int = 1,
    ) -> int:
        self._tensors.append(Tensor(name, shape, FLOAT32))
        made = len(self._tensors) - 1
        self._operators.append(Operator(code, inputs, (made,), version, options))
        return made

    def _constant(self, name: str, values: NDArray[np.float32] | NDArray[np.int32]) -> int:
        kind = INT32 if values.dtype == np.int32 else FLOAT32
        self._tensors.append(Tensor(name, values.shape, kind, values.tobytes()))
        return len(self._tensors) - 1
