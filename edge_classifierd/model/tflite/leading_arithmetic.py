"""The arithmetic between a graph's input and its first layer, which shows what pixels the model expects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import ModelError
from edge_classifierd.model.tflite import operators as op
from edge_classifierd.model.tflite.graph import INT8, UINT8, real_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.model.tflite.graph import Graph, Operator, Tensor

_ARITHMETIC: Final = frozenset({op.MUL, op.DIV, op.ADD, op.SUB})
_PASSED: Final = frozenset({op.CAST, op.QUANTIZE, op.DEQUANTIZE, op.PAD, op.TRANSPOSE, op.RESHAPE, op.STRIDED_SLICE})
_LAYERS: Final = frozenset({op.CONV_2D, op.DEPTHWISE_CONV_2D, op.FULLY_CONNECTED})
_MAX_STEPS: Final = 16
_MAX_VALUES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class GraphHead:
    """The begin of a graph: each input value x becomes scale * x + offset and then enters the first layer."""

    scale: tuple[float, ...]
    """One value, or one for each channel."""
    offset: tuple[float, ...]
    arithmetic: bool
    """Whether there is any; else scale is 1 and offset 0."""
    filter_norm: float | None
    """Mean Euclidean norm of the first layer's filters, for inputs before the arithmetic; None where unknown."""
    quantised_range: tuple[float, float] | None = None
    """The range to which the graph quantises the input before any arithmetic."""

    def output_range(self, low: float, high: float) -> tuple[float, float]:
        """Return the range after the arithmetic of inputs between `low` and `high`."""
        ends = [scale * end + offset for scale, offset in self._pairs() for end in (low, high)]
        return min(ends), max(ends)

    def _pairs(self) -> list[tuple[float, float]]:
        count = max(len(self.scale), len(self.offset))
        scales = self.scale * (count // len(self.scale))
        return list(zip(scales, self.offset * (count // len(self.offset)), strict=True))


def read_graph_head(graph: Graph) -> GraphHead:
    """Follow the input of a graph to its first layer."""
    consumers: dict[int, list[Operator]] = {}
    producers: dict[int, Operator] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            consumers.setdefault(index, []).append(operator)
        producers.update(dict.fromkeys(operator.outputs, operator))
    tensor = graph.inputs[0]
    scale, offset = np.ones(1), np.zeros(1)
    arithmetic = False
    quantised: tuple[float, float] | None = None
    for _ in range(_MAX_STEPS):
        following = [one for one in consumers.get(tensor, ()) if one.code != op.SHAPE]
        if len(following) != 1 or not following[0].outputs:
            break
        operator = following[0]
        if operator.code in _ARITHMETIC and len(operator.inputs) == 2:
            first = operator.inputs[0] == tensor
            values = _constant(graph, producers, operator.inputs[1 if first else 0])
            if values is None or (len(scale) > 1 and len(values) not in {1, len(scale)}):
                break
            scale, offset = _after(operator.code, values, scale, offset, first=first)
            arithmetic = True
        elif operator.code not in _PASSED:
            norm = _filter_norm(graph, producers, operator)
            effective = None if norm is None else norm * float(np.abs(scale).mean())
            return _head(scale, offset, effective, arithmetic=arithmetic, quantised=quantised)
        elif operator.code == op.QUANTIZE and not arithmetic:
            quantised = quantised or _range(graph.tensors[operator.outputs[0]])
        tensor = operator.outputs[0]
    return _head(scale, offset, None, arithmetic=arithmetic, quantised=quantised)


def _head(
    scale: NDArray[np.float64],
    offset: NDArray[np.float64],
    norm: float | None,
    *,
    arithmetic: bool,
    quantised: tuple[float, float] | None,
) -> GraphHead:
    if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
        return GraphHead((1.0,), (0.0,), arithmetic=False, filter_norm=None)
    return GraphHead(tuple(scale.tolist()), tuple(offset.tolist()), arithmetic, norm, quantised)


def _range(tensor: Tensor) -> tuple[float, float] | None:
    """Return the range of a tensor quantised to 8 bits, None for others."""
    stored = tensor.quantisation
    if stored is None or len(stored.scales) != 1 or tensor.type not in {UINT8, INT8}:
        return None
    zero_point = (stored.zero_points or (0,))[0]
    low, high = (0, 255) if tensor.type == UINT8 else (-128, 127)
    return (low - zero_point) * stored.scales[0], (high - zero_point) * stored.scales[0]


def _after(
    code: int, values: NDArray[np.float64], scale: NDArray[np.float64], offset: NDArray[np.float64], *, first: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and offset after one more operator; `first`: the input is its first operand."""
    with np.errstate(all="ignore"):
        if code == op.MUL:
            return scale * values, offset * values
        if code == op.DIV:
            return (scale / values, offset / values) if first else (np.full(1, np.nan), np.zeros(1))
        if code == op.ADD:
            return scale, offset + values
        return (scale, offset - values) if first else (-scale, values - offset)


def _constant(graph: Graph, producers: dict[int, Operator], index: int) -> NDArray[np.float64] | None:
    """Return a constant with at most one value for each channel; None for others."""
    if index < 0:
        return None
    values = _values(graph, producers, index)
    return None if values is None or values.size not in {1, 3} else values.astype(np.float64).reshape(-1)


def _values(graph: Graph, producers: dict[int, Operator], index: int) -> NDArray[np.float32] | None:
    producer = producers.get(index)
    if producer is not None and producer.code == op.DEQUANTIZE:  # constants stored as float16
        index = producer.inputs[0]
    tensor = graph.tensors[index]
    if not tensor.data or math.prod(tensor.shape) > _MAX_VALUES:
        return None
    try:
        return real_values(tensor)
    except (ModelError, ValueError):
        return None


def _filter_norm(graph: Graph, producers: dict[int, Operator], operator: Operator) -> float | None:
    if operator.code not in _LAYERS or len(operator.inputs) < 2:
        return None
    weights = _values(graph, producers, operator.inputs[1])
    if weights is None or weights.ndim < 2 or not weights.size:
        return None
    filters = weights.reshape(weights.shape[0], -1)
    if operator.code == op.DEPTHWISE_CONV_2D:
        filters = weights.reshape(-1, weights.shape[-1]).T
    return float(np.sqrt((filters.astype(np.float64) ** 2).sum(axis=1)).mean())
