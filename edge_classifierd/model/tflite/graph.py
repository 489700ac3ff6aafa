"""A model's graph as plain data: its tensors and operators, and their cost.

Needs no runtime and no generated schema, so it works with LiteRT and tflite-runtime alike. Field numbers follow the
public schema (tensorflow/compiler/mlir/lite/schema/schema.fbs); `writer` writes the same fields.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import ModelError
from edge_classifierd.model.tflite import operators as op
from edge_classifierd.model.tflite.flatbuffer import MalformedError, Table
from edge_classifierd.model.tflite.verification import verify_references

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOAT32, FLOAT16, INT32, UINT8, INT8 = 0, 1, 2, 3, 9
"""Numbers of the schema's TensorType."""
_DTYPES: Final = {FLOAT32: np.float32, FLOAT16: np.float16, UINT8: np.uint8, INT8: np.int8, INT32: np.int32}
RESHAPE_OPTIONS, SQUEEZE_OPTIONS = 17, 30
_COUNTED: Final = frozenset({op.CONV_2D, op.DEPTHWISE_CONV_2D, op.FULLY_CONNECTED, op.BATCH_MATMUL, op.TRANSPOSE_CONV})
# Options with a list of int32: their number in the union BuiltinOptions, and the field of the list.
_LISTS: Final = {RESHAPE_OPTIONS: 0, SQUEEZE_OPTIONS: 0}
_NOT_COPIED: Final = {3: "CONCAT_EMBEDDINGS", 111: "VAR_HANDLE", 115: "BUCKETIZE"}
_FULLY_CONNECTED_OPTIONS, _QUANT_SPEC = 8, 5
_VALUES_READ: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Quantisation:
    """real = (value - zero_point) * scale; one pair, or one for each entry of the axis."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `data` holds a constant's bytes and is empty for the others."""

    name: str
    shape: tuple[int, ...]
    type: int
    data: bytes | memoryview = b""
    quantisation: Quantisation | None = None
    signature: tuple[int, ...] = ()
    variable: bool = False


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """An operator's settings: scalars as they are stored, by field, and at most one list of integers."""

    type: int
    scalars: tuple[tuple[int, int, bytes], ...] = ()
    """Field, position in the file (for its alignment), bytes with padding."""
    integers: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of the graph; tensors by index, -1 for an optional one that is left out."""

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    version: int = 1
    options: OperatorOptions | None = None
    custom: str | None = None
    custom_options: bytes | memoryview = b""


@dataclass(frozen=True, slots=True)
class Graph:
    """The first subgraph of a model."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def operator_counts(self) -> dict[str, int]:
        """Return the number of operators of each name, the most frequent first."""
        counts = Counter(op.operator_name(operator.code, operator.custom) for operator in self.operators)
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def multiply_adds(self) -> int | None:
        """Return the multiply-adds of one inference; None when a compiled part hides them."""
        if any(operator.code == op.CUSTOM for operator in self.operators):
            return None
        return sum(self._multiply_adds(operator) for operator in self.operators)

    def _multiply_adds(self, operator: Operator) -> int:
        if operator.code not in _COUNTED or len(operator.inputs) < 2 or not operator.outputs:
            return 0
        made = math.prod(abs(side) for side in self.tensors[operator.outputs[0]].shape)
        weights = self.tensors[operator.inputs[1]].shape
        if operator.code == op.CONV_2D:
            return made * math.prod(weights[1:])
        if operator.code == op.DEPTHWISE_CONV_2D:
            return made * math.prod(weights[1:3])
        if operator.code == op.TRANSPOSE_CONV:
            source = math.prod(abs(side) for side in self.tensors[operator.inputs[-1]].shape)
            return source * math.prod(weights[:3])
        return made * math.prod(self.tensors[operator.inputs[0]].shape[-1:])


