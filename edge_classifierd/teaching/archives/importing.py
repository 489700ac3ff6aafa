"""Makes a model from a zip archive of pictures: all of it, or nothing after an interruption at any moment.

The pictures are written to a folder of their own, which is locked while the import runs. One transaction then adds all
rows and notes that the folder gets the model's name; the renaming follows, or is done by the next process that writes.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from edge_classifierd.errors import SourceError, UsageError, shortened
from edge_classifierd.state_file import lock_alone
from edge_classifierd.teaching.adding import MOST_BYTES, MOST_PICTURES_OF_A_MODEL, refuse_when_full
from edge_classifierd.teaching.archives.export import INDEX
from edge_classifierd.teaching.archives.reader import ArchivedPicture, open_archive
from edge_classifierd.teaching.classes import MOST_CLASSES, insert_class_row
from edge_classifierd.teaching.database import IMPORT_PREFIX
from edge_classifierd.teaching.groups import group_of
from edge_classifierd.teaching.ingest import MOST_BYTES as MOST_PICTURE_BYTES
from edge_classifierd.teaching.ingest import distances, encode
from edge_classifierd.teaching.records import UNKNOWN, checked_class_name, folded, slug_for
from edge_classifierd.teaching.rows import milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.events.ulid import UlidGenerator
    from edge_classifierd.teaching.archives.reader import PictureArchive
    from edge_classifierd.teaching.database import TeachingDatabase
    from edge_classifierd.teaching.rows import ModelTransaction

_SIDES: Final = {frozenset({True}): "held", frozenset({False}): "learn", frozenset({True, False}): "split"}


@dataclass(frozen=True, slots=True)
class _Imported:
    """A picture whose file is written."""

    id: str
    archived: ArchivedPicture
    hash: bytes
    thumbnail: bytes
    bytes: int


class Import:
    """One import; used as a context, at whose end the temporary folder is gone or has become the model's."""

    def __init__(self, database: TeachingDatabase, ulids: UlidGenerator) -> None:
        """Create the object; nothing is written."""
        self._database = database
        self._ulids = ulids
        self._folder = database.folder / f"{IMPORT_PREFIX}{ulids.new()}"
        self._lock = -1
        self._pictures: list[_Imported] = []
        self.stored = False
        """Set once the rows are on the disk: the folder is the model's from then on."""
        self.refused: list[str] = []
        """A sentence for each picture that could not be decoded."""

    def __enter__(self) -> Self:
        """Make and lock the temporary folder. Raises TeachingError."""
        try:
            with self._database.translated():
                self._database.make_folder(self._folder / "pictures")
                self._database.own(self._folder)
                self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                lock_alone(self._lock)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the temporary folder, unless it has become the model's."""
        if not self.stored:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)

    def read(self, file: Path, progress: Callable[[str, int, int], None]) -> PictureArchive:
        """Check an archive, decode all its pictures and write them to the temporary folder.

        Raises UsageError or SourceError when the archive, or every picture in it, is not accepted; TeachingError when
        a picture cannot be written.
        """
        if os.path.exists(file) and not os.path.isfile(file):  # noqa: PTH110, PTH113 - Path's raise in a closed folder
            raise UsageError(f"{file}: not a regular file; save the zip archive to a file first")
        opened, reader = open_archive(file, most_pictures=MOST_PICTURES_OF_A_MODEL, most_bytes=MOST_BYTES)
        with opened:
            content = _checked(reader.content, str(file))
            for number, archived in enumerate(content.pictures, 1):
                try:
                    _refuse_large(reader.size(archived), archived.file)
                    encoded = encode(reader.read(archived), name=archived.file, keep=True)
                except SourceError as error:
                    self.refused.append(f"{file}: {error}")
                else:
                    self._write(archived, encoded.jpeg, encoded.thumbnail, encoded.hash)
                progress("reading pictures", number, len(content.pictures))
        if not self._pictures:
            raise SourceError(self.refused[0])
        os.sync()
        return content

    def refuse_when_full(self, within: ModelTransaction) -> None:
        """Raise StoreFullError when the pictures do not fit."""
        size = sum(one.bytes for one in self._pictures)
        refuse_when_full(self._database, within, more=len(self._pictures), size=size)

    def insert(self, within: ModelTransaction, content: PictureArchive) -> None:
        """Add the rows of classes, recordings and pictures to a new model, and note the renaming of the folder."""
        classes = self._insert_classes(within, content)
        recordings = self._insert_recordings(within)
        looks: list[tuple[str, str | None]] = []
        hashes: list[bytes] = []
        for one in self._pictures:
            guess = one.archived.guess
            label = None if guess is None else guess.label
            look = group_of(distances(one.hash, hashes), looks, label) or one.id
            looks.append((look, label))
            hashes.append(one.hash)
            captured_ms = within.now_ms if one.archived.captured is None else milliseconds(one.archived.captured)
            within.connection.execute(
                "INSERT INTO pictures VALUES (?, ?, ?, NULL, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?)",
                (
                    one.id, within.model, classes.get(one.archived.class_name or ""),
                    recordings[one.archived.recording], look, one.archived.held_out, one.archived.source, captured_ms,
                    within.now_ms, within.now_ms, one.bytes, one.hash, label,
                    None if guess is None else guess.confidence,
                ),
            )  # fmt: skip
            within.connection.execute("INSERT INTO thumbnails VALUES (?, ?)", (one.id, one.thumbnail))
        within.connection.execute("INSERT OR REPLACE INTO folders VALUES (?, ?)", (self._folder.name, within.name))

    def _write(self, archived: ArchivedPicture, jpeg: bytes, thumbnail: bytes, bits: bytes) -> None:
        picture = self._ulids.new()
        path = self._folder / "pictures" / f"{picture}.jpg"
        with self._database.translated():
            path.write_bytes(jpeg)
            self._database.own(path)
        self._pictures.append(_Imported(picture, archived, bits, thumbnail, len(jpeg) + len(thumbnail)))

    def _insert_classes(self, within: ModelTransaction, content: PictureArchive) -> dict[str, str]:
        """Return the identifier of each class by its name; the class `unknown` is always there."""
        named = [*content.slugs, *(one.class_name for one in content.pictures if one.class_name)]
        found: dict[str, str] = {}
        if len({UNKNOWN, *named}) > MOST_CLASSES:
            raise UsageError(f"{within.name}: a model has at most {MOST_CLASSES} classes; leave folders out")
        taken = frozenset({UNKNOWN, *content.slugs.values()})
        for name in dict.fromkeys([UNKNOWN, *named]):
            slug = UNKNOWN if name == UNKNOWN else content.slugs.get(name) or slug_for(name, taken)
            taken |= {slug}
            found[name] = self._ulids.new()
            insert_class_row(within, found[name], slug, name)
        return found

    def _insert_recordings(self, within: ModelTransaction) -> dict[str, str]:
        """Return the new identifier of each recording of the archive."""
        found: dict[str, str] = {}
        recorded: dict[str, list[ArchivedPicture]] = {}
        for one in self._pictures:
            recorded.setdefault(one.archived.recording, []).append(one.archived)
        for archived, own in recorded.items():
            found[archived] = self._ulids.new()
            sides = frozenset(one.held_out for one in own if one.held_out is not None)
            within.connection.execute(
                "INSERT INTO recordings (id, model, source, began_ms, last_ms, side) VALUES (?, ?, ?, 0, 0, ?)",
                (found[archived], within.model, own[0].source, _SIDES.get(sides)),
            )
        return found


