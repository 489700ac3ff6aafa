"""A model ready to be used: file, tensors, labels and normalisation, checked against one another without a runtime."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import ModelError, counted
from edge_classifierd.model.archive import SET_LABELS, Archive
from edge_classifierd.model.label_files import align, parse_labels
from edge_classifierd.model.labels import Labels, make_labels
from edge_classifierd.model.normalisation import choose_normalisation
from edge_classifierd.model.tflite.metadata import Metadata, Normalisation, read_metadata
from edge_classifierd.model.tflite.signature import OutputKind, Signature, TensorSpec, read_structure

if TYPE_CHECKING:
    from edge_classifierd.model.tflite.metadata import LabelFile

BUNDLED_MODEL: Final = "efficientnet_lite0_int8.tflite"
_MAX_BYTES: Final = 512_000_000


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
    """Shape (1, height, width, 3)."""
    output: TensorSpec
    output_position: int
    """Which of the graph's outputs carries the scores."""
    output_kind: OutputKind
    labels: Labels
    normalisation: Normalisation
    edgetpu_compiled: bool
    metadata: Metadata


def bundled_model_path() -> Path:
    """The model that comes with the package: beside it when installed, in the checkout's `models/` otherwise."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "models" / BUNDLED_MODEL
    return installed if installed.exists() else package.parent / "models" / BUNDLED_MODEL


def model_title(path: Path) -> str:
    """Return how messages name a model: by its path, or as `the bundled model`, whose path means nothing to a user."""
    return "the bundled model" if path == bundled_model_path() else str(path)


def load_bundle(path: Path, labels: Path | None = None, locale: str | None = None) -> ModelBundle:
    """Read a `.tflite` and find its labels; loads no runtime.

    Labels come from the file `labels`, else from what the model's metadata names, else from the only text file in the
    model's archive, else from a file of the model's own name ending in `.txt` or `.csv` beside it. `locale` ("de",
    "pt-BR") selects the labels' display names where the metadata has them. Raises ModelError with one sentence that
    starts with the file's name.
    """
    _refuse_unspeakable(path)
    data = read_regular_file(path, "a TensorFlow Lite model")
    try:
        structure = read_structure(data)
        metadata = read_metadata(structure.metadata, structure.output_position)
        embedded = None if labels is not None else _embedded_labels(Archive(data), metadata, structure, locale)
    except ModelError as error:
        raise ModelError(f"{model_title(path)}: {error}") from error
    return ModelBundle(
        path=path,
        name=path.stem,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        input=structure.input,
        output=structure.output,
        output_position=structure.output_position,
        output_kind=structure.output_kind,
        labels=embedded or _sidecar_labels(path, labels, structure.classes),
        normalisation=choose_normalisation(structure.input, metadata.normalisation),
        edgetpu_compiled=structure.edgetpu_compiled,
        metadata=metadata,
    )


def _refuse_unspeakable(path: Path) -> None:
    """The runtimes take UTF-8 only."""
    name = os.fsencode(path)
    try:
        name.decode("utf-8")
    except UnicodeDecodeError as error:
        shown = name.decode("utf-8", "backslashreplace")
        raise ModelError(f"{shown}: has a name that is not UTF-8; rename the file or the folder") from error


def _embedded_labels(archive: Archive, metadata: Metadata, structure: Signature, locale: str | None) -> Labels | None:
    files = metadata.label_files
    if files:
        names_file = _for_locale(files, "") or _for_locale(files, "en") or files[0]
        display_file = _for_locale(files, locale) if locale else None
        names = _archived(archive, names_file.name, structure.classes)
        display = _archived(archive, display_file.name, structure.classes) if display_file else None
        return make_labels(names, display)
    texts = [name for name in archive.names if name.lower().endswith((".txt", ".csv"))]
    candidates = [name for name in texts if "label" in name.lower()] or texts
    if not candidates:
        return None
    if len(candidates) > 1:
        listed = ", ".join(f"`{name}`" for name in candidates[:5])
        raise ModelError(f"carries several text files ({listed}) and does not say which holds its labels; {SET_LABELS}")
    return make_labels(_archived(archive, candidates[0], structure.classes))


def _archived(archive: Archive, name: str, classes: int) -> tuple[str, ...]:
    return _counted(archive.read(name), f"its own `{name}`", name, classes)


def _sidecar_labels(path: Path, labels: Path | None, classes: int) -> Labels:
    file = labels or next((path.with_suffix(end) for end in (".txt", ".csv") if path.with_suffix(end).is_file()), None)
    if file is None:
        raise ModelError(f"{model_title(path)}: carries no labels for its {counted(classes, 'output')}; {SET_LABELS}")
    content = read_regular_file(file, "a label file")
    try:
        return make_labels(_counted(content, str(file), str(file), classes))
    except ModelError as error:
        sentence = str(error)
        raise ModelError(sentence if sentence.startswith(str(file)) else f"{model_title(path)}: {sentence}") from error


def _counted(content: bytes, said: str, file: str, classes: int) -> tuple[str, ...]:
    parsed = parse_labels(content, file, classes)
    aligned = align(parsed, classes)
    if aligned is None:
        raise ModelError(
            f"has {counted(classes, 'output')} but {said} holds {counted(len(parsed), 'label')}; "
            "set `model.labels` to the list that belongs to this model"
        )
    return aligned


def _for_locale(files: tuple[LabelFile, ...], locale: str) -> LabelFile | None:
    """The file of exactly that locale, else of its language: `de` serves "de-AT"."""
    wanted = _normal_locale(locale)
    exact = next((file for file in files if _normal_locale(file.locale) == wanted), None)
    if exact or not wanted:
        return exact
    language = wanted.split("-", 1)[0]
    return next((file for file in files if _normal_locale(file.locale).split("-", 1)[0] == language), None)


def _normal_locale(locale: str) -> str:
    """`de_DE.UTF-8` and "de-DE" alike."""
    return locale.split(".", 1)[0].replace("_", "-").casefold()


def read_regular_file(path: Path, what: str) -> bytes:
    """The content of a regular file; never blocks on a pipe or a device, never reads beyond `_MAX_BYTES`."""
    title = model_title(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{title}: is not a file; give {what}")
        if status.st_size > _MAX_BYTES:
            megabytes = status.st_size // 1_000_000
            raise ModelError(f"{title}: is {megabytes:,} MB; at most {_MAX_BYTES // 1_000_000} MB are read")
        with path.open("rb") as file:
            return file.read(status.st_size)
    except FileNotFoundError as error:
        raise ModelError(f"{title}: no such file; give {what}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise ModelError(f"{title}: permission denied; let the account that runs this read it") from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(f"{title}: cannot be read: {reason}") from error
