"""Adds a picture to the store, and removes pictures for ever; every function runs inside the caller's transaction."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import shortened
from edge_classifierd.teaching import steps
from edge_classifierd.teaching.groups import group_of
from edge_classifierd.teaching.ingest import TOO_SIMILAR_BITS, distances
from edge_classifierd.teaching.records import TO_SORT, Added, NotTaughtError, StoreFullError
from edge_classifierd.teaching.rows import living_class

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from edge_classifierd.events.ulid import UlidGenerator
    from edge_classifierd.teaching.database import TeachingDatabase
    from edge_classifierd.teaching.ingest import EncodedPicture
    from edge_classifierd.teaching.records import Guess, PictureSource
    from edge_classifierd.teaching.rows import ModelTransaction

MOST_PICTURES_OF_A_MODEL: Final = 5000
MOST_PICTURES: Final = 20_000
MOST_BYTES: Final = 2_000_000_000
LEAST_FREE_BYTES: Final = 200_000_000
"""What adding pictures leaves free on the disk, for the events."""
SAME_RECORDING_MS: Final = 60_000
"""Pictures of one source within this time are one recording."""
_ON_PURPOSE: Final = frozenset({"camera", "upload"})
"""The sources whose recordings are one step: a burst, or the files of one upload."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A picture that may be kept."""

    encoded: EncodedPicture
    class_id: str | None
    source: PictureSource
    captured_ms: int
    recording: str | None
    pipeline: str | None
    guess: Guess | None
    origin: str | None


def add(database: TeachingDatabase, within: ModelTransaction, offer: Offer, ulids: UlidGenerator) -> Added:
    """Keep a picture unless it is too similar to one of its class."""
    connection = within.connection
    if offer.class_id is not None:
        living_class(connection, within.model, offer.class_id)
    again = _offered_before(within, offer)
    if again is not None:
        return again
    refuse_when_full(database, within)
    others = connection.execute(
        "SELECT id, hash, look, guess, class IS ? AND binned_ms IS NULL FROM pictures WHERE model = ?",
        (offer.class_id, within.model),
    ).fetchall()
    bits = distances(offer.encoded.hash, [one[1] for one in others])
    recording = _recording(within, offer, ulids)
    like = next((one[0] for one, bit in zip(others, bits, strict=True) if one[4] and bit < TOO_SIMILAR_BITS), None)
    if like is not None:
        return Added(kept=False, like=like, recording=recording)
    picture = ulids.new()
    guess = offer.guess
    look = group_of(bits, [(one[2], one[3]) for one in others], None if guess is None else guess.label) or picture
    database.write_picture(within.name, picture, offer.encoded.jpeg)
    connection.execute(
        "INSERT INTO pictures VALUES (?, ?, ?, NULL, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            picture, within.model, offer.class_id, recording, look, offer.source, offer.origin, offer.captured_ms,
            within.now_ms, within.now_ms, len(offer.encoded.jpeg) + len(offer.encoded.thumbnail), offer.encoded.hash,
            None if guess is None else guess.label, None if guess is None else guess.confidence,
        ),
    )  # fmt: skip
    connection.execute("INSERT INTO thumbnails VALUES (?, ?)", (picture, offer.encoded.thumbnail))
    step = _step(within, offer, recording)
    if step is not None:
        steps.note_added(connection, step, picture, offer.class_id)
    return Added(kept=True, id=picture, recording=recording, step=step)


def recording_for(
    within: ModelTransaction,
    ulids: UlidGenerator,
    source: PictureSource,
    *,
    pipeline: str | None,
    class_id: str | None,
    moment_ms: int,
) -> str:
    """Return the recording that a picture belongs to; a new one if none of its kind is within 60 s.

    Recordings of a camera and uploads go on while pictures come. Events and collected pictures form recordings of
    60 s, whatever their class, by the time at which they were taken (`moment_ms`).
    """
    on_purpose = source in _ON_PURPOSE
    kind = (within.model, source, pipeline, class_id if on_purpose else None)
    row = within.connection.execute(
        "SELECT id FROM recordings WHERE model = ?1 AND source = ?2 AND pipeline IS ?3 AND class IS ?4"
        " AND CASE WHEN ?5 THEN last_ms ELSE began_ms END BETWEEN ?6 - ?7 AND ?6 + ?7 ORDER BY id DESC LIMIT 1",
        (*kind, on_purpose, moment_ms, SAME_RECORDING_MS),
    ).fetchone()
    if row is not None:
        within.connection.execute("UPDATE recordings SET last_ms = max(last_ms, ?) WHERE id = ?", (moment_ms, row[0]))
        return str(row[0])
    recording = ulids.new()
    within.connection.execute(
        "INSERT INTO recordings (id, model, source, pipeline, class, began_ms, last_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (recording, *kind, moment_ms, moment_ms),
    )
    return recording


