"""What exporting tools write into a model's archive or beside the model: Ultralytics, Lobe, Teachable Machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.errors import ModelError
from edge_classifierd.model.label_documents import labels_in, read_document
from edge_classifierd.model.model_file import read_regular_file
from edge_classifierd.model.normalisation import SYMMETRIC, UNIT, Written

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.model.archive import Archive
    from edge_classifierd.model.tflite.metadata import Normalisation

_MAX_BYTES: Final = 4_000_000
_INSIDE: Final = ("metadata.json", "metadata.yaml", "temp_meta.txt", "signature.json")
_EDGE_IMPULSE_SCRIPTS: Final = ("ei_image_classification.py", "ei_object_detection.py")
_EDGE_IMPULSE_NAME: Final = re.compile(r"ei-.*tensorflow-lite.*", re.IGNORECASE)
_BESIDE: Final = ("metadata.json", "metadata.yaml", "signature.json", "deployment-metadata.json")


@dataclass(frozen=True, slots=True)
class ExporterNotes:
    """The entries of one tool about a model."""

    tool: str
    place: str
    """The file they are in."""
    normalisation: Normalisation
    size: tuple[int, int] | None
    """Height and width of the input."""
    task: str
    """`classify` where the tool names the model's task; empty where it does not."""

    @property
    def written(self) -> Written:
        """The normalisation with its source."""
        return Written(self.normalisation, f"its {self.tool} metadata (`{self.place}`)")


def read_exporter_notes(path: Path, archive: Archive) -> ExporterNotes | None:
    """Return the notes inside the model's archive, else those beside the file; None when there are none.

    Raises ModelError when they say that the model does not classify pictures.
    """
    contents = [(name, archive.read(name)) for name in archive.names if name in _INSIDE]
    found = next((notes for name, content in contents if (notes := _notes(name, content, path, inside=True))), None)
    if found is None:
        for name in _BESIDE:
            beside = path.with_name(name)
            if beside.is_file() and beside.stat().st_size <= _MAX_BYTES:
                content = read_regular_file(beside, "a description of the model")
                found = found or _notes(name, content, path, inside=False)
    found = found or _edge_impulse(path)
    if found is not None and found.task not in {"", "classify"}:
        raise ModelError(
            f"is a model for the task `{found.task}` by its {found.tool} metadata; a picture classification model is "
            "needed (task `classify`)"
        )
    return found


def _edge_impulse(path: Path) -> ExporterNotes | None:
    """Return notes for a file that has the name, or lies beside the script, of an Edge Impulse export."""
    if _EDGE_IMPULSE_NAME.fullmatch(path.name):
        return ExporterNotes("Edge Impulse", path.name, UNIT, None, "")
    script = next((name for name in _EDGE_IMPULSE_SCRIPTS if path.with_name(name).is_file()), None)
    return ExporterNotes("Edge Impulse", script, UNIT, None, "") if script and path.stem == "trained" else None


def _notes(name: str, content: bytes, path: Path, *, inside: bool) -> ExporterNotes | None:
    try:
        document = read_document(content.decode("utf-8"), name)
    except (ModelError, UnicodeDecodeError):
        return None
    return _of_document(document, name, path, inside=inside) if isinstance(document, dict) else None


def _of_document(document: dict[Any, Any], name: str, path: Path, *, inside: bool) -> ExporterNotes | None:
    task = str(document.get("task", ""))[:40]
    if "Ultralytics" in str(document.get("author", document.get("description", ""))) or (task and "imgsz" in document):
        # The file beside a model describes all exports of one folder: only of that model where its names agree.
        if inside or labels_in(document.get("names")):
            return ExporterNotes("Ultralytics", name, UNIT, _size(document.get("imgsz")), task)
    elif document.get("doc_name") == "Lobe" or str(document.get("format", "")) == "tf_lite":
        if inside or document.get("filename") == path.name:
            return ExporterNotes("Lobe", name, UNIT, _lobe_size(document), "")
    elif "teachablemachine" in str(document.get("packageName", "")):
        return ExporterNotes("Teachable Machine", name, SYMMETRIC, _size(document.get("imageSize")), "")
    elif "imageInputWidth" in document or "imageInputHeight" in document:
        size = _size([document.get("imageInputHeight"), document.get("imageInputWidth")])
        return ExporterNotes("Edge Impulse", name, UNIT, size, "")
    return None


def _size(value: object) -> tuple[int, int] | None:
    if isinstance(value, int):
        value = [value, value]
    if not isinstance(value, list) or len(value) != 2:
        return None
    height, width = value
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height > 0 < width else None


def _lobe_size(document: dict[Any, Any]) -> tuple[int, int] | None:
    inputs = document.get("inputs")
    image = inputs.get("Image") if isinstance(inputs, dict) else None
    shape = image.get("shape") if isinstance(image, dict) else None
    return _size(shape[1:3]) if isinstance(shape, list) and len(shape) == 4 else None
