"""Converts a model's raw output to confidences between 0 and 1, and ranks them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_classifierd.errors import InferenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.model.tflite.score_output import OutputKind
    from edge_classifierd.model.tflite.tensor_spec import TensorSpec


class Scores:
    """Converts raw output tensors of one model to confidences; for any thread."""

    def __init__(self, output: TensorSpec, kind: OutputKind) -> None:
        self._softmax = kind == "logits"
        self._exclusive = kind not in {"multi_label", "binary"}
        self._binary = kind == "binary"
        self._values = _value_of_byte(output) if output.dtype in {"uint8", "int8"} else None
        self._scale = (output.zero_point, np.float32(output.scale)) if output.dtype == "int16" else None

    def confidences(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Return a new array of shape (labels,) from a tensor of the output's dtype and size.

        A quantised softmax rounds each probability to a multiple of 1/256, so their sum is only near 1. They are not
        scaled to a sum of 1: hundreds of labels rounded to zero would raise the rest. Raises InferenceError when a
        float model returns NaN or infinity.
        """
        if self._values is not None:
            # A negative index counts from the end, so this works for int8 as well.
            scores = self._values.take(raw.reshape(-1))
            if self._binary:
                return _both(scores)
            return _softmax(scores) if self._softmax else scores
        scores = raw.flatten()
        if self._scale is not None:
            zero_point, scale = self._scale
            scores = (scores.astype(np.float32) - zero_point) * scale
        if self._softmax:
            with np.errstate(over="ignore", invalid="ignore"):
                scores = _softmax(scores)
        # In a softmax one NaN makes all scores NaN, so the first one is enough. Checking 1,000 costs 50 µs a frame with
        # cold caches.
        if not (math.isfinite(scores.item(0)) if self._exclusive else np.isfinite(scores).all()):
            raise InferenceError("the model's scores are not numbers; check its normalisation, or give another model")
        return _both(scores) if self._binary else scores


def top_k(confidences: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` highest confidences, best first; the lower index first among equals.

    A complete stable sort takes 4 to 23 µs for 1,000 classes, less than partitioning where many scores are zero.
    """
    return np.argsort(-confidences, kind="stable")[:count]


def _both(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the confidences of both labels of one sigmoid."""
    return np.array([1 - scores[0], scores[0]], np.float32)


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute in place; the maximum is subtracted first so that no power exceeds 1."""
    scores -= scores.max()
    np.exp(scores, out=scores)
    scores /= scores.sum()
    return scores


def _value_of_byte(output: TensorSpec) -> NDArray[np.float32]:
    """Return the real value of each of the 256 bit patterns of a quantised element, by its unsigned byte."""
    values = np.arange(256, dtype=np.uint8)
    signed = values.view(np.int8) if output.dtype == "int8" else values
    return ((signed.astype(np.int32) - output.zero_point) * np.float64(output.scale)).astype(np.float32)
