"""What the graph of a `.tflite` says about itself: its input and output tensors, what its scores mean, who must run it.

Field numbers follow the public schema, tensorflow/compiler/mlir/lite/schema/schema.fbs (version 3, identifier `TFL3`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from edge_classifierd.errors import ModelError
from edge_classifierd.model.tflite.flatbuffer import MalformedError, Table
from edge_classifierd.model.tflite.verification import verify_references

if TYPE_CHECKING:
    from edge_classifierd.model.tflite.flatbuffer import TableVector

OutputKind = Literal["softmax", "logits", "multi_label"]
_TypeName = Literal["float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8"]

_TYPES: Final[tuple[_TypeName, ...]] = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8",
)  # fmt: skip
_RANGES: Final = {"uint8": (0, 255), "int8": (-128, 127)}
_MAX_SIDE: Final = 4096
_MAX_CLASSES: Final = 100_000
_MAX_OUTPUT_TENSORS: Final = 64

_LOGISTIC, _SOFTMAX, _CUSTOM, _LOG_SOFTMAX = 14, 25, 32, 50
_PASS_THROUGH: Final = frozenset({6, 22, 43, 70, 114})  # DEQUANTIZE, RESHAPE, SQUEEZE, EXPAND_DIMS, QUANTIZE
_EDGETPU_OP: Final = "edgetpu-custom-op"
_DETECTION_OP: Final = "TFLite_Detection_PostProcess"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor. For uint8 and int8: real = (value - zero_point) * scale; float32 has scale 0.0 and zero point 0."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["uint8", "int8", "float32"]
    scale: float
    zero_point: int

    @property
    def real_range(self) -> tuple[float, float]:
        """The least and greatest real value a quantised tensor can hold; (-inf, inf) for float32."""
        if self.dtype == "float32":
            return -math.inf, math.inf
        low, high = _RANGES[self.dtype]
        return (low - self.zero_point) * self.scale, (high - self.zero_point) * self.scale


@dataclass(frozen=True, slots=True)
class Signature:
    """What a classifier's graph says about itself."""

    input: TensorSpec
    """Shape (1, height, width, 3)."""
    output: TensorSpec
    """Shape as stored: (1, classes) or (1, 1, 1, classes)."""
    output_position: int
    """Which of the graph's outputs carries the scores."""
    output_kind: OutputKind
    edgetpu_compiled: bool
    metadata: bytes | memoryview
    """The buffer named TFLITE_METADATA; empty when there is none."""

    @property
    def classes(self) -> int:
        """How many scores an inference gives."""
        return math.prod(self.output.shape)


def read_structure(data: bytes | memoryview) -> Signature:
    """Read the structure of an image classifier. Raises ModelError for anything else, or for a damaged file."""
    if len(data) < 8 or bytes(data[4:8]) != b"TFL3":
        raise ModelError("is not a TensorFlow Lite model; give a .tflite file")
    try:
        return _read(Table.root(data), data)
    except MalformedError as error:
        raise ModelError(f"is cut short or damaged: {error}; copy or download it again") from error


def _read(model: Table, data: bytes | memoryview) -> Signature:
    if model.integer(0, "I") != 3:
        raise ModelError(f"has the format version {model.integer(0, 'I')}, only 3 is known; convert it anew")
    subgraphs = model.tables(2)
    if not len(subgraphs):
        raise ModelError("contains no graph; copy or download it again")
    verify_references(model, len(data))
    graph = subgraphs[0]
    tensors = graph.tables(0)
    codes = [_operator_code(code) for code in model.tables(1)]
    if ("custom", _DETECTION_OP) in codes:
        raise ModelError("is an object-detection model; a classification model is needed (one score per label)")
    image = _image_input([tensors[index] for index in graph.integers(1)])
    output_indices = graph.integers(2)
    if len(output_indices) > _MAX_OUTPUT_TENSORS:
        raise ModelError(f"has {len(output_indices)} outputs; give a classification model, which has one")
    position, output = _score_output([tensors[index] for index in output_indices])
    return Signature(
        input=image,
        output=output,
        output_position=position,
        output_kind=_output_kind(graph.tables(3), codes, output_indices[position], output),
        edgetpu_compiled=("custom", _EDGETPU_OP) in codes,
        metadata=_metadata(model, data),
    )


def _operator_code(code: Table) -> tuple[str, str] | tuple[str, int]:
    # Codes under 127 stand in the old 8-bit field; newer ones in `builtin_code` with 127 in the old one.
    number = max(code.integer(0, "b"), code.integer(3, "i"))
    return ("custom", code.text(1) or "") if number == _CUSTOM else ("builtin", number)


def _image_input(inputs: list[Table]) -> TensorSpec:
    if len(inputs) != 1:
        raise ModelError(f"has {len(inputs)} inputs; give a classification model, which takes one picture")
    stored = inputs[0].integers(0)
    shape = _with_one_batch(stored)
    if len(shape) != 4 or shape[0] != 1:
        raise ModelError(f"wants an input of shape {_shape(stored)}; give one for (1, height, width, 3)")
    if shape[3] == 1:
        raise ModelError(f"wants greyscale pictures, shape {_shape(stored)}; give one for RGB, (1, height, width, 3)")
    if shape[3] != 3:
        remedy = "; convert it with channels last" if shape[1] == 3 else ""
        raise ModelError(f"wants an input of shape {_shape(stored)}; RGB pictures are (1, height, width, 3){remedy}")
    signature = inputs[0].integers(7)
    if min(shape) < 1 or (len(signature) == 4 and min(signature[1:]) < 1):
        raise ModelError("leaves the picture's size open; convert it with a fixed input size")
    if max(shape) > _MAX_SIDE:
        raise ModelError(f"wants pictures of {shape[2]}x{shape[1]} pixels; at most {_MAX_SIDE} a side are supported")
    return _tensor(inputs[0], shape, "input")


