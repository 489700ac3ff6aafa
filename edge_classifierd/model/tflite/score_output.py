"""The outputs of a graph that can be scores, what their numbers mean, and the sentence for models without any."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from edge_classifierd.errors import ModelError
from edge_classifierd.model.tflite import operators as op
from edge_classifierd.model.tflite.tensor_spec import read_tensor, shape_text, with_one_batch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_classifierd.model.tflite.flatbuffer import Table, TableVector
    from edge_classifierd.model.tflite.tensor_spec import PictureLayout, TensorSpec

OutputKind = Literal["softmax", "logits", "multi_label", "binary"]
"""`binary`: one sigmoid p for two labels, whose confidences are 1 - p and p."""

_MAX_CLASSES: Final = 100_000
_MAX_OUTPUTS: Final = 64
_PASS_THROUGH: Final = frozenset({op.DEQUANTIZE, op.RESHAPE, op.SQUEEZE, op.EXPAND_DIMS, op.QUANTIZE})


@dataclass(frozen=True, slots=True)
class ScoreOutput:
    """One output of the graph that can be the scores of a classifier."""

    position: int
    """Among the graph's outputs."""
    names: tuple[str, ...]
    """The tensor's name, then its name in the model's signature."""
    tensor: TensorSpec
    """Shape with a batch of one: (1, classes), (1, 1, 1, classes) …"""
    kind: OutputKind

    @property
    def classes(self) -> int:
        """Number of scores."""
        return math.prod(self.tensor.shape)

    @property
    def label_counts(self) -> tuple[int, ...]:
        """The numbers of labels that suit it: one sigmoid may have one name or two."""
        return (2, 1) if self.classes == 1 else (self.classes,)


def read_outputs(
    tensors: TableVector,
    positions: Sequence[int],
    producers: Producers,
    names: Mapping[int, str],
    picture: PictureLayout,
) -> tuple[ScoreOutput, ...]:
    """Return the outputs that can be scores. Raises ModelError with what the model is when there is none."""
    if len(positions) > _MAX_OUTPUTS:
        raise ModelError(f"has {len(positions)} outputs; give a classification model, which has one")
    shapes = [with_one_batch(tensors[index].integers(0)) for index in positions]
    found = []
    for position, (index, shape) in enumerate(zip(positions, shapes, strict=True)):
        if not _is_scores(shape, least=1 if len(positions) == 1 else 2):
            continue
        tensor = read_tensor(tensors[index], shape, "output")
        names_here = (tensor.name, names[index]) if index in names else (tensor.name,)
        found.append(ScoreOutput(position, names_here, tensor, producers.kind(index, tensor)))
    if not found or (len(positions) > 1 and _is_detection(shapes)):
        raise ModelError(_other_kind(shapes, picture))
    if [(one.classes, one.kind) for one in found] == [(1, "logits")]:
        raise ModelError(
            "gives one number without a sigmoid, as regression does (an age, a count, an angle); a classification "
            "model is needed: one score per label, or one sigmoid"
        )
    return tuple(found)


class Producers:
    """The operator that makes each tensor of a graph."""

    def __init__(self, operators: TableVector, codes: Sequence[int]) -> None:
        self._codes = codes
        self._by_tensor: dict[int, Table] = {}
        for operator in operators:
            for made in operator.integers(2, first=16):
                self._by_tensor[made] = operator

    def kind(self, tensor: int, output: TensorSpec) -> OutputKind:
        """Follow the scores back through operators that only reshape or requantise.

        Where that ends at another operator (an Edge TPU's custom operator, a matrix product) the quantisation decides:
        TensorFlow Lite gives a softmax's output the fixed scale 1/256 from zero. A sigmoid has it too, but exclusive
        classes are far more common. Everything else is logits.
        """
        for _ in range(16):
            operator = self._by_tensor.get(tensor)
            if operator is None:
                break
            number = self._codes[operator.integer(0, "I")]
            if number == op.SOFTMAX:
                return "softmax"
            if number == op.LOGISTIC:
                return "multi_label"
            if number == op.LOG_SOFTMAX:
                return "logits"  # the softmax of log-probabilities is the probabilities
            inputs = operator.integers(1)
            if number not in _PASS_THROUGH or not inputs:
                break
            tensor = inputs[0]
        low, high = output.real_range
        probabilities = output.dtype in {"uint8", "int8"} and abs(low) < 0.002 and abs(high - 1.0) < 0.01
        if probabilities:
            return "multi_label" if math.prod(output.shape) == 1 else "softmax"
        return "logits"


def _is_scores(shape: tuple[int, ...], least: int) -> bool:
    beside_one = [side for side in shape if side != 1]
    return (
        2 <= len(shape) <= 4 and len(beside_one) <= 1 and least <= (beside_one[0] if beside_one else 1) <= _MAX_CLASSES
    )


def _is_detection(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether there are boxes: several outputs, one of shape (1, boxes, 4)."""
    return any(len(shape) == 3 and shape[2] == 4 and shape[1] > 1 for shape in shapes)


def _other_kind(shapes: Sequence[tuple[int, ...]], picture: PictureLayout) -> str:
    """Return the sentence for a model that is no classifier."""
    needed = "a classification model is needed (one score per label)"
    maps = [shape for shape in shapes if len(shape) == 4 and min(shape[1:3]) > 1]
    vectors = [shape for shape in shapes if len(shape) == 3 and min(shape[1:]) > 1]
    if _is_detection(shapes) or (vectors and len(shapes) == 1 and max(vectors[0]) >= 100):
        return f"is an object-detection model; {needed}"
    if len(shapes) == 1 and maps:
        height, width = maps[0][1:3]
        if height * 4 <= picture.height and width * 4 <= picture.width:
            return f"is a FOMO model: it gives a map of {width}x{height} positions of objects; {needed}"
        return f"is a segmentation model, or another that gives a map of {width}x{height}; {needed}"
    if maps or vectors:
        return f"is an object-detection model; {needed}"
    listed = ", ".join(shape_text(shape) for shape in shapes[:8]) or "none"
    return f"is no classifier: it needs one output of shape (1, classes), its outputs are: {listed}"
