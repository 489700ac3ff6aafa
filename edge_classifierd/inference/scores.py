"""What a model's raw output means: confidences between 0 and 1, and the best of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_classifierd.errors import InferenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_classifierd.model.tflite.signature import OutputKind, TensorSpec


class Scores:
    """Turns one raw output tensor into confidences; any thread."""

    def __init__(self, output: TensorSpec, kind: OutputKind) -> None:
        self._softmax = kind == "logits"
        self._exclusive = kind != "multi_label"
        self._reals = None if output.dtype == "float32" else _real_of_byte(output)

    def confidences(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """A new array of shape (classes,) from a tensor of the output's dtype with as many elements; it is left alone.

        A quantised softmax rounds each probability to its step (1/256), so that their sum is only near 1; they are not
        scaled up to it, since hundreds rounded to zero would inflate the rest. Raises InferenceError when a float model
        gives no numbers.
        """
        if self._reals is not None:
            # By position, and from the end for a negative one: so a signed element finds its place too.
            scores = self._reals.take(raw.reshape(-1))
            return _softmax(scores) if self._softmax else scores
        scores = raw.flatten()
        if self._softmax:
            with np.errstate(over="ignore", invalid="ignore"):
                scores = _softmax(scores)
        # In a softmax one score that is no number makes all of them so: the first stands for all. This is on the way of
        # every frame, where a sum over all costs 50 µs, cold as the caches are after an inference.
        if not (math.isfinite(scores.item(0)) if self._exclusive else np.isfinite(scores).all()):
            raise InferenceError("the model's scores are not numbers; check its normalisation, or give another model")
        return scores


def check_output(raw: NDArray[Any], output: TensorSpec, model: str) -> None:
    """Raise InferenceError when the runtime's output is not what the model's file describes.

    The runtime computes the shape and the type of some outputs itself, whatever the file says.
    """
    if raw.dtype != output.dtype or raw.size != math.prod(output.shape):
        raise InferenceError(
            f"{model}: its output is {raw.shape} {raw.dtype}, but the file describes {output.shape} {output.dtype}; "
            "convert the model again"
        )


def top_k(confidences: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """The indices of the `count` greatest confidences, best first; the lower index first among equals.

    A whole stable sort: 4 to 23 µs for 1,000 classes, less than partitioning first where many scores are zero.
    """
    return np.argsort(-confidences, kind="stable")[:count]


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """In place; subtracting the greatest first keeps every power at most 1."""
    scores -= scores.max()
    np.exp(scores, out=scores)
    scores /= scores.sum()
    return scores


def _real_of_byte(output: TensorSpec) -> NDArray[np.float32]:
    """Real value for each of the 256 bit patterns of a quantised element, looked up by its unsigned byte."""
    values = np.arange(256, dtype=np.uint8)
    signed = values.view(np.int8) if output.dtype == "int8" else values
    return ((signed.astype(np.int32) - output.zero_point) * np.float64(output.scale)).astype(np.float32)