def _refuse_large(size: int, name: str) -> None:
    if size > MOST_PICTURE_BYTES:
        raise SourceError(f"{name}: larger than {MOST_PICTURE_BYTES // 1_000_000} MB; scale it down")


def _checked(content: PictureArchive, file: str) -> PictureArchive:
    """Return the archive with the names of classes in `index.json` in their normal form. Raises UsageError."""
    slugs: dict[str, str] = {}
    for name, slug in content.slugs.items():
        try:
            normal = checked_class_name(name)
        except UsageError as error:
            raise UsageError(f"{file}: {INDEX}: the class `{slug}`: {error}") from error
        slugs[UNKNOWN if folded(normal) == UNKNOWN else normal] = slug
    names = slugs.keys() | {one.class_name for one in content.pictures if one.class_name}
    if len(slugs) < len(content.slugs) or len({folded(one) for one in names}) < len(names):
        raise UsageError(f"{file}: {INDEX}: two classes have the same name; rename one")
    for one in content.pictures:
        if one.guess is not None and any("\ud800" <= letter <= "\udfff" for letter in one.guess.label):
            shown = shortened(one.guess.label)
            raise UsageError(f"{file}: {INDEX}: `{one.file}`: the guess `{shown}` is no valid text; leave it out")
    return replace(content, slugs=slugs)
