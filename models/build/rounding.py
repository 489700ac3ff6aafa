"""Owns the weights' way to int8: scales, rounding that minimises each layer's output error, and corrected biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from graph import DENSE, DEPTHWISE, Graph, channel_axis

if TYPE_CHECKING:
    from graph import Array
    from observe import Moments

_DAMPING: Final = 0.01  # of the mean variance, added to the covariance's diagonal
_BLOCK: Final = 64
_BIAS_LIMIT: Final = 2.0**28  # leaves the 32-bit accumulator room for the products
_LEAST_MULTIPLIER: Final = 2.0**-24


def round_weights(source: Graph, target: Graph, moments: dict[int, Moments]) -> None:
    """Write weights and biases of the float graph `source` into its quantised twin `target`."""
    for n in source.weighted():
        weights, bias = source.constant(n, 1).astype(np.float64), source.constant(n, 2).astype(np.float64)
        axis = channel_axis(source.kind(n))
        rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
        input_scale = float(target.scale(n, 0)[0])
        # A channel that training switched off has almost no weights but a bias. At its own scale that bias would not
        # fit into 32 bits: ai-edge-quantizer then clips it, which moves the channel by up to 7.
        scales = np.maximum.reduce([
            np.abs(rows).max(1) / 127,
            np.abs(bias) / (input_scale * _BIAS_LIMIT),
            np.full(len(rows), target.output_scale(n) / input_scale * _LEAST_MULTIPLIER),
        ]).astype(np.float32)  # fmt: skip
        bias_scales = scales * np.float32(input_scale)
        rounded = _rounded(source.kind(n), rows, scales.astype(np.float64), moments[n])
        drift = ((rounded * scales[:, None].astype(np.float64) - rows) * moments[n].mean).sum(1)
        whole = np.round((bias - drift) / bias_scales.astype(np.float64))
        shape = [weights.shape[axis], *(side for k, side in enumerate(weights.shape) if k != axis)]
        target.set_scale(n, 1, scales)
        target.set_scale(n, 2, bias_scales)
        target.set_constant(n, 1, np.moveaxis(rounded.astype(np.int8).reshape(shape), 0, axis))
        target.set_constant(n, 2, whole.astype(np.int32))


def _rounded(kind: int, rows: Array, scales: Array, moments: Moments) -> Array:
    if kind == DENSE:  # one vector a photograph: too few for 1,280 inputs
        return np.clip(np.round(rows / scales[:, None]), -127, 127)
    if kind == DEPTHWISE:
        each = zip(rows, scales, moments.covariance, strict=True)
        return np.concatenate([_compensated(row[None], np.array([s]), c) for row, s, c in each])
    return _compensated(rows, scales, moments.covariance)


def _compensated(rows: Array, scales: Array, covariance: Array) -> Array:
    """Round column by column; columns still open take up the error that each rounding makes in the layer's output.

    rows (O, K), scales (O,), covariance (K, K). The algorithm is GPTQ (Frantar et al. 2022, arXiv:2210.17323).
    """
    count = rows.shape[1]
    variance = np.diag(covariance)
    order = np.argsort(-variance, kind="stable")
    damped = covariance + np.eye(count) * (_DAMPING * variance.mean() + 1e-12)
    upper = np.linalg.cholesky(np.linalg.inv(damped[order][:, order])).T
    open_rows = rows[:, order].copy()
    result = np.zeros_like(open_rows)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        errors = np.zeros((len(rows), stop - start))
        for column in range(start, stop):
            whole = np.clip(np.round(open_rows[:, column] / scales), -127, 127)
            result[:, column] = whole
            error = (open_rows[:, column] - whole * scales) / upper[column, column]
            errors[:, column - start] = error
            open_rows[:, column + 1 : stop] -= error[:, None] * upper[column, column + 1 : stop]
        open_rows[:, stop:] -= errors @ upper[start:stop, stop:]
    return result[:, np.argsort(order)]
