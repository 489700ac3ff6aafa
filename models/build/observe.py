"""Owns what is measured on the float network: the range of every channel and the moments of every layer's inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from graph import CONV, DENSE, DEPTHWISE, Graph
from photographs import real

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graph import Array

_POSITIONS: Final = 196  # of a feature map that enter the moments, at most, per photograph


@dataclass(slots=True)
class Moments:
    """First and second moments of the vectors that a layer multiplies with its weights.

    mean (K,) and covariance (K, K); for a depthwise layer one of each per channel: (C, K) and (C, K, K).
    """

    mean: Array
    covariance: Array


@dataclass(slots=True)
class Observations:
    """By operator position: least and greatest output per channel, and the moments of the inputs."""

    low: dict[int, Array]
    high: dict[int, Array]
    moments: dict[int, Moments]


def observe(float_model: bytes, photographs: Iterable[Array]) -> Observations:
    """Run the float network over photographs (side, side, 3) uint8 and keep the statistics."""
    graph = Graph(float_model)
    interpreter = Interpreter(model_content=float_model, num_threads=2, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    (wanted,) = interpreter.get_input_details()
    low: dict[int, Array] = {}
    high: dict[int, Array] = {}
    sums: dict[int, list[Any]] = {}
    for values in photographs:
        interpreter.set_tensor(wanted["index"], real(values))
        interpreter.invoke()
        for n in range(len(graph.operators)):
            made = interpreter.get_tensor(graph.output(n))
            flat = made.reshape(-1, made.shape[-1])
            low[n] = np.minimum(low.get(n, np.inf), flat.min(0))
            high[n] = np.maximum(high.get(n, -np.inf), flat.max(0))
            if graph.kind(n) in {CONV, DEPTHWISE, DENSE}:
                vectors = _vectors(graph, n, interpreter.get_tensor(graph.input(n))[0])
                first, second = vectors.sum(-2), np.swapaxes(vectors, -1, -2) @ vectors
                if n in sums:
                    sums[n][0] += first
                    sums[n][1] += second
                    sums[n][2] += vectors.shape[-2]
                else:
                    sums[n] = [first.astype(np.float64), second.astype(np.float64), vectors.shape[-2]]
    moments = {}
    for n, (first, second, count) in sums.items():
        mean = first / count
        moments[n] = Moments(mean, second / count - mean[..., :, None] * mean[..., None, :])
    return Observations(low, high, moments)


def _vectors(graph: Graph, n: int, source: Array) -> Array:
    """A layer's input as rows (N, K) in the order of its weights, or (C, N, K) for a depthwise layer."""
    if graph.kind(n) == DENSE:
        return source[None]
    kernel = graph.constant(n, 1).shape[1]
    height, width = (int(side) for side in graph.tensors[graph.output(n)].shape[1:3])
    step = max(1, int(np.ceil(np.sqrt(height * width / _POSITIONS))))
    if kernel == 1:
        return np.ascontiguousarray(source[::step, ::step].reshape(-1, source.shape[2]))
    stride = int(graph.operators[n].builtinOptions.strideH)
    padding = max((height - 1) * stride + kernel - source.shape[0], 0)  # SAME
    margin = (padding // 2, padding - padding // 2)
    padded = np.pad(source, (margin, margin, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (0, 1))
    windows = windows[:: stride * step, :: stride * step]  # (rows, columns, C, kernel, kernel)
    if graph.kind(n) == DEPTHWISE:
        return np.ascontiguousarray(windows.transpose(2, 0, 1, 3, 4).reshape(source.shape[2], -1, kernel * kernel))
    return np.ascontiguousarray(windows.transpose(0, 1, 3, 4, 2).reshape(-1, kernel * kernel * source.shape[2]))
