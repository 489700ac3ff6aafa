"""What a `.tflite` contains, for people: tensors, operators, cost, metadata, labels, and how pictures are prepared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.errors import ModelError
from edge_classifierd.model.bundle import load_bundle, read_regular_file
from edge_classifierd.model.normalisation import choose_normalisation
from edge_classifierd.model.tflite.graph import read_graph
from edge_classifierd.model.tflite.metadata import read_metadata
from edge_classifierd.model.tflite.signature import read_structure

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.model.labels import Labels
    from edge_classifierd.model.tflite.metadata import Metadata, Normalisation
    from edge_classifierd.model.tflite.signature import OutputKind, TensorSpec


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything about one file; `operators` and `multiply_adds` are None where its graph cannot be taken apart."""

    path: Path
    size: int
    input: TensorSpec
    output: TensorSpec
    output_position: int
    """Which of the graph's outputs carries the scores."""
    output_kind: OutputKind
    edgetpu_compiled: bool
    operators: dict[str, int] | None
    """Count by name, the commonest first."""
    multiply_adds: int | None
    """Of one inference; None also when a part compiled for the Edge TPU hides them."""
    metadata: Metadata
    labels: Labels | None
    labels_trouble: str | None
    """Why there are no labels, one sentence."""
    normalisation: Normalisation
    preparation: str
    """What the daemon does to a picture, in words."""
    reason: str
    """Why it does that."""


def inspect(path: Path, labels_file: Path | None = None) -> Inspection:
    """Read a classifier or an embedding extractor; loads no runtime. Raises ModelError."""
    data = read_regular_file(path, "a TensorFlow Lite model")
    try:
        structure = read_structure(data)
        metadata = read_metadata(structure.metadata, structure.output_position)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    try:
        graph = read_graph(data)
    except ModelError:
        graph = None  # what cannot be rewritten may still run
    labels, trouble = None, None
    try:
        labels = load_bundle(path, labels_file).labels
    except ModelError as error:
        trouble = str(error)
    normalisation = choose_normalisation(structure.input, metadata.normalisation)
    return Inspection(
        path=path,
        size=len(data),
        input=structure.input,
        output=structure.output,
        output_position=structure.output_position,
        output_kind=structure.output_kind,
        edgetpu_compiled=structure.edgetpu_compiled,
        operators=None if graph is None else graph.operator_counts(),
        multiply_adds=None if graph is None else graph.multiply_adds(),
        metadata=metadata,
        labels=labels,
        labels_trouble=trouble,
        normalisation=normalisation,
        preparation=_preparation(structure.input, normalisation),
        reason=_reason(structure.input, normalisation, metadata.normalisation),
    )


def _preparation(tensor: TensorSpec, normalisation: Normalisation) -> str:
    _, height, width, _ = tensor.shape
    cut = f"turned upright, cut to the region, its centre square scaled to {width}x{height} (mean over the area), RGB"
    if tensor.dtype == "float32":
        return f"{cut}; then (pixel - {_numbers(normalisation.mean)}) / {_numbers(normalisation.std)} as float32"
    if _is_identity(tensor, normalisation):
        shift = "" if tensor.dtype == "uint8" else " less 128"
        return f"{cut}; then each pixel{shift} as it is, as {tensor.dtype}"
    return (
        f"{cut}; then (pixel - {_numbers(normalisation.mean)}) / {_numbers(normalisation.std)}, "
        f"quantised to {tensor.dtype} (scale {tensor.scale:.6g}, zero point {tensor.zero_point})"
    )


def _reason(tensor: TensorSpec, chosen: Normalisation, written: Normalisation | None) -> str:
    if tensor.dtype == "float32":
        if written is not None:
            return "its metadata says so"
        return "nothing is written in it, and [-1, 1] is what most float models take; wrong scores need its metadata"
    low, high = tensor.real_range
    spans = f"its {tensor.dtype} input spans [{low:.3g}, {high:.3g}]"
    if _is_identity(tensor, chosen):
        ignored = written is not None and written != chosen
        aside = ", whatever mean and deviation its metadata names" if ignored else ""
        return f"{spans}, the whole range of pixels: the pixel itself is what it was made for{aside}"
    if chosen == written:
        return f"its metadata says so, and {spans}"
    return f"{spans}, which is near the range of this well-known normalisation; its metadata names none that fits"


def _is_identity(tensor: TensorSpec, normalisation: Normalisation) -> bool:
    """Whether quantising gives back the pixel (less 128 for int8), for every pixel."""
    if len(normalisation.mean) != 1 or len(normalisation.std) != 1:
        return False
    shift = 0 if tensor.dtype == "uint8" else -128
    mean, std = normalisation.mean[0], normalisation.std[0]
    return all(
        abs((pixel - mean) / std / tensor.scale + tensor.zero_point - (pixel + shift)) < 0.5 for pixel in (0, 128, 255)
    )


def _numbers(values: tuple[float, ...]) -> str:
    told = ", ".join(f"{value:g}" for value in values)
    return told if len(values) == 1 else f"({told})"