def _score_output(outputs: list[Table]) -> tuple[int, TensorSpec]:
    shapes = [_with_one_batch(output.integers(0)) for output in outputs]
    if len(outputs) == 1:
        candidates = [0] if _is_scores(shapes[0], least=1) else []
    else:
        candidates = [position for position, shape in enumerate(shapes) if _is_scores(shape, least=2)]
    if len(candidates) != 1:
        found = ", ".join(_shape(shape) for shape in shapes[:8]) or "none"
        raise ModelError(f"is no classifier: it needs one output of shape (1, classes), its outputs are: {found}")
    position = candidates[0]
    return position, _tensor(outputs[position], shapes[position], "output")


def _is_scores(shape: tuple[int, ...], least: int) -> bool:
    beside_one = [side for side in shape if side != 1]
    return (
        2 <= len(shape) <= 4
        and shape[0] == 1
        and len(beside_one) <= 1
        and least <= (beside_one[0] if beside_one else 1) <= _MAX_CLASSES
    )


def _with_one_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *shape[1:]) if shape and shape[0] == -1 else shape


def _shape(shape: tuple[int, ...]) -> str:
    if len(shape) > 8:
        return f"of {len(shape)} dimensions"
    return f"({', '.join(str(side) for side in shape)})"


def _tensor(tensor: Table, shape: tuple[int, ...], role: str) -> TensorSpec:
    name = tensor.text(3) or role
    number = tensor.integer(1, "b")
    if not 0 <= number < len(_TYPES):
        raise ModelError(f"has an {role} of the unknown type {number}; convert it with uint8, int8 or float32")
    dtype = _TYPES[number]
    if dtype == "float32":
        return TensorSpec(name, shape, "float32", 0.0, 0)
    if dtype != "uint8" and dtype != "int8":  # noqa: PLR1714 - so that mypy narrows the type
        raise ModelError(f"has an {role} of {dtype}; convert it with uint8, int8 or float32")
    quantisation = tensor.table(4)
    scales = quantisation.floats(2) if quantisation else ()
    zero_points = quantisation.integers(3, "q") if quantisation else ()
    if not scales and role == "input":
        # The graph takes the raw bytes and scales them itself: a pixel for uint8, a pixel less 128 for int8.
        return TensorSpec(name, shape, dtype, 1.0, 0)
    if len(scales) != 1 or len(zero_points) > 1:
        raise ModelError(f"has a {dtype} {role} with {len(scales)} quantisation scales; convert it with exactly one")
    scale, zero_point = scales[0], zero_points[0] if zero_points else 0
    low, high = _RANGES[dtype]
    if not (math.isfinite(scale) and scale > 0 and low <= zero_point <= high):
        raise ModelError(f"has a {dtype} {role} of impossible quantisation ({scale:g}, {zero_point}); convert it anew")
    return TensorSpec(name, shape, dtype, scale, zero_point)


def _output_kind(
    operators: TableVector, codes: list[tuple[str, str] | tuple[str, int]], tensor: int, output: TensorSpec
) -> OutputKind:
    """Trace the scores back to what made them, through operators that only re-shape or re-quantise.

    Where the trail ends elsewhere (an Edge TPU's one custom operator, a bare matrix product), the quantisation tells:
    TensorFlow Lite gives a softmax's output the fixed scale 1/256 from zero. A sigmoid shares it, yet classifiers with
    exclusive classes are far more common. Everything else is logits.
    """
    producers: dict[int, Table] = {}
    for operator in operators:
        for made in operator.integers(2, first=16):
            producers[made] = operator
    for _ in range(16):
        operator_found = producers.get(tensor)
        if operator_found is None:
            break
        number = codes[operator_found.integer(0, "I")][1]
        if number == _SOFTMAX:
            return "softmax"
        if number == _LOGISTIC:
            return "multi_label"
        if number == _LOG_SOFTMAX:
            return "logits"  # log-probabilities: their softmax is the probabilities
        inputs = operator_found.integers(1)
        if number not in _PASS_THROUGH or not inputs:
            break
        tensor = inputs[0]
    low, high = output.real_range
    probabilities = output.dtype != "float32" and abs(low) < 0.002 and abs(high - 1.0) < 0.01
    return "softmax" if probabilities else "logits"


def _metadata(model: Table, data: bytes | memoryview) -> bytes | memoryview:
    for entry in model.tables(6):
        if entry.text(0) == "TFLITE_METADATA":
            buffer = model.tables(4)[entry.integer(1, "I")]
            offset, size = buffer.integer(1, "Q"), buffer.integer(2, "Q")
            if offset <= 1:
                return buffer.raw(0)
            if offset + size > len(data):  # kept behind the flatbuffer, as ai-edge-quantizer writes large buffers
                raise MalformedError("the metadata lies outside the file")
            return data[offset : offset + size]
    return b""
