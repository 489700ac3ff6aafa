"""Writes a graph as a `.tflite` with metadata and a label file; the same content gives the same bytes."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import flatbuffers

from edge_classifierd.model.tflite import operators as op
from edge_classifierd.model.tflite.metadata import CHANNELS_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_classifierd.model.tflite.graph import Graph, Operator, OperatorOptions, Quantisation, Tensor
    from edge_classifierd.model.tflite.metadata import Normalisation

LABEL_FILE: Final = "labels.txt"
# The runtimes map the file and read weights in place; 16 bytes is the schema's `force_align` for them.
_ALIGNMENT: Final = 16
_NORMALIZATION_OPTIONS, _AXIS_LABELS, _FEATURE_IMAGE = 1, 2, 1


@dataclass(frozen=True, slots=True)
class About:
    """The metadata of the file to write."""

    name: str
    description: str
    labels: tuple[str, ...]
    """One per output; no line breaks inside."""
    normalisation: Normalisation
    licence: str | None = None
    files: tuple[tuple[str, bytes], ...] = ()
    """Further files for the archive, by name."""


def write_model(graph: Graph, about: About | None = None) -> bytes:
    """Return a `.tflite`; with `about` it has TensorFlow Lite metadata, and the labels in a zip archive behind it."""
    builder = flatbuffers.Builder(sum(len(tensor.data) for tensor in graph.tensors) + 65_536)
    buffers: list[bytes | memoryview] = [b""]
    tensors = []
    for tensor in graph.tensors:
        if tensor.data:
            buffers.append(tensor.data)
        tensors.append(_tensor(builder, tensor, len(buffers) - 1 if tensor.data else 0))
    codes = list(dict.fromkeys((one.code, one.custom, one.version) for one in graph.operators))
    operators = [_operator(builder, one, codes.index((one.code, one.custom, one.version))) for one in graph.operators]
    metadata = []
    if about is not None:
        buffers.append(_metadata(about))
        name = builder.CreateString("TFLITE_METADATA")
        metadata = [_table(builder, {0: ("offset", name), 1: ("uint32", len(buffers) - 1)})]
    subgraph = {
        0: ("offset", _offsets(builder, tensors)),
        1: ("offset", _integers(builder, graph.inputs)),
        2: ("offset", _integers(builder, graph.outputs)),
        3: ("offset", _offsets(builder, operators)),
        4: ("offset", builder.CreateString("main")),
    }
    subgraphs = _offsets(builder, [_table(builder, subgraph)])
    model = {
        0: ("uint32", 3),
        1: ("offset", _offsets(builder, [_code(builder, *code) for code in codes])),
        2: ("offset", subgraphs),
        3: ("offset", builder.CreateString(about.description if about else "")),
        4: ("offset", _offsets(builder, [_buffer(builder, data) for data in buffers])),
        6: ("offset", _offsets(builder, metadata)),
    }
    builder.Finish(_table(builder, model), b"TFL3")
    return bytes(builder.Output()) + (_archive(about) if about else b"")


def _metadata(about: About) -> bytes:
    """TensorFlow Lite metadata (metadata_schema.fbs, identifier `M001`)."""
    builder = flatbuffers.Builder(1024)
    normalisation = {
        0: ("offset", _vector(builder, 4, about.normalisation.mean, builder.PrependFloat32)),
        1: ("offset", _vector(builder, 4, about.normalisation.std, builder.PrependFloat32)),
    }
    unit = {0: ("uint8", _NORMALIZATION_OPTIONS), 1: ("offset", _table(builder, normalisation))}
    units = _offsets(builder, [_table(builder, unit)])
    content = _table(builder, {0: ("uint8", _FEATURE_IMAGE), 1: ("offset", _table(builder, {}))})
    image = {0: ("offset", builder.CreateString("image")), 2: ("offset", content), 4: ("offset", units)}
    inputs = _offsets(builder, [_table(builder, image)])
    file = {0: ("offset", builder.CreateString(LABEL_FILE)), 2: ("int8", _AXIS_LABELS)}
    files = _offsets(builder, [_table(builder, file)])
    scores = {0: ("offset", builder.CreateString("probability")), 6: ("offset", files)}
    outputs = _offsets(builder, [_table(builder, scores)])
    subgraphs = _offsets(builder, [_table(builder, {2: ("offset", inputs), 3: ("offset", outputs)})])
    texts = {0: about.name, 1: about.description, 4: "edge-classifierd train", 5: about.licence}
    fields = {slot: ("offset", builder.CreateString(text)) for slot, text in texts.items() if text}
    builder.Finish(_table(builder, fields | {3: ("offset", subgraphs)}), b"M001")
    return bytes(builder.Output())


def _archive(about: About) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        # Stored, with a fixed date: the same labels give the same bytes whatever zlib is installed.
        made.writestr(zipfile.ZipInfo(LABEL_FILE), "".join(f"{label}\n" for label in about.labels))
        if about.normalisation.channels == "bgr":
            made.writestr(zipfile.ZipInfo(CHANNELS_FILE), '{"channels": "bgr"}\n')
        for name, content in about.files:
            made.writestr(zipfile.ZipInfo(name), content)
    return archive.getvalue()


def _tensor(builder: flatbuffers.Builder, tensor: Tensor, buffer: int) -> int:
    fields = {
        0: ("offset", _integers(builder, tensor.shape)),
        1: ("int8", tensor.type),
        2: ("uint32", buffer),
        3: ("offset", builder.CreateString(tensor.name)),
        5: ("bool", tensor.variable),
    }
    if tensor.quantisation:
        fields[4] = ("offset", _quantisation(builder, tensor.quantisation))
    if tensor.signature:
        fields[7] = ("offset", _integers(builder, tensor.signature))
    return _table(builder, fields)


def _quantisation(builder: flatbuffers.Builder, quantisation: Quantisation) -> int:
    scales = _vector(builder, 4, quantisation.scales, builder.PrependFloat32)
    zero_points = _vector(builder, 8, quantisation.zero_points, builder.PrependInt64)
    return _table(builder, {2: ("offset", scales), 3: ("offset", zero_points), 6: ("int32", quantisation.axis)})


def _operator(builder: flatbuffers.Builder, operator: Operator, code: int) -> int:
    fields = {
        0: ("uint32", code),
        1: ("offset", _integers(builder, operator.inputs)),
        2: ("offset", _integers(builder, operator.outputs)),
    }
    if operator.options is not None:
        fields[3] = ("uint8", operator.options.type)
        fields[4] = ("offset", _options(builder, operator.options))
    if operator.custom_options:
        fields[5] = ("offset", _bytes(builder, operator.custom_options))
    return _table(builder, fields)


def _options(builder: flatbuffers.Builder, options: OperatorOptions) -> int:
    listed = None if options.integers is None else _integers(builder, options.integers)
    builder.StartObject(max([1, *(field + 1 for field, _, _ in options.scalars)]))
    for field, position, stored in sorted(options.scalars, key=lambda one: -len(one[2])):
        size = next(size for size in (8, 4, 2, 1) if size <= len(stored) and position % size == 0)
        builder.Prep(size, 0)
        builder.head = builder.head - size
        builder.Bytes[builder.head : builder.head + size] = stored[:size]
        builder.Slot(field)
    if listed is not None:
        builder.PrependUOffsetTRelativeSlot(0, listed, 0)
    return int(builder.EndObject())


def _code(builder: flatbuffers.Builder, code: int, custom: str | None, version: int) -> int:
    # Readers from before 2020 read the 8-bit field only; 127 in it refers to the other.
    fields = {0: ("int8", min(code, 127)), 2: ("int32", version), 3: ("int32", code)}
    if code == op.CUSTOM and custom:
        fields[1] = ("offset", builder.CreateString(custom))
    return _table(builder, fields)


def _buffer(builder: flatbuffers.Builder, data: bytes | memoryview) -> int:
    return _table(builder, {0: ("offset", _bytes(builder, data))} if data else {})


def _bytes(builder: flatbuffers.Builder, data: bytes | memoryview) -> int:
    builder.StartVector(1, len(data), _ALIGNMENT)
    builder.head = builder.head - len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return int(builder.EndVector())


def _offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    return _vector(builder, 4, offsets, builder.PrependUOffsetTRelative)


def _integers(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    return _vector(builder, 4, values, builder.PrependInt32)


def _vector(builder: flatbuffers.Builder, size: int, values: Sequence[float], prepend: Callable[[float], None]) -> int:
    builder.StartVector(size, len(values), size)
    for value in reversed(values):
        prepend(value)
    return int(builder.EndVector())


def _table(builder: flatbuffers.Builder, fields: dict[int, tuple[str, int]]) -> int:
    """Write one table; each field is a kind and a value. Default values are stored too."""
    prepend = {
        "offset": builder.PrependUOffsetTRelative,
        "uint32": builder.PrependUint32,
        "int32": builder.PrependInt32,
        "uint8": builder.PrependUint8,
        "int8": builder.PrependInt8,
        "bool": builder.PrependBool,
    }
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, (kind, value) in fields.items():
        prepend[kind](value)
        builder.Slot(slot)
    return int(builder.EndObject())