def refuse_when_full(database: TeachingDatabase, within: ModelTransaction, more: int = 1, size: int = 0) -> None:
    """Raise StoreFullError when `more` pictures of `size` bytes do not fit."""
    own = within.connection.execute("SELECT count(*) FROM pictures WHERE model = ?", (within.model,)).fetchone()[0]
    count, used = within.connection.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM pictures").fetchone()
    free = shutil.disk_usage(database.folder).free
    remedy = "remove pictures and empty the bin, or delete a model"
    if own + more > MOST_PICTURES_OF_A_MODEL:
        raise StoreFullError(f"{within.name}: a model has at most {MOST_PICTURES_OF_A_MODEL:,} pictures; {remedy}")
    if count + more > MOST_PICTURES or used + size >= MOST_BYTES:
        most = f"{MOST_PICTURES:,} pictures and {MOST_BYTES // 1_000_000_000} GB"
        raise StoreFullError(f"the store is full: all models together have at most {most}; {remedy}")
    if free - size < LEAST_FREE_BYTES:
        raise StoreFullError(f"the disk is nearly full: {free // 1_000_000} MB are free; {remedy}, or free disk space")


def remove_binned(connection: sqlite3.Connection, model: int | None, before_ms: int | None) -> list[tuple[str, str]]:
    """Remove the rows of pictures in the bin, and return model and identifier of each, whose files remain.

    Args:
        connection: Inside a transaction.
        model: The model's key; None: all models.
        before_ms: Only pictures that were moved there before this time; None: all.
    """
    gone: list[tuple[str, str]] = connection.execute(
        "SELECT models.name, pictures.id FROM pictures JOIN models ON models.id = model"
        " WHERE binned_ms IS NOT NULL AND (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR binned_ms < ?2)",
        (model, before_ms),
    ).fetchall()
    connection.executemany("DELETE FROM pictures WHERE id = ?", [(picture,) for _, picture in gone])
    return gone


def unlink(database: TeachingDatabase, gone: Iterable[tuple[str, str]]) -> None:
    """Remove the files of removed rows; what fails is removed at the next start."""
    for name, picture in gone:
        with contextlib.suppress(OSError):
            (database.pictures_folder(name) / f"{picture}.jpg").unlink(missing_ok=True)


def _offered_before(within: ModelTransaction, offer: Offer) -> Added | None:
    """Return the picture of the same origin, None without one. That of an event moves to the offered place."""
    if offer.origin is None:
        return None
    row = within.connection.execute(
        "SELECT id, recording FROM pictures WHERE model = ? AND origin = ?", (within.model, offer.origin)
    ).fetchone()
    if row is None:
        return None
    step = steps.move(within, [row[0]], offer.class_id or TO_SORT) if offer.source == "event" else None
    return Added(kept=True, id=row[0], recording=row[1], step=step)


def _step(within: ModelTransaction, offer: Offer, recording: str) -> int | None:
    """Return the step that an added picture belongs to; collected ones come by themselves and belong to none."""
    if offer.source == "collected":
        return None
    if offer.source in _ON_PURPOSE:
        return steps.step_of_recording(within, recording)
    return steps.new_step(within)


def _recording(within: ModelTransaction, offer: Offer, ulids: UlidGenerator) -> str:
    """Return the recording of an offered picture. Raises NotTaughtError."""
    if offer.recording is None:
        moment_ms = within.now_ms if offer.source in _ON_PURPOSE else offer.captured_ms
        return recording_for(
            within, ulids, offer.source, pipeline=offer.pipeline, class_id=offer.class_id, moment_ms=moment_ms
        )
    changed = within.connection.execute(
        "UPDATE recordings SET last_ms = max(last_ms, ?) WHERE id = ? AND model = ?",
        (within.now_ms, offer.recording, within.model),
    ).rowcount
    if not changed:
        raise NotTaughtError(f"{shortened(offer.recording)}: there is no such recording; begin a new one")
    return offer.recording
