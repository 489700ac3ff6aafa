"""Owns the model's flatbuffer: reading, constants, and writing it with every buffer inside and aligned."""

from __future__ import annotations

from typing import Any, Final

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

Array = npt.NDArray[Any]

CONV: Final = schema.BuiltinOperator.CONV_2D
DEPTHWISE: Final = schema.BuiltinOperator.DEPTHWISE_CONV_2D
DENSE: Final = schema.BuiltinOperator.FULLY_CONNECTED
ADD: Final = schema.BuiltinOperator.ADD
_DTYPES: Final = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
}
_ALIGNMENT: Final = 16  # `force_align` of Buffer.data in TensorFlow Lite's schema.fbs


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer that keeps the schema's alignment, which the generated Python code forgets."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the generated code calls it so
        if self.data is None or not len(self.data):
            schema.BufferStart(builder)
            return int(schema.BufferEnd(builder))
        content = bytes(bytearray(self.data))
        builder.StartVector(1, len(content), _ALIGNMENT)
        builder.head = builder.head - len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


class Graph:
    """A `.tflite` with one subgraph, held as the schema's object tree; operators are known by their position."""

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        for buffer in self.model.buffers:
            # Large buffers stand behind the flatbuffer. The object API would keep only their stale position.
            if buffer.offset > 1:
                buffer.data = np.frombuffer(content[buffer.offset : buffer.offset + buffer.size], np.uint8)
                buffer.offset = buffer.size = 0
        (self.subgraph,) = self.model.subgraphs

    @property
    def operators(self) -> list[Any]:
        """In the order they run."""
        return list(self.subgraph.operators)

    @property
    def tensors(self) -> list[Any]:
        """By the index that operators name them with."""
        return list(self.subgraph.tensors)

    def kind(self, position: int) -> int:
        """The builtin operator's number."""
        return int(self.model.operatorCodes[self.operators[position].opcodeIndex].builtinCode)

    def weighted(self) -> list[int]:
        """Positions of the operators with weights and bias."""
        return [n for n in range(len(self.operators)) if self.kind(n) in {CONV, DEPTHWISE, DENSE}]

    def relu6(self, position: int) -> bool:
        """Whether the operator ends in a clamp to 0 … 6."""
        options = self.operators[position].builtinOptions
        return getattr(options, "fusedActivationFunction", 0) == schema.ActivationFunctionType.RELU6

    def output(self, position: int) -> int:
        """The index of the operator's only output tensor."""
        return int(self.operators[position].outputs[0])

    def input(self, position: int) -> int:
        """The index of the operator's first input tensor."""
        return int(self.operators[position].inputs[0])

    def constant(self, position: int, which: int) -> Array:
        """An operator's weights (1) or bias (2)."""
        tensor = self.tensors[self.operators[position].inputs[which]]
        content = bytes(bytearray(self.model.buffers[tensor.buffer].data))
        return np.frombuffer(content, _DTYPES[tensor.type]).reshape(tensor.shape)

    def set_constant(self, position: int, which: int, values: Array) -> None:
        """Replace an operator's weights (1) or bias (2) by values of the same type and shape."""
        tensor = self.tensors[self.operators[position].inputs[which]]
        if values.dtype != _DTYPES[tensor.type] or list(values.shape) != list(tensor.shape):
            raise ValueError(f"operator {position}: {values.dtype} {values.shape} does not fit its tensor")
        self.model.buffers[tensor.buffer].data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)

    def scale(self, position: int, which: int) -> Array:
        """The quantisation scales of an operator's input (0), weights (1) or bias (2)."""
        return np.asarray(self.tensors[self.operators[position].inputs[which]].quantization.scale, np.float32)

    def set_scale(self, position: int, which: int, scales: Array) -> None:
        """Replace the quantisation scales of an operator's weights (1) or bias (2)."""
        self.tensors[self.operators[position].inputs[which]].quantization.scale = scales.astype(np.float32)

    def output_scale(self, position: int) -> float:
        """The quantisation scale of the operator's output."""
        return float(self.tensors[self.output(position)].quantization.scale[0])

    def add_buffer(self, content: bytes) -> int:
        """Append a buffer; returns its index until the next pack()."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def pack(self) -> bytes:
        """The file, without buffers and operator codes that nothing refers to; the same graph gives the same bytes."""
        self._drop_unused()
        for buffer in self.model.buffers:
            buffer.__class__ = _AlignedBuffer
        builder = flatbuffers.Builder(1 << 25)  # more than any of these models: the aligned copy above does not grow it
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _drop_unused(self) -> None:
        codes = sorted({operator.opcodeIndex for operator in self.operators})
        for operator in self.operators:
            operator.opcodeIndex = codes.index(operator.opcodeIndex)
        self.model.operatorCodes = [self.model.operatorCodes[old] for old in codes]
        metadata = self.model.metadata or []
        used = sorted({0, *(t.buffer for t in self.tensors), *(m.buffer for m in metadata)})
        place = {old: new for new, old in enumerate(used)}
        self.model.buffers = [self.model.buffers[old] for old in used]
        for owner in (*self.tensors, *metadata):
            owner.buffer = place[owner.buffer]


def channel_axis(kind: int) -> int:
    """The axis of an operator's output channels in its weights."""
    return 3 if kind == DEPTHWISE else 0
