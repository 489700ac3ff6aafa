"""Writes a trained head as `.tflite` files, and checks what the written file computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import InferenceError, UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.learning.learnt_pictures import ARCHIVED_AS, learnt_by, packed, picture_hash
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.tflite.head import with_head
from edge_classifierd.model.tflite.writer import About, write_model
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_classifierd.learning.dataset import Picture
    from edge_classifierd.learning.embeddings.embed import Extractor
    from edge_classifierd.model.tflite.head import Head
    from edge_classifierd.preprocess import Fit

_CHECKED: Final = 16
_AGREEMENT: Final = 1e-3


@dataclass(frozen=True, slots=True)
class MadeModel:
    """A trained head and what its file contains besides."""

    head: Head
    method: str
    labels: tuple[str, ...]
    learnt: tuple[Picture, ...]
    """The user's pictures that were learnt from."""
    kept: Path | None
    """The classifier whose classes were kept, if any."""


def twin_path(output: Path) -> Path:
    """Return `signs_cpu.tflite` for `signs_edgetpu.tflite` and for `signs.tflite`."""
    return output.with_name(f"{output.stem.removesuffix('_edgetpu')}_cpu{output.suffix}")


def write_models(made: MadeModel, extractors: dict[Path, Extractor], target: Extractor) -> dict[Path, bytes]:
    """Write the head behind each extractor and return the content of each file; metadata is that of `target`."""
    kept = frozenset() if made.kept is None else learnt_by(made.kept)
    hashes = packed([*kept, *(picture_hash(one.path) for one in made.learnt)])
    contents = {}
    for path, extractor in extractors.items():
        graph = with_head(extractor.graph, extractor.embedding, made.head)
        contents[path] = write_model(graph, _about(made, path, target, hashes))
        _write(path, contents[path])
    return contents


def _about(made: MadeModel, path: Path, target: Extractor, hashes: bytes) -> About:
    own = len(target.labels or ())
    what = f"{len(made.labels):,} classes"
    if made.kept is not None:
        what = f"the {own:,} classes of it and {len(made.labels) - own:,} new ones"
    description = f"Classifies pictures into {what}: a head trained by {made.method} on {target.path.name}."
    files = ((ARCHIVED_AS, hashes),)
    return About(path.stem, description, made.labels, target.normalisation, target.metadata.licence, files)


def _write(path: Path, content: bytes) -> None:
    """Replace the file at once, so that nobody reads a half-written model. Raises UsageError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            partial.write_bytes(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def agreement(
    path: Path, seen: Sequence[tuple[Picture, NDArray[np.float32]]], fit: Fit, crop_fraction: float, threads: int
) -> float:
    """Return the greatest difference between the file's scores and those in `seen`, on up to 16 pictures.

    Raises InferenceError when it is above 0.001.
    """
    bundle = load_bundle(path)
    classifier = make_classifier(bundle, "cpu", threads)
    prepare = Preprocessor(bundle.input, bundle.normalisation, fit=fit, crop_fraction=crop_fraction)
    worst = 0.0
    for picture, expected in seen[:: -(-len(seen) // _CHECKED)]:
        scores = classifier.classify(prepare(read_image(picture.path))).confidences
        worst = max(worst, float(np.abs(scores - expected).max()))
    classifier.close()
    if worst > _AGREEMENT:
        raise InferenceError(
            f"{path}: its scores in {classifier.runtime} differ by up to {worst:.4f} from the trained head; "
            "do not use it, and report this"
        )
    return worst
