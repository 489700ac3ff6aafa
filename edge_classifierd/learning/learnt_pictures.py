"""Stores in a model which pictures it was trained on, as short hashes of their files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import ModelError
from edge_classifierd.model.archive import Archive
from edge_classifierd.model.bundle import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ARCHIVED_AS: Final = "learnt_pictures.bin"
_BYTES: Final = 8
"""Of each SHA-256; among 100,000 pictures two share them with a probability of 1 in 3,000,000,000."""


def picture_hash(path: Path) -> bytes:
    """Return the first 8 bytes of the SHA-256 of a file's content; empty when the file does not exist any more."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()[:_BYTES]
    except OSError:
        return b""


def packed(hashes: Iterable[bytes]) -> bytes:
    """Return hashes as they are stored, sorted and without repetitions."""
    return b"".join(sorted(set(hashes)))


def learnt_by(model: Path) -> frozenset[bytes]:
    """Return the hashes of the pictures a `.tflite` was trained on; none when the model does not contain them.

    A damaged archive gives none too, because its model can be used with a label file.
    """
    try:
        archive = Archive(read_regular_file(model, "a TensorFlow Lite model"))
        content = archive.read(ARCHIVED_AS) if ARCHIVED_AS in archive.names else b""
    except ModelError:
        return frozenset()
    return frozenset(content[at : at + _BYTES] for at in range(0, len(content), _BYTES))
