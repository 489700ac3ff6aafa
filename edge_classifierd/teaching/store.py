"""The pictures and classes of the models that are taught on this device."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import UsageError
from edge_classifierd.events.ulid import is_ulid
from edge_classifierd.teaching import adding, steps
from edge_classifierd.teaching.archives.export import chunks, entries
from edge_classifierd.teaching.archives.importing import Import
from edge_classifierd.teaching.held_out import assign_sides, sides_are_decided
from edge_classifierd.teaching.ingest import encode
from edge_classifierd.teaching.model_store import ModelStore
from edge_classifierd.teaching.records import (
    BIN,
    Added,
    TaughtModel,
    TaughtPicture,
    TrainingPictures,
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
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    import av

    from edge_classifierd.clock import Clock
    from edge_classifierd.preprocess import View
    from edge_classifierd.teaching.records import Guess, PictureSource

BIN_KEEPS: Final = timedelta(days=7)
_PURGE_EVERY_S: Final = 3600.0
_LEAST_LEARNT: Final = 2


class TeachingStore(ModelStore):
    """All taught models of a state directory. Thread-safe; the daemon and commands may use it at the same time.

    Every method raises TeachingError when the disk or the index fails; then nothing was changed. Those that name
    a model, a class or a recording raise NotTaughtError when it is not there. All these are one sentence for people.
    """

    def __init__(self, state: Path, clock: Clock) -> None:
        """Create the object; nothing is read or written. `state` is the daemon's state directory."""
        super().__init__(state, clock)
        self._purge_s = 0.0

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
            origin: Identifies an event or a collected picture. Offered again, an event moves to the class, and a
                collected picture stays where it is.

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

    # Archives

    def export(self, model: str) -> Iterator[bytes]:
        """Return the parts of a zip archive of the model's pictures, each read when it is needed.

        Decides the side of pictures that have none yet. The pictures in the bin are left out.
        """
        folder = self._database.pictures_folder(model)
        with self._database.reading() as connection:  # a disk that is full or read-only can still be saved
            number = model_number(connection, model)
            assert connection is not None
            if sides_are_decided(connection, number):
                return chunks(*entries(ModelTransaction(connection, number, model, self._now_ms())), folder)
        with self._writing(model) as within:
            assign_sides(within.connection, within.model)
            return chunks(*entries(within), folder)

    def import_(
        self, file: Path, name: str, progress: Callable[[str, int, int], None] = lambda _what, _done, _of: None
    ) -> tuple[TaughtModel, tuple[str, ...]]:
        """Make a model from a zip archive; return it and sentences about what was left out.

        Raises UsageError, SourceError, NameTakenError or StoreFullError; then there is no new model.
        """
        checked_model_name(name)
        with self._database.writing() as connection:
            self._refuse_taken(connection, name)
        with Import(self._database, self._ulids) as running:
            content = running.read(file, progress)
            with self._database.writing() as connection:
                within = self._insert_model(connection, name, content.pipeline)
                running.refuse_when_full(within)
                running.insert(within, content)
            running.stored = True
            self._finish_folders()
        return self.model(name), (*content.left_out, *running.refused)

    def _purge(self) -> None:
        """Remove what has been in the bin for 7 days, once an hour, unless the wall clock may be wrong."""
        if self._clock.monotonic() < self._purge_s or not self._clock.synchronised():
            return
        self._purge_s = self._clock.monotonic() + _PURGE_EVERY_S
        with self._database.writing() as connection:
            gone = adding.remove_binned(connection, None, milliseconds(self._clock.utc() - BIN_KEEPS))
        adding.unlink(self._database, gone)
