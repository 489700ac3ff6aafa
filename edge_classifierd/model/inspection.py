"""What a `.tflite` contains, for people: tensors, operators, cost, metadata, labels, and how pictures are prepared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_classifierd.errors import ModelError
from edge_classifierd.model.bundle import guess_warning, load_bundle, read_content
from edge_classifierd.model.options import NO_OPTIONS, ModelOptions

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.model.labels import Labels
    from edge_classifierd.model.normalisation import DecidedBy
    from edge_classifierd.model.tflite.metadata import Metadata, Normalisation
    from edge_classifierd.model.tflite.score_output import OutputKind, ScoreOutput
    from edge_classifierd.model.tflite.tensor_spec import TensorSpec


@dataclass(frozen=True, slots=True)
class Inspection:
    """The facts about one file; `operators` and `multiply_adds` are None where its graph cannot be taken apart."""

    path: Path
    size: int
    input: TensorSpec
    output: TensorSpec
    output_position: int
    """Which of the graph's outputs has the scores."""
    output_kind: OutputKind
    outputs: tuple[ScoreOutput, ...]
    """All outputs that can be scores."""
    edgetpu_compiled: bool
    operators: dict[str, int] | None
    """Count by name, the most frequent first."""
    multiply_adds: int | None
    """Of one inference; None also when a part compiled for the Edge TPU hides them."""
    metadata: Metadata
    labels: Labels | None
    labels_source: str | None
    """Where the labels are."""
    labels_trouble: str | None
    """Why there are no labels, one sentence."""
    normalisation: Normalisation
    preparation: str
    """How the daemon prepares a picture."""
    decided_by: DecidedBy
    reason: str
    """Why it does that."""
    warning: str | None
    """The alternatives, when the preparation is a guess."""
    cannot_run: str | None
    """Why no runtime here can run it, one sentence without its subject."""


def inspect(path: Path, labels_file: Path | None = None, options: ModelOptions = NO_OPTIONS) -> Inspection:
    """Read a classifier or an embedding extractor; loads no runtime. Raises ModelError."""
    content = read_content(path, options)
    signature = content.signature
    cannot_run = None
    try:
        signature.require_runnable()
    except ModelError as error:
        cannot_run = str(error)
    bundle, trouble = None, None
    try:
        bundle = load_bundle(path, labels_file, options=options, log_guess=False)
    except ModelError as error:
        trouble = str(error)
    position = content.outputs[0].position if bundle is None else bundle.output_position
    output = next(one for one in content.outputs if one.position == position)
    try:
        metadata = content.metadata(output)
        preparation = content.preparation(metadata)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    graph = content.graph
    return Inspection(
        path=path,
        size=len(content.data),
        input=signature.input,
        output=output.tensor,
        output_position=position,
        output_kind=output.kind if bundle is None else bundle.output_kind,
        outputs=content.outputs,
        edgetpu_compiled=signature.edgetpu_compiled,
        operators=None if graph is None else graph.operator_counts(),
        multiply_adds=None if graph is None else graph.multiply_adds(),
        metadata=metadata,
        labels=None if bundle is None else bundle.labels,
        labels_source=None if bundle is None else bundle.labels_source,
        labels_trouble=trouble,
        normalisation=preparation.normalisation,
        preparation=_preparation(signature.input, preparation.normalisation),
        decided_by=preparation.decided_by,
        reason=preparation.reason,
        warning=guess_warning(preparation) if preparation.decided_by == "guess" else None,
        cannot_run=cannot_run,
    )


def _preparation(tensor: TensorSpec, normalisation: Normalisation) -> str:
    layout = tensor.layout
    colours = "greyscale" if layout.channels == 1 else normalisation.channels.upper()
    order = ", channels first" if layout.channels_first else ""
    cut = (
        f"turned upright, cut to the region, its centre scaled to {layout.width}x{layout.height} (mean over the area), "
        f"{colours}{order}"
    )
    if tensor.dtype == "float32":
        return f"{cut}; then (pixel - {_numbers(normalisation.mean)}) / {_numbers(normalisation.std)} as float32"
    if _is_identity(tensor, normalisation):
        shift = "" if tensor.dtype == "uint8" else " less 128"
        return f"{cut}; then each pixel{shift} as it is, as {tensor.dtype}"
    return (
        f"{cut}; then (pixel - {_numbers(normalisation.mean)}) / {_numbers(normalisation.std)}, "
        f"quantised to {tensor.dtype} (scale {tensor.scale:.6g}, zero point {tensor.zero_point})"
    )


def _is_identity(tensor: TensorSpec, normalisation: Normalisation) -> bool:
    """Return whether quantising gives back the pixel (less 128 for int8), for every pixel."""
    if tensor.dtype == "int16" or len(normalisation.mean) != 1 or len(normalisation.std) != 1:
        return False
    shift = 0 if tensor.dtype == "uint8" else -128
    mean, std = normalisation.mean[0], normalisation.std[0]
    return all(
        abs((pixel - mean) / std / tensor.scale + tensor.zero_point - (pixel + shift)) < 0.5 for pixel in (0, 128, 255)
    )


def _numbers(values: tuple[float, ...]) -> str:
    numbers = ", ".join(f"{value:g}" for value in values)
    return numbers if len(values) == 1 else f"({numbers})"
