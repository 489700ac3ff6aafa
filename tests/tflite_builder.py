"""Tiny real `.tflite` files, made in a test: one RGB pixel in, three scores out."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}
RESHAPE, SOFTMAX, LOGISTIC, LOG_SOFTMAX, DEQUANTIZE, QUANTIZE, ADD, MUL, SUB, CAST, GATHER, WHERE, CUSTOM = (
    22, 25, 14, 50, 6, 114, 0, 18, 41, 53, 36, 109, 32,
)  # fmt: skip


@dataclass
class Tensor:
    shape: tuple[int, ...]
    dtype: str = "float32"
    scale: float | None = None
    zero_point: int = 0
    data: np.ndarray | None = None
    signature: tuple[int, ...] | None = None
    name: str = "tensor"


@dataclass
class Operator:
    code: int
    inputs: list[int]
    outputs: list[int]
    custom: str | None = None


@dataclass
class Graph:
    tensors: list[Tensor]
    operators: list[Operator]
    inputs: list[int] = field(default_factory=lambda: [0])
    outputs: list[int] = field(default_factory=lambda: [-1])


def pack(graph: Graph, metadata: bytes | None = None, files: dict[str, bytes] | None = None) -> bytes:
    """The bytes of a model with its metadata, and `files` in a zip behind it."""
    model = schema.ModelT()
    model.version = 3
    model.description = "made by a test"
    model.buffers = [schema.BufferT()]
    subgraph = schema.SubGraphT()
    subgraph.tensors = [_tensor(model, tensor) for tensor in graph.tensors]
    count = len(graph.tensors)
    subgraph.inputs = [index % count for index in graph.inputs]
    subgraph.outputs = [index % count for index in graph.outputs]
    model.operatorCodes, subgraph.operators = [], []
    for operator in graph.operators:
        code = schema.OperatorCodeT()
        code.builtinCode = operator.code
        code.deprecatedBuiltinCode = min(operator.code, 127)
        code.customCode = operator.custom
        code.version = 2 if operator.code in {SOFTMAX, DEQUANTIZE} else 1
        made = schema.OperatorT()
        made.opcodeIndex = len(model.operatorCodes)
        made.inputs, made.outputs = operator.inputs, operator.outputs
        if operator.code == SOFTMAX:
            made.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
            made.builtinOptions = schema.SoftmaxOptionsT()
            made.builtinOptions.beta = 1.0
        model.operatorCodes.append(code)
        subgraph.operators.append(made)
    model.subgraphs = [subgraph]
    if metadata is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(metadata, np.uint8)
        entry = schema.MetadataT()
        entry.name = "TFLITE_METADATA"
        entry.buffer = len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [entry]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()) + zipped(files)


def zipped(files: dict[str, bytes] | None) -> bytes:
    if not files:
        return b""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            # Without the time: pytest names tests by these bytes, the same in each worker of xdist.
            made.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def _tensor(model: Any, tensor: Tensor) -> Any:
    made = schema.TensorT()
    made.shape = list(tensor.shape)
    made.shapeSignature = None if tensor.signature is None else list(tensor.signature)
    made.type = TYPES[tensor.dtype]
    made.name = tensor.name
    made.buffer = 0
    if tensor.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(tensor.data.tobytes(), np.uint8)
        made.buffer = len(model.buffers)
        model.buffers.append(buffer)
    if tensor.scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = [tensor.scale]
        made.quantization.zeroPoint = [tensor.zero_point]
    return made


def classifier(
    head: int | None,
    dtype: str = "float32",
    scale: float | None = None,
    zero_point: int = 0,
    *,
    dequantised: bool = False,
) -> Graph:
    """(1, 1, 1, 3) → RESHAPE → `head` → perhaps DEQUANTIZE: the channels are the logits of three classes."""
    tensors = [Tensor((1, 1, 1, 3), dtype, scale, zero_point, name="image")]
    shape = Tensor((2,), "int32", data=np.array([1, 3], np.int32))
    tensors += [shape, Tensor((1, 3), dtype, scale, zero_point)]
    operators = [Operator(RESHAPE, [0, 1], [2])]
    if head is not None:
        fixed = None if dtype == "float32" else 1 / 256
        tensors.append(Tensor((1, 3), dtype, fixed, -128 if dtype == "int8" else 0))
        operators.append(Operator(head, [2], [3]))
    if dequantised:
        tensors.append(Tensor((1, 3)))
        operators.append(Operator(DEQUANTIZE, [len(tensors) - 2], [len(tensors) - 1]))
    tensors[-1].name = "scores"
    return Graph(tensors, operators)


def failing_above(limit: int) -> Graph:
    """A uint8 model that fails in `invoke` as soon as a pixel is `limit` or greater (GATHER out of bounds)."""
    return Graph(
        [
            Tensor((1, 1, 1, 3), "uint8", 1 / 128, 128),
            Tensor((1, 1, 1, 3), "int32"),
            Tensor((limit,), data=np.zeros(limit, np.float32)),
            Tensor((1, 1, 1, 3)),
        ],
        [Operator(CAST, [0], [1]), Operator(GATHER, [2, 1], [3])],
    )


def mistyped() -> Graph:
    """A model whose output is uint8 scores in the file and int64 positions in the runtime (WHERE)."""
    return Graph(
        [
            Tensor((1, 1, 1, 3)),
            Tensor((2,), "int32", data=np.array([1, 3], np.int32)),
            Tensor((1, 3)),
            Tensor((1, 3)),
            Tensor((1, 3), "uint8", 1 / 256),
        ],
        [Operator(RESHAPE, [0, 1], [2]), Operator(LOGISTIC, [2], [3]), Operator(WHERE, [3], [4])],
    )


def custom(name: str) -> Graph:
    """A model of one custom operator."""
    return Graph(
        [Tensor((1, 1, 1, 3), "uint8", 1 / 128, 128), Tensor((1, 3), "uint8", 1 / 256, 0)],
        [Operator(CUSTOM, [0], [1], name)],
    )


def metadata(
    name: str = "Test model",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] = (1.0,),
    label_files: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """TFLite metadata with a normalisation of the input and (name, locale) label files of the output."""
    builder = flatbuffers.Builder(256)

    def table(fields: dict[int, tuple[str, Any]]) -> int:
        builder.StartObject(8)
        for slot, (kind, value) in fields.items():
            if kind == "offset":
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                builder.PrependUint8Slot(slot, value, 0)
        return int(builder.EndObject())

    def vector(offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    def floats(values: tuple[float, ...]) -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependFloat32(value)
        return int(builder.EndVector())

    units = []
    if mean is not None:
        options = table({0: ("offset", floats(mean)), 1: ("offset", floats(std))})
        units.append(table({0: ("byte", 1), 1: ("offset", options)}))
    units_at = vector(units)
    image = table({4: ("offset", units_at)})
    files = []
    for file, locale in label_files:
        file_at, locale_at = builder.CreateString(file), builder.CreateString(locale) if locale else 0
        fields = {0: ("offset", file_at), 2: ("byte", 2)} | ({3: ("offset", locale_at)} if locale else {})
        files.append(table(fields))
    files_at = vector(files)
    scores = table({6: ("offset", files_at)})
    inputs, outputs = vector([image]), vector([scores])
    subgraphs = vector([table({2: ("offset", inputs), 3: ("offset", outputs)})])
    texts = {0: name, 1: "Three colours", 2: "v1", 4: "A test", 5: "Apache-2.0"}
    offsets = {slot: ("offset", builder.CreateString(text)) for slot, text in texts.items()}
    builder.Finish(table(offsets | {3: ("offset", subgraphs)}), b"M001")
    return bytes(builder.Output())
