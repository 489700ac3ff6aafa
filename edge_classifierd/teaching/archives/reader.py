"""Reads a zip archive of pictures, which may come from anybody: every bound is checked before memory is taken.

Accepted are archives that `teach export` wrote, and ones made by hand with the folders `train/CLASS/` and
`held-out/CLASS/`, or one folder for each class. No name in the archive becomes part of a path.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, get_args

from edge_classifierd.errors import UsageError, shortened
from edge_classifierd.frames.image import IMAGE_SUFFIXES
from edge_classifierd.teaching.archives.export import FORMAT, HELD_OUT, INDEX, SORT, TRAIN
from edge_classifierd.teaching.ingest import MOST_BYTES
from edge_classifierd.teaching.records import (
    LONGEST_NAME,
    UNKNOWN,
    Guess,
    PictureSource,
    checked_class_name,
    folded,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

_MOST_DIRECTORY_BYTES: Final = 2_000_000
_MOST_INDEX_BYTES: Final = 4_000_000
_COMPRESSIONS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # others could take much memory
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    OSError,
)
_LEFT_OUT: Final = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_ENCRYPTED: Final = 1
_END, _ZIP64_LOCATOR = b"PK\5\6", b"PK\6\7"
_END_BYTES, _LOCATOR_BYTES = 22, 20


@dataclass(frozen=True, slots=True)
class ArchivedPicture:
    """A picture of an archive, not read yet."""

    file: str
    class_name: str | None
    """None: to sort."""
    held_out: bool | None
    """None while it is not decided."""
    recording: str
    """Pictures of one recording share it; it is a text of the archive."""
    source: PictureSource = "upload"
    captured: datetime | None = None
    guess: Guess | None = None


@dataclass(frozen=True, slots=True)
class PictureArchive:
    """A checked archive."""

    pictures: tuple[ArchivedPicture, ...]
    slugs: dict[str, str] = field(default_factory=dict)
    """The slug of each class by its name, as far as the archive has them."""
    pipeline: str | None = None


class ArchiveReader:
    """An open archive. Every method raises UsageError, one sentence, for content that is not accepted."""

    def __init__(self, file: BinaryIO, name: str, *, most_pictures: int, most_bytes: int) -> None:
        """Check the sizes and names of everything in the archive; no picture is read.

        Args:
            file: The archive.
            name: Names it in messages.
            most_pictures: How many pictures it may hold.
            most_bytes: Size of all its files together.
        """
        self._name = name
        self._bounds = most_pictures, most_bytes
        _check_directory_size(file, name)
        try:
            self._zip = zipfile.ZipFile(file)
        except _DAMAGED as error:
            raise UsageError(f"{name}: damaged zip archive ({error}); copy it again") from error
        self.content = self._checked()

    def read(self, picture: ArchivedPicture) -> bytes:
        """Return the bytes of a picture."""
        return self._read(picture.file, MOST_BYTES)

    def _checked(self) -> PictureArchive:
        paths = [*self._paths()]
        roots = {path.parts[0] for path in paths if path.name != INDEX or len(path.parts) > 1}
        inside = len(roots) == 1 and not roots & {TRAIN, HELD_OUT, SORT} and all(len(path.parts) != 2 for path in paths)
        root = f"{next(iter(roots))}/" if inside else ""
        index = self._index(f"{root}{INDEX}") if f"{root}{INDEX}" in self._zip.NameToInfo else {}
        known = {str(one.get("file")): one for one in _objects(index.get("pictures"))}
        pictures = tuple(
            self._picture(str(path), str(path).removeprefix(root), known)
            for path in paths
            if str(path) != f"{root}{INDEX}"
        )
        if not pictures:
            raise UsageError(f"{self._name}: holds no pictures; put them into folders train/CLASS and held-out/CLASS")
        pipeline = index.get("pipeline")
        slugs = {
            one["name"]: one["slug"]
            for one in _objects(index.get("classes"))
            if isinstance(one.get("name"), str) and re.fullmatch(r"[a-z0-9_-]{1,64}", str(one.get("slug")))
        }
        if len(set(slugs.values())) < len(slugs) or any((slugs[one] == UNKNOWN) != (one == UNKNOWN) for one in slugs):
            raise UsageError(f"{self._name}: {INDEX} gives two classes the same slug; export it again")
        self._refuse_double_names({one.class_name for one in pictures if one.class_name} | slugs.keys())
        usable = isinstance(pipeline, str) and re.fullmatch(r"[a-z0-9_-]{1,64}", pipeline) is not None
        return PictureArchive(pictures, slugs, pipeline if usable else None)

    def _paths(self) -> Iterator[PurePosixPath]:
        """Yield the files that matter. Raises UsageError for a name or size that is not accepted."""
        most_pictures, most_bytes = self._bounds
        infos = [one for one in self._zip.infolist() if not one.filename.endswith("/")]
        if len(infos) > 2 * most_pictures or sum(one.file_size for one in infos) > most_bytes:
            most = f"{most_pictures:,} pictures and {most_bytes / 1e9:.0f} GB"
            raise UsageError(f"{self._name}: too large; a model has at most {most}")
        seen: set[str] = set()
        for one in infos:
            path, shown = PurePosixPath(one.filename), shortened(one.filename, 100)
            parts = one.filename.split("/")
            if {"", ".", ".."} & {*parts} or "\\" in one.filename or one.filename in seen:
                raise UsageError(f"{self._name}: `{shown}`: only plain file names that occur once are accepted")
            seen.add(one.filename)
            if any(part[0] == "." or part in _LEFT_OUT for part in parts):
                continue
            if path.name != INDEX and path.suffix.lower() not in IMAGE_SUFFIXES:
                raise UsageError(f"{self._name}: `{shown}` is no picture; leave it out")
            if one.compress_type not in _COMPRESSIONS or one.flag_bits & _ENCRYPTED:
                raise UsageError(
                    f"{self._name}: `{shown}` is encrypted or unusually compressed; make a plain zip archive"
                )
            yield path
        if len(seen) > most_pictures + 1:
            raise UsageError(f"{self._name}: {len(seen):,} files are too many; a model has at most {most_pictures:,}")

    def _picture(self, file: str, place: str, known: dict[str, dict[str, Any]]) -> ArchivedPicture:
        parts = place.split("/")
        held_out = {TRAIN: False, HELD_OUT: True}.get(parts[0])
        class_parts = parts[:-1] if held_out is None else parts[1:-1]
        if parts[0] == SORT and len(parts) == 2:
            class_name = None
        elif len(class_parts) == 1 and parts[0] != SORT and len(class_parts[0]) <= LONGEST_NAME:
            class_name = checked_class_name(class_parts[0])
            class_name = UNKNOWN if folded(class_name) == UNKNOWN else class_name
        else:
            shown = shortened(file, 100)
            raise UsageError(f"{self._name}: `{shown}` is in no class; name folders train/CLASS and held-out/CLASS")
        noted = known.get(place, {})
        source: PictureSource = next((one for one in get_args(PictureSource) if one == noted.get("source")), "upload")
        return ArchivedPicture(
            file=file,
            class_name=class_name,
            held_out=held_out,
            recording=str(noted.get("recording") or f"{parts[0]}/{class_name}")[:100],
            source=source,
            captured=_moment(noted.get("captured")),
            guess=_guess(noted.get("guess")),
        )

    def _index(self, file: str) -> dict[str, Any]:
        remedy = "export it again, or leave it out"
        try:
            index = json.loads(self._read(file, _MOST_INDEX_BYTES))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self._name}: {INDEX} is damaged; {remedy}") from error
        if not isinstance(index, dict) or index.get("format") != FORMAT or index.get("version") != 1:
            raise UsageError(f"{self._name}: {INDEX} is not one that this version wrote; {remedy}")
        return index

    def _read(self, file: str, most_bytes: int) -> bytes:
        shown = shortened(file, 100)
        try:
            with self._zip.open(file) as opened:
                content = opened.read(most_bytes + 1)
        except _DAMAGED as error:
            raise UsageError(f"{self._name}: `{shown}` is damaged ({error}); copy the archive again") from error
        if len(content) > most_bytes:
            raise UsageError(
                f"{self._name}: `{shown}` has more than {most_bytes // 1_000_000} MB; scale it down or leave it out"
            )
        return content

    def _refuse_double_names(self, names: set[str]) -> None:
        first: dict[str, str] = {}
        for name in sorted(names):
            other = first.setdefault(folded(name), name)
            if other != name:
                raise UsageError(f"{self._name}: the classes `{other}` and `{name}` differ in case only; rename one")


def open_archive(file: Path, *, most_pictures: int, most_bytes: int) -> tuple[BinaryIO, ArchiveReader]:
    """Open and check an archive; the caller closes the file. Raises UsageError."""
    try:
        opened = file.open("rb")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; give a zip archive") from error
    try:
        return opened, ArchiveReader(opened, str(file), most_pictures=most_pictures, most_bytes=most_bytes)
    except BaseException:
        opened.close()
        raise


def _check_directory_size(file: BinaryIO, name: str) -> None:
    """Raise UsageError unless the archive ends with a plain directory of a bounded size; `zipfile` reads it whole."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_BYTES - _LOCATOR_BYTES))
    end = file.read()
    record, before = end[-_END_BYTES:], end[:-_END_BYTES]
    if len(record) < _END_BYTES or record[:4] != _END or record[-2:] != b"\0\0":
        raise UsageError(f"{name}: no complete zip archive, or one with a comment; make or copy it again")
    if before[:4] == _ZIP64_LOCATOR or int.from_bytes(record[12:16], "little") > _MOST_DIRECTORY_BYTES:
        raise UsageError(f"{name}: holds too many files; give an archive of one model's pictures")


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _guess(value: object) -> Guess | None:
    label, confidence = (value.get("label"), value.get("confidence")) if isinstance(value, dict) else (None, None)
    if isinstance(label, str) and isinstance(confidence, int | float) and 0 <= confidence <= 1:
        return Guess(label[:200], float(confidence))
    return None


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        return None if moment is None or moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
