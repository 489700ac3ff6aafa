"""The signature of a `.tflite`: its picture input, the outputs that can be scores, and what it needs to run.

Field numbers follow the public schema, tensorflow/compiler/mlir/lite/schema/schema.fbs (version 3, identifier `TFL3`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import ModelError
from edge_classifierd.model.tflite import operators as op
from edge_classifierd.model.tflite.flatbuffer import MalformedError, Table
from edge_classifierd.model.tflite.score_output import Producers, ScoreOutput, read_outputs
from edge_classifierd.model.tflite.tensor_spec import (
    PictureLayout,
    TensorSpec,
    picture_layout,
    read_tensor,
    shape_text,
    with_one_batch,
)
from edge_classifierd.model.tflite.verification import verify_references

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ScoreOutput", "Signature", "read_signature"]

_MAX_SIDE: Final = 4096
_MAX_NAMES: Final = 16
_LONGEST: Final = 4
"""A greyscale input that is longer than this many times its width is a spectrogram."""
_EDGETPU_OP: Final = "edgetpu-custom-op"
_DETECTION_OP: Final = "TFLite_Detection_PostProcess"
_AUDIO_OPS: Final = frozenset({"AudioSpectrogram", "Mfcc", "FlexAudioSpectrogram", "FlexMfcc"})
_AUDIO_WORDS: Final = ("audio", "waveform", "wav_", "mfcc", "spectrogram", "melspec")
_SELECT_TF: Final = "Flex"
_CLASSIFICATION: Final = "a picture classification model is needed"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a classifier's graph declares."""

    input: TensorSpec
    """Shape for one picture, see `PictureLayout`."""
    outputs: tuple[ScoreOutput, ...]
    """Those that can be scores, at least one."""
    batch: int
    """The batch in the file: 1, or a fixed one above; then the runtime resizes it to 1."""
    edgetpu_compiled: bool
    select_tf: tuple[str, ...]
    """Operators of the full TensorFlow, which no runtime here has."""
    metadata: bytes | memoryview
    """The buffer named TFLITE_METADATA; empty when there is none."""

    def require_runnable(self) -> None:
        """Raise ModelError when no runtime here has the model's operators."""
        if self.select_tf:
            raise ModelError(
                f"needs operators of the full TensorFlow ({', '.join(self.select_tf[:5])}), which no runtime here "
                "has; convert it with TensorFlow Lite's own operators only (`TFLITE_BUILTINS`)"
            )


def read_signature(data: bytes | memoryview, size: tuple[int, int] | None = None) -> Signature:
    """Read the signature of a picture classifier or embedding extractor.

    Args:
        data: The file.
        size: Height and width for a model whose input has no fixed size.

    Raises:
        ModelError: The file is damaged, or the model is of another kind.
    """
    if len(data) < 8 or bytes(data[4:8]) != b"TFL3":
        raise ModelError("is not a TensorFlow Lite model; give a .tflite file")
    try:
        return _read(Table.root(data), data, size)
    except MalformedError as error:
        raise ModelError(f"is cut short or damaged: {error}; copy or download it again") from error


def _read(model: Table, data: bytes | memoryview, size: tuple[int, int] | None) -> Signature:
    if model.integer(0, "I") != 3:
        raise ModelError(f"has the format version {model.integer(0, 'I')}, only 3 is known; convert it anew")
    subgraphs = model.tables(2)
    if not len(subgraphs):
        raise ModelError("contains no graph; copy or download it again")
    verify_references(model, len(data))
    graph = subgraphs[0]
    tensors = graph.tables(0)
    # Codes under 127 are in the old 8-bit field; newer ones in `builtin_code` with 127 in the old one.
    codes = [max(code.integer(0, "b"), code.integer(3, "i")) for code in model.tables(1)]
    custom = [code.text(1) or "" for code, number in zip(model.tables(1), codes, strict=True) if number == op.CUSTOM]
    if _DETECTION_OP in custom:
        raise ModelError("is an object-detection model; a classification model is needed (one score per label)")
    inputs = [tensors[index] for index in graph.integers(1)]
    if _AUDIO_OPS.intersection(custom) or op.RFFT2D in codes or _has_audio_input(inputs):
        raise ModelError(f"is an audio model; {_CLASSIFICATION}")
    image, layout = _picture_input(inputs, size)
    outputs = read_outputs(tensors, graph.integers(2), Producers(graph.tables(3), codes), _output_names(model), layout)
    return Signature(
        input=image,
        outputs=outputs,
        batch=max(1, inputs[0].integers(0)[0]),
        edgetpu_compiled=_EDGETPU_OP in custom,
        select_tf=tuple(dict.fromkeys(name for name in custom if name.startswith(_SELECT_TF))),
        metadata=_metadata(model, data),
    )


