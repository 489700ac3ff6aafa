"""The pictures and classes of the models that are taught on this device."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import UsageError
from edge_classifierd.events.ulid import UlidGenerator, is_ulid
from edge_classifierd.teaching import adding, steps
from edge_classifierd.teaching.classes import insert_class, rename_class
from edge_classifierd.teaching.database import TeachingDatabase
from edge_classifierd.teaching.held_out import assign_sides
from edge_classifierd.teaching.ingest import encode
from edge_classifierd.teaching.records import (
    BIN,
    UNKNOWN,
    Added,
    NameTakenError,
    TaughtClass,
    TaughtModel,
    TaughtPicture,
    TrainingPictures,
    checked_class_name,
    checked_model_name,
)
from edge_classifierd.teaching.rows import (
    ModelTransaction,
    living_class,
    milliseconds,
    model_number,
    read_models,
    read_pictures,
)
from edge_classifierd.teaching.training_pictures import read_training_pictures

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    import av

    from edge_classifierd.clock import Clock
    from edge_classifierd.preprocess import View
    from edge_classifierd.teaching.records import Guess, PictureSource

MOST_MODELS: Final = 50
BIN_KEEPS: Final = timedelta(days=7)
_PURGE_EVERY_S: Final = 3600.0
_LEAST_LEARNT: Final = 2


class TeachingStore:
    """All taught models of a state directory. Thread-safe; the daemon and commands may use it at the same time.

    Every method raises TeachingError when the disk or the index fails; then nothing was changed. Those that name
    a model, a class or a recording raise NotTaughtError when it is not there. All these are one sentence for people.
    """

    def __init__(self, state: Path, clock: Clock) -> None:
        """Create the object; nothing is read or written. `state` is the daemon's state directory."""
        self._database = TeachingDatabase(state)
        self._clock = clock
        self._ulids = UlidGenerator(clock)
        self._purge_s = 0.0

    def close(self) -> None:
        """Close the index."""
        self._database.close()

    def folder(self, model: str) -> Path:
        """Return the folder of a model, for its versions. Raises NotTaughtError."""
        with self._database.reading() as connection:
            model_number(connection, model)
        return self._database.folder / model

    # Models

    def models(self) -> tuple[TaughtModel, ...]:
        """Return all models by name."""
        with self._database.reading() as connection:
            return () if connection is None else read_models(connection)

    def model(self, name: str) -> TaughtModel:
        """Return a model. Raises NotTaughtError."""
        with self._database.reading() as connection:
            model_number(connection, name)
            assert connection is not None
            return read_models(connection, name)[0]

    def create(self, name: str, pipeline: str | None = None) -> TaughtModel:
        """Make a model with the class `unknown`. Raises UsageError for a bad name, NameTakenError."""
        checked_model_name(name)
        with self._database.writing() as connection:
            self._refuse_taken(connection, name)
            if connection.execute("SELECT count(*) FROM models").fetchone()[0] >= MOST_MODELS:
                raise UsageError(f"{name}: there are {MOST_MODELS} taught models already; delete one first")
            cursor = connection.execute(
                "INSERT INTO models (name, pipeline, made_ms) VALUES (?, ?, ?)", (name, pipeline, self._now_ms())
            )
            within = ModelTransaction(connection, int(cursor.lastrowid or 0), name, self._now_ms())
            insert_class(within, UNKNOWN, self._ulids)
        return self.model(name)

    def rename(self, name: str, new: str) -> None:
        """Rename a model and its folder. Raises UsageError for a bad name, NameTakenError."""
        checked_model_name(new)
        with self._database.writing() as connection:
            number = model_number(connection, name)
            self._refuse_taken(connection, new)
            connection.execute("UPDATE models SET name = ? WHERE id = ?", (new, number))
            connection.execute("INSERT OR REPLACE INTO folders VALUES (?, ?)", (name, new))
        with self._database.writing() as connection:
            self._database.finish_folders(connection)

    def set_pipeline(self, name: str, pipeline: str | None) -> None:
        """Set the pipeline whose camera the pictures of a model come from."""
        with self._database.writing() as connection:
            number = model_number(connection, name)
            connection.execute("UPDATE models SET pipeline = ? WHERE id = ?", (pipeline, number))

    def delete(self, name: str) -> None:
        """Delete a model with all its pictures and versions. This cannot be undone."""
        with self._database.writing() as connection:
            number = model_number(connection, name)
            connection.execute("DELETE FROM models WHERE id = ?", (number,))
            connection.execute("INSERT OR REPLACE INTO folders VALUES (?, NULL)", (name,))
        with self._database.writing() as connection:
            self._database.finish_folders(connection)

    # Classes

    def add_class(self, model: str, name: str) -> TaughtClass:
        """Add a class; its slug is made from the name and never changes. Raises UsageError, NameTakenError."""
        with self._writing(model) as within:
            class_id = insert_class(within, checked_class_name(name), self._ulids)
            return next(one for one in read_models(within.connection, model)[0].classes if one.id == class_id)

    def rename_class(self, model: str, class_id: str, name: str) -> None:
        """Change what people see of a class, not its slug. Raises UsageError, NameTakenError."""
        with self._writing(model) as within:
            rename_class(within, class_id, checked_class_name(name))

    def remove_class(self, model: str, class_id: str) -> int:
        """Remove a class, move its pictures to the bin, and return the step."""
        with self._writing(model) as within:
            return steps.remove_class(within, class_id)

    # Pictures

    def begin_recording(self, model: str, class_id: str | None, pipeline: str | None) -> str:
        """Return a recording of the camera; the last one of the class and pipeline if it ended within 60 s."""
        with self._writing(model) as within:
            if class_id is not None:
                living_class(within.connection, within.model, class_id)
            recording = adding.recording_for(
                within, self._ulids, "camera", pipeline=pipeline, class_id=class_id, moment_ms=within.now_ms
            )
            within.connection.execute("UPDATE recordings SET step = NULL WHERE id = ?", (recording,))
            return recording

    def end_recording(self, recording: str) -> int | None:
        """End a recording and return the step whose undoing takes back what was kept since `begin_recording`."""
        with self._database.writing() as connection:
            connection.execute("UPDATE recordings SET last_ms = ? WHERE id = ?", (self._now_ms(), recording))
            row = connection.execute("SELECT step FROM recordings WHERE id = ?", (recording,)).fetchone()
        return None if row is None else row[0]

    def add_picture(
        self,
        model: str,
        *,
        class_id: str | None,
        picture: bytes | av.VideoFrame,
        source: PictureSource,
        captured: datetime | None = None,
        view: View | None = None,
        recording: str | None = None,
        pipeline: str | None = None,
        guess: Guess | None = None,
        origin: str | None = None,
    ) -> Added:
        """Encode a picture and keep it, unless it is too similar to one of its class.

        Args:
            model: The model's name.
            class_id: The class; None puts it among those to sort.
            picture: A file's content, which may come from others, or a frame of a camera.
            source: Where it comes from.
            captured: When it was taken; None: now.
            view: How a frame is turned and cut.
            recording: What `begin_recording` returned. None: pictures of one source that arrive (or, of events and
                collected ones, were taken) within 60 s become one recording.
            pipeline: The pipeline that a picture without a recording comes from.
            guess: The class that a model proposed.
            origin: Identifies an event or a collected picture: offered again, it moves to the class instead.

        Raises:
            SourceError: It cannot be decoded, or is too large.
            StoreFullError: The model, the store or the disk is full.
        """
        encoded = encode(picture, view)
        offer = adding.Offer(
            encoded=encoded,
            class_id=class_id,
            source=source,
            captured_ms=milliseconds(captured or self._clock.utc()),
            recording=recording,
            pipeline=pipeline,
            guess=guess,
            origin=origin,
        )
        self._purge()
        with self._writing(model) as within:
            return adding.add(self._database, within, offer, self._ulids)

    def withdraw(self, model: str, origin: str) -> None:
        """Move the picture of an event or a collected one to the bin, if there is one."""
        with self._writing(model) as within:
            row = within.connection.execute(
                "SELECT id FROM pictures WHERE model = ? AND origin = ? AND binned_ms IS NULL", (within.model, origin)
            ).fetchone()
            if row is not None:
                steps.move(within, row, BIN)

    def pictures(self, model: str, where: str, after: str | None = None, limit: int = 200) -> list[TaughtPicture]:
        """Return pictures of a class, to sort (`to_sort`) or in the bin (`bin`), the newest first.

        Those to sort come in groups of look-alikes, the most uncertain group first.

        Args:
            model: The model's name.
            where: The identifier of a class, `to_sort` or `bin`.
            after: The last picture of the page before.
            limit: How many to return at most.
        """
        with self._database.reading() as connection:
            number = model_number(connection, model)
            assert connection is not None
            return read_pictures(connection, number, where, after, limit)

    def jpeg(self, model: str, picture: str, *, thumb: bool = False) -> bytes | None:
        """Return a picture or its thumbnail; None when there is none. Any text may be given for `picture`."""
        if not is_ulid(picture):
            return None
        with self._database.reading() as connection:
            number = model_number(connection, model)
            assert connection is not None
            row = connection.execute(
                "SELECT CASE WHEN ? THEN jpeg END FROM pictures JOIN thumbnails USING (id) WHERE id = ? AND model = ?",
                (thumb, picture, number),
            ).fetchone()
        if row is None or thumb:
            return None if row is None else row[0]
        with contextlib.suppress(FileNotFoundError):
            return (self._database.pictures_folder(model) / f"{picture}.jpg").read_bytes()
        return None

    def move(self, model: str, pictures: Sequence[str], to: str) -> int:
        """Move pictures to a class, `to_sort` or `bin`, and return the step."""
        self._purge()
        with self._writing(model) as within:
            return steps.move(within, pictures, to)

    def undo(self, model: str, step: int) -> int:
        """Take one of the newest 20 steps back; return how many pictures moved. Raises StepGoneError."""
        with self._writing(model) as within:
            return steps.undo(within, step)

    def empty_bin(self, model: str) -> int:
        """Remove the pictures in the bin for ever, and return their number."""
        with self._writing(model) as within:
            gone = adding.remove_binned(within.connection, within.model, None)
        adding.unlink(self._database, gone)
        return len(gone)

    # Training

    def training_set(self, model: str) -> TrainingPictures:
        """Return what to learn from and what is held out; decides the side of pictures that have none yet.

        Raises UsageError when a training needs more pictures.
        """
        with self._writing(model) as within:
            missing = read_models(within.connection, model)[0].missing
            if missing:
                raise UsageError(f"{model}: {missing}")
            assign_sides(within.connection, within.model)
            found = read_training_pictures(within, self._database.pictures_folder(model))
        for one in found.classes:
            if len(one.learn) < _LEAST_LEARNT:
                held = f"{len(one.held_out)} of its pictures are held out"
                raise UsageError(f"{one.name}: {held}, too few are left to learn from; record it once more")
        return found

    def corrections_since(self, model: str, moment: datetime) -> int:
        """Return how many pictures were put right since a time: events, collected ones, and those that were moved."""
        with self._database.reading() as connection:
            number = model_number(connection, model)
            assert connection is not None
            found = connection.execute(
                "SELECT count(*) FROM pictures WHERE model = ? AND binned_ms IS NULL AND class IS NOT NULL"
                " AND placed_ms > ? AND (source IN ('event', 'collected') OR placed_ms > added_ms)",
                (number, milliseconds(moment)),
            )
            return int(found.fetchone()[0])

    # Helpers

    def _now_ms(self) -> int:
        return milliseconds(self._clock.utc())

    @contextlib.contextmanager
    def _writing(self, model: str) -> Iterator[ModelTransaction]:
        with self._database.writing() as connection:
            yield ModelTransaction(connection, model_number(connection, model), model, self._now_ms())

    def _purge(self) -> None:
        """Remove what has been in the bin for 7 days, once an hour, unless the wall clock may be wrong."""
        if self._clock.monotonic() < self._purge_s or not self._clock.synchronised():
            return
        self._purge_s = self._clock.monotonic() + _PURGE_EVERY_S
        with self._database.writing() as connection:
            gone = adding.remove_binned(connection, None, milliseconds(self._clock.utc() - BIN_KEEPS))
        adding.unlink(self._database, gone)

    def _refuse_taken(self, connection: sqlite3.Connection, name: str) -> None:
        """Raise NameTakenError when there is a model or a folder of the name."""
        self._database.finish_folders(connection)
        if connection.execute("SELECT 1 FROM models WHERE name = ?", (name,)).fetchone():
            raise NameTakenError(f"{name}: there is a taught model of this name already; choose another name")
        folder = self._database.folder / name
        if folder.exists():
            raise NameTakenError(f"{name}: the folder {folder} is in the way; move it away or choose another name")