def read_graph(data: bytes | memoryview) -> Graph:
    """Read a `.tflite`; the graph's constants are views of `data`.

    Raises ModelError when the file is damaged, and for what cannot be copied exactly: sparse weights, StableHLO
    operators, control flow.
    """
    view = memoryview(data)
    if len(data) < 8 or bytes(view[4:8]) != b"TFL3":
        raise ModelError("is not a TensorFlow Lite model; give a .tflite file")
    try:
        model = Table.root(view)
        verify_references(model, len(view))
        subgraphs = model.tables(2)
        if len(subgraphs) != 1:
            raise ModelError(f"has {len(subgraphs)} graphs; only models with one can be taken apart")
        graph = subgraphs[0]
        buffers = [_buffer(buffer, view) for buffer in model.tables(4)]
        codes = list(model.tables(1))
        return Graph(
            tensors=tuple(_tensor(tensor, buffers) for tensor in graph.tables(0)),
            operators=tuple(_operator(operator, codes, view) for operator in graph.tables(3)),
            inputs=graph.integers(1),
            outputs=graph.integers(2),
        )
    except MalformedError as error:
        raise ModelError(f"is cut short or damaged: {error}; copy or download it again") from error


def real_values(tensor: Tensor) -> NDArray[np.float32]:
    """Return a constant as real numbers in its shape. Raises ModelError for unknown types and damaged scales."""
    dtype = _DTYPES.get(tensor.type)
    if dtype is None:
        raise ModelError(f"has weights of an unknown number type ({tensor.type}); give another model")
    values = np.frombuffer(tensor.data, dtype, math.prod(tensor.shape)).reshape(tensor.shape)
    quantisation = tensor.quantisation
    if quantisation is None:
        return values.astype(np.float32)
    scales = np.asarray(quantisation.scales, np.float64)
    zero_points = np.asarray(quantisation.zero_points or (0,), np.int64)
    axis, side = quantisation.axis, [1] * values.ndim
    fit = len(scales) == 1 or (0 <= axis < values.ndim and len(scales) == values.shape[axis])
    if not fit or len(zero_points) not in {1, len(scales)}:
        raise ModelError("has weights whose scales do not fit its shape; copy or download it again")
    if len(scales) > 1:
        side[axis] = len(scales)
        scales, zero_points = scales.reshape(side), np.broadcast_to(zero_points, len(scales)).reshape(side)
    return ((values.astype(np.int64) - zero_points) * scales).astype(np.float32)


def _buffer(buffer: Table, view: memoryview) -> bytes | memoryview:
    offset, size = buffer.integer(1, "Q"), buffer.integer(2, "Q")
    return view[offset : offset + size] if offset > 1 else buffer.raw(0)


def _tensor(tensor: Table, buffers: list[bytes | memoryview]) -> Tensor:
    if tensor.has(6):
        raise ModelError("has sparse weights; only dense models can be taken apart")
    buffer = tensor.integer(2, "I")
    stored = tensor.table(4)
    scales = stored.floats(2) if stored else ()
    quantisation = Quantisation(scales, stored.integers(3, "q"), stored.integer(6, "i")) if stored and scales else None
    return Tensor(
        name=tensor.text(3) or "",
        shape=tensor.integers(0),
        type=tensor.integer(1, "b"),
        data=buffers[buffer] if buffers else b"",
        quantisation=quantisation,
        signature=tensor.integers(7),
        variable=bool(tensor.integer(5, "B")),
    )


def _operator(operator: Table, codes: list[Table], view: memoryview) -> Operator:
    code = codes[operator.integer(0, "I")]
    number = max(code.integer(0, "b"), code.integer(3, "i"))
    if operator.has(12) or operator.has(8):
        name = op.operator_name(number)
        raise ModelError(f"has the operator {name}, which cannot be copied; give another model")
    offset, size = operator.integer(9, "Q"), operator.integer(10, "Q")
    if offset > 1 and offset + size > len(view):
        raise MalformedError("an operator's settings lie behind the file's end")
    return Operator(
        code=number,
        inputs=operator.integers(1),
        outputs=operator.integers(2),
        version=code.integer(2, "i", 1),
        options=_options(operator, number),
        custom=code.text(1),
        custom_options=view[offset : offset + size] if offset > 1 else operator.raw(5),
    )


def _options(operator: Table, number: int) -> OperatorOptions | None:
    kind, table = operator.integer(3, "B"), operator.table(4)
    if table is None or not kind:
        return None
    if kind in _NOT_COPIED:
        raise ModelError(f"has the operator {op.operator_name(number)}, which cannot be copied; give another model")
    listed = _LISTS.get(kind)
    integers = table.integers(listed) if listed is not None and table.has(listed) else None
    scalars = tuple(
        (field, position, value)
        for field, (position, value) in table.stored().items()
        if field != listed and (kind, field) != (_FULLY_CONNECTED_OPTIONS, _QUANT_SPEC)
    )
    return OperatorOptions(kind, scalars, integers)
