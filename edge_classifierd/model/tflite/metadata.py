"""TensorFlow Lite Metadata: the origin, preprocessing and labels that a model's author wrote into it.

Field numbers follow the public metadata schema (metadata_schema.fbs, identifier `M001`), described at
https://ai.google.dev/edge/litert/models/metadata.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

from edge_classifierd.errors import ModelError
from edge_classifierd.model.tflite.flatbuffer import MAX_TEXT, MalformedError, Table

if TYPE_CHECKING:
    from edge_classifierd.model.tflite.flatbuffer import TableVector

CHANNELS_FILE: Final = "edge-classifierd.json"
"""In the archive of a model for BGR: TensorFlow Lite metadata has no entry for the order of the channels."""
_NORMALIZATION_OPTIONS: Final = 1
_LABEL_FILES: Final = frozenset({2, 3})  # TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS
_MAX_LABEL_FILES: Final = 1_000  # one for each language


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How a pixel from 0 to 255 becomes a real number: (pixel - mean) / std."""

    mean: tuple[float, ...]
    """One value, or one for each channel in the order of the model's channels."""
    std: tuple[float, ...]
    channels: Literal["rgb", "bgr"] = "rgb"
    """The order of the model's channels."""


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A label file in the model's archive; `locale` is empty for the names themselves."""

    name: str
    locale: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """The author's entries; None where there is none."""

    name: str | None = None
    description: str | None = None
    version: str | None = None
    author: str | None = None
    licence: str | None = None
    normalisation: Normalisation | None = None
    label_files: tuple[LabelFile, ...] = ()


def read_metadata(data: bytes | memoryview, output_position: int) -> Metadata:
    """Read the buffer TFLITE_METADATA; an empty one gives an empty Metadata. Raises ModelError when it is damaged."""
    if not data:
        return Metadata()
    try:
        model = Table.root(data)
        subgraphs = model.tables(3)
        graph = subgraphs[0] if len(subgraphs) else None
        return Metadata(
            name=model.text(0) or None,
            description=model.text(1, MAX_TEXT) or None,
            version=model.text(2) or None,
            author=model.text(4) or None,
            licence=model.text(5, MAX_TEXT) or None,
            normalisation=_normalisation(graph.tables(2)) if graph else None,
            label_files=_label_files(graph.tables(3), output_position) if graph else (),
        )
    except MalformedError as error:
        raise ModelError(f"carries damaged metadata: {error}; copy or download it again") from error


def _normalisation(inputs: TableVector) -> Normalisation | None:
    if not len(inputs):
        return None
    for unit in inputs[0].tables(4):
        options = unit.table(1) if unit.integer(0, "B") == _NORMALIZATION_OPTIONS else None
        if options is None:
            continue
        mean, std = options.floats(0), options.floats(1)
        usable = all(map(math.isfinite, mean + std)) and all(value > 0 for value in std)
        if not (usable and len(mean) in {1, 3} and len(std) in {1, 3}):
            raise ModelError(
                "carries an unusable normalisation in its metadata; write one or three means and deviations into it"
            )
        return Normalisation(mean, std)
    return None


def _label_files(outputs: TableVector, position: int) -> tuple[LabelFile, ...]:
    if position >= len(outputs):
        return ()
    return tuple(
        LabelFile(file.text(0) or "", file.text(3) or "")
        for file in islice(outputs[position].tables(6), _MAX_LABEL_FILES)
        if file.integer(2, "b") in _LABEL_FILES
    )
