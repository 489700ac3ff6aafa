"""Takes over the pictures that `collect` has kept of a pipeline, to be sorted."""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.errors import SourceError
from edge_classifierd.pipeline.collector import read_note
from edge_classifierd.teaching.ingest import MOST_BYTES
from edge_classifierd.teaching.records import Guess

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.teaching.store import TeachingStore

_log = logging.getLogger(__name__)

_PATTERN: Final = "*/*.jpg"
"""One folder for each label, see `pipeline.collector`."""


def collected_pictures(folder: Path) -> list[Path]:
    """Return what is in a pipeline's folder of collected pictures, the newest first."""
    found = []
    for file in folder.glob(_PATTERN):
        with contextlib.suppress(OSError):  # the collector removes the oldest
            found.append((file.stat().st_mtime_ns, file))
    return [file for _, file in sorted(found, reverse=True)]


def take_over(store: TeachingStore, model: str, pipeline: str, folder: Path, most: int) -> tuple[int, int]:
    """Add collected pictures to those of a model that are to be sorted, and remove them from their folder.

    Args:
        store: The store.
        model: The taught model.
        pipeline: The pipeline that has collected them.
        folder: Its folder.
        most: How many to take, the newest first.

    Returns:
        How many were taken, and how many are left.

    Raises:
        StoreFullError: There is no room for more.
        EdgeClassifierError: The store failed.
    """
    files = collected_pictures(folder)
    taken = 0
    for file in files:
        if taken == most:
            break
        with contextlib.suppress(OSError):
            taken += _take(store, model, pipeline, file)
    return taken, len(files) - taken


def _take(store: TeachingStore, model: str, pipeline: str, file: Path) -> bool:
    """Take one picture; return whether it was one. Raises OSError."""
    if file.stat().st_size > MOST_BYTES:
        return False
    jpeg = file.read_bytes()
    note = read_note(jpeg) or {}
    origin = f"{pipeline}/{file.name}"
    try:
        store.add_picture(
            model,
            class_id=None,
            picture=jpeg,
            source="collected",
            captured=_time(note, file),
            pipeline=pipeline,
            guess=_guess(note),
            origin=origin,
        )
    except SourceError as error:
        _log.warning("%s: %s", file, error)
        return False
    file.unlink(missing_ok=True)
    return True


def _time(note: dict[str, Any], file: Path) -> datetime:
    with contextlib.suppress(KeyError, TypeError, ValueError):
        moment = datetime.fromisoformat(note["time"])
        if moment.tzinfo is not None:
            return moment
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _guess(note: dict[str, Any]) -> Guess | None:
    """Return the best label in a note; it may be missing or of another program."""
    with contextlib.suppress(LookupError, TypeError, ValueError):
        best = note["top"][0]
        return Guess(str(best["label"])[:200], min(1.0, max(0.0, float(best["confidence"]))))
    return None
