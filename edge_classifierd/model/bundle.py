"""A model ready to be used: file, tensors, labels and preprocessing, checked against one another without a runtime."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from edge_classifierd.errors import ModelError
from edge_classifierd.model.archive import Archive
from edge_classifierd.model.exporter import ExporterNotes, read_exporter_notes
from edge_classifierd.model.find_labels import choose_output, find_labels
from edge_classifierd.model.model_file import (
    BUNDLED_MODELS,
    BundledName,
    bundled_model_path,
    is_bundled,
    model_title,
    read_model_file,
    read_regular_file,
)
from edge_classifierd.model.normalisation import RANGE_NAMES, Preparation, Written, decide_preparation
from edge_classifierd.model.options import NO_OPTIONS, ModelOptions
from edge_classifierd.model.tflite.graph import Graph, read_graph
from edge_classifierd.model.tflite.leading_arithmetic import read_graph_head
from edge_classifierd.model.tflite.metadata import CHANNELS_FILE, Metadata, Normalisation, read_metadata
from edge_classifierd.model.tflite.signature import ScoreOutput, Signature, read_signature

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.model.labels import Labels
    from edge_classifierd.model.tflite.score_output import OutputKind
    from edge_classifierd.model.tflite.tensor_spec import TensorSpec

__all__ = [
    "BUNDLED_MODELS", "BundledName", "ModelBundle", "ModelContent", "bundled_model_path", "is_bundled", "load_bundle",
    "model_title", "read_content", "read_regular_file",
]  # fmt: skip

_log = logging.getLogger(__name__)
_warned: set[str] = set()
"""Hashes of the models whose guess was logged: once in a process is enough."""


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """Everything about a classifier that can be known without running it."""

    path: Path
    name: str
    """The file's name without its ending."""
    sha256: str
    """Of the whole file, in hexadecimal."""
    size: int
    """Bytes."""
    input: TensorSpec
    """For one picture; `input.layout` has height, width and channels."""
    output: TensorSpec
    output_position: int
    """Which of the graph's outputs has the scores."""
    output_kind: OutputKind
    labels: Labels
    labels_source: str
    """Where the labels are: `its own labels.txt`, or the path of a file."""
    labels_beside: bool
    """Whether they were found in a file whose name does not contain the model's."""
    preparation: Preparation
    edgetpu_compiled: bool
    metadata: Metadata

    @property
    def normalisation(self) -> Normalisation:
        """How pixels become input values."""
        return self.preparation.normalisation


@dataclass(frozen=True)  # no slots: the cached property needs a dictionary
class ModelContent:
    """The parts of a `.tflite`, before labels and output are chosen."""

    path: Path
    data: bytes
    options: ModelOptions
    signature: Signature
    outputs: tuple[ScoreOutput, ...]
    """Those that `options` allow."""
    notes: ExporterNotes | None

    @cached_property
    def archive(self) -> Archive:
        """The archive behind the model. Raises ModelError when it is damaged."""
        return Archive(self.data)

    @cached_property
    def graph(self) -> Graph | None:
        """The graph; None where it cannot be taken apart, though it may run."""
        try:
            return read_graph(self.data)
        except ModelError:
            return None

    def metadata(self, output: ScoreOutput) -> Metadata:
        """Return the TensorFlow Lite metadata of the model and of one output. Raises ModelError."""
        return read_metadata(self.signature.metadata, output.position)

    def preparation(self, metadata: Metadata) -> Preparation:
        """Decide how pixels become input values."""
        written = None if self.notes is None else self.notes.written
        if metadata.normalisation is not None:
            order: Literal["rgb", "bgr"] = "bgr" if CHANNELS_FILE in _archive_or_empty(self.data).names else "rgb"
            written = Written(dataclasses.replace(metadata.normalisation, channels=order), "its metadata")
        tensor, options = self.signature.input, self.options
        head = None
        if written is None and tensor.dtype in {"float32", "int16"} and self.graph is not None:
            head = read_graph_head(self.graph)
        return decide_preparation(tensor, options=options, written=written, head=head)


def read_content(path: Path, options: ModelOptions = NO_OPTIONS) -> ModelContent:
    """Read a `.tflite`; loads no runtime. Raises ModelError with one sentence that starts with the file's name."""
    data = read_model_file(path)
    try:
        notes = read_exporter_notes(path, _archive_or_empty(data))
        size = options.size or (notes.size if notes is not None else None)
        try:
            signature = read_signature(data, size)
        except ModelError:
            if options.size is not None or size is None:
                raise
            signature = read_signature(data)  # the notes belong to another export
        options.check(signature.input.layout)
        outputs = choose_output(signature.outputs, options.output)
    except ModelError as error:
        raise ModelError(f"{model_title(path)}: {error}") from error
    return ModelContent(path, data, options, signature, outputs, notes)


def _archive_or_empty(data: bytes) -> Archive:
    """Return the archive of a model; an empty one in place of a damaged one, which matters to the labels only."""
    try:
        return Archive(data)
    except ModelError:
        return Archive(b"")


def load_bundle(
    path: Path,
    labels: Path | None = None,
    locale: str | None = None,
    options: ModelOptions = NO_OPTIONS,
    *,
    log_guess: bool = True,
) -> ModelBundle:
    """Read a `.tflite`, find its labels and decide its preprocessing; loads no runtime.

    Args:
        path: The model.
        labels: A label file; None: see `find_labels`.
        locale: Language of the labels' display names, such as `de`.
        options: The user's settings for what the file does not contain.
        log_guess: Log a warning, once in a process, when the preprocessing is a guess.

    Raises:
        ModelError: One sentence that starts with the file's name.
    """
    content = read_content(path, options)
    try:
        content.signature.require_runnable()
        archive = content.archive if labels is None else Archive(b"")
        found = find_labels(path, archive, content.signature, content.outputs, given=labels, locale=locale)
        metadata = content.metadata(found.output)
        preparation = content.preparation(metadata)
    except ModelError as error:
        sentence = str(error)
        known = sentence.startswith((str(path), model_title(path))) or (labels is not None and str(labels) in sentence)
        raise ModelError(sentence if known else f"{model_title(path)}: {sentence}") from error
    sha256 = hashlib.sha256(content.data).hexdigest()
    if preparation.decided_by == "guess" and log_guess and sha256 not in _warned:
        _warned.add(sha256)
        _log.warning("%s: %s", model_title(path), guess_warning(preparation))
    kind: OutputKind = "binary" if (found.output.classes, len(found.labels)) == (1, 2) else found.output.kind
    return ModelBundle(
        path=path,
        name=path.stem,
        sha256=sha256,
        size=len(content.data),
        input=content.signature.input,
        output=found.output.tensor,
        output_position=found.output.position,
        output_kind=kind,
        labels=found.labels,
        labels_source=found.source,
        labels_beside=found.beside,
        preparation=preparation,
        edgetpu_compiled=content.signature.edgetpu_compiled,
        metadata=metadata,
    )


def guess_warning(preparation: Preparation) -> str:
    """Return the warning for a guessed preprocessing, with the alternatives and the remedy."""
    chosen = preparation.normalisation
    others = [name for known, name in RANGE_NAMES.items() if (known.mean, known.std) != (chosen.mean, chosen.std)]
    name = RANGE_NAMES.get(dataclasses.replace(chosen, channels="rgb"), "these pixels")
    return (
        f"its preprocessing is a guess: pixels of {name} ({preparation.reason}); it may want "
        f"{', '.join(others[:-1])} or {others[-1]}, or BGR: `edge-classifierd models probe` finds out, `model.input` "
        "(--mean, --std, --channels) sets it"
    )