def _has_audio_input(inputs: Sequence[Table]) -> bool:
    names = [(tensor.text(3) or "").lower() for tensor in inputs[:4]]
    return any(word in name for name in names for word in _AUDIO_WORDS)


def _picture_input(inputs: Sequence[Table], size: tuple[int, int] | None) -> tuple[TensorSpec, PictureLayout]:
    if len(inputs) != 1:
        raise ModelError(f"has {len(inputs)} inputs; give a classification model, which takes one picture")
    stored = inputs[0].integers(0)
    signature = inputs[0].integers(7)
    dimensions = signature if len(signature) == len(stored) else stored
    shape = with_one_batch(dimensions) if dimensions else ()
    if len(shape) <= 2:
        numbers = abs(math.prod(shape[1:])) if shape else 0
        raise ModelError(
            f"takes {numbers:,} numbers, shape {shape_text(stored)}, as models for sound or sensors do, and no "
            f"picture; {_CLASSIFICATION}"
        )
    layout = picture_layout(shape)
    if layout is None:
        raise ModelError(
            f"wants an input of shape {shape_text(stored)}; pictures are (1, height, width, channels) with 3 channels "
            "(RGB) or 1 (greyscale), or (1, channels, height, width)"
        )
    shape, layout = _sized(shape, layout, size)
    if layout.channels == 1 and max(layout.height, layout.width) >= _LONGEST * min(layout.height, layout.width):
        raise ModelError(f"takes maps of {layout.width}x{layout.height}, as audio models do; {_CLASSIFICATION}")
    if max(layout.height, layout.width) > _MAX_SIDE:
        raise ModelError(
            f"wants pictures of {layout.width}x{layout.height} pixels; at most {_MAX_SIDE} a side are supported"
        )
    return read_tensor(inputs[0], shape, "input"), layout


def _sized(
    shape: tuple[int, ...], layout: PictureLayout, size: tuple[int, int] | None
) -> tuple[tuple[int, ...], PictureLayout]:
    """Put `size` into the open dimensions. Raises ModelError when it is missing or does not fit."""
    sides = (layout.height, layout.width)
    if size is None and min(sides) < 1:
        raise ModelError(
            "leaves the picture's size open; set `model.input.size` (--size on the command line) to the height and "
            "width it was trained with, such as [224, 224]"
        )
    if size is None:
        return shape, layout
    if any(side >= 1 and side != wanted for side, wanted in zip(sides, size, strict=True)):
        raise ModelError(f"takes pictures of height {sides[0]} and width {sides[1]} only; leave out `size`")
    start = 2 if layout.channels_first else 1
    shape = (*shape[:start], *size, *shape[start + 2 :])
    return shape, PictureLayout(*size, layout.channels, layout.channels_first)


def _output_names(model: Table) -> dict[int, str]:
    """Return the names of the outputs in the model's first signature definition, by tensor."""
    names: dict[int, str] = {}
    for definition, _ in zip(model.tables(7), range(1), strict=False):
        for output, _ in zip(definition.tables(1), range(_MAX_NAMES), strict=False):
            names[output.integer(1, "I")] = output.text(0) or ""
    return names


def _metadata(model: Table, data: bytes | memoryview) -> bytes | memoryview:
    for entry in model.tables(6):
        if entry.text(0) == "TFLITE_METADATA":
            buffer = model.tables(4)[entry.integer(1, "I")]
            offset, size = buffer.integer(1, "Q"), buffer.integer(2, "Q")
            if offset <= 1:
                return buffer.raw(0)
            if offset + size > len(data):  # behind the flatbuffer, where ai-edge-quantizer writes large buffers
                raise MalformedError("the metadata lies outside the file")
            return data[offset : offset + size]
    return b""
