"""Reads a zip archive of pictures, which may come from anybody: every bound is checked before memory is taken.

Accepted are archives that `teach export` wrote, and ones made by hand with the folders `train/CLASS/` and
`held-out/CLASS/`, or one folder for each class; all of it may be in a further folder. Files that are no pictures are
left out. No name in the archive becomes part of a path.
"""

from __future__ import annotations

import json
import re
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, get_args

from edge_classifierd.errors import UsageError, counted, shortened
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
    from collections.abc import Iterable
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
_OF_A_SYSTEM: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})
"""Files and folders that operating systems add; hidden ones are left out, too."""
_MEASURES: Final = frozenset({"val", "valid", "validation", "test", "testing"})
"""What other programs call the folder `held-out`."""
_ENCRYPTED, _UTF8 = 1, 1 << 11
_END, _ZIP64_LOCATOR, _ZIP64_END = b"PK\5\6", b"PK\6\7", b"PK\6\6"
_END_BYTES, _LOCATOR_BYTES, _ZIP64_END_BYTES = 22, 20, 56
_MOST_COMMENT_BYTES: Final = 0xFFFF
_LONGEST_PATH: Final = 1000  # normalising takes quadratic time


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
    left_out: tuple[str, ...] = ()
    """A sentence about the files that are no pictures, if there are any."""


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
        _check_directory_size(file, name)
        try:
            self._zip = zipfile.ZipFile(file)
        except _DAMAGED as error:
            raise UsageError(f"{name}: damaged zip archive ({error}); copy it again") from error
        self._files = self._listed()
        self.content = self._checked(most_pictures, most_bytes)

    def size(self, picture: ArchivedPicture) -> int:
        """Return how many bytes a picture has, as the archive says."""
        return self._files[picture.file].file_size

    def read(self, picture: ArchivedPicture) -> bytes:
        """Return the bytes of a picture."""
        return self._read(picture.file, MOST_BYTES)

    def _listed(self) -> dict[str, zipfile.ZipInfo]:
        """Return the files by their paths. Raises UsageError for a path that is not accepted."""
        remedy = "make the archive again from the folder of pictures"
        files: dict[str, zipfile.ZipInfo] = {}
        for one in self._zip.infolist():
            if len(one.filename) > _LONGEST_PATH:
                raise UsageError(f"{self._name}: `{shortened(one.filename)}` is too long a path; {remedy}")
            file = _path(one)
            if file.endswith("/"):
                continue
            parts, shown = file.split("/"), shortened(file, 100)
            if {"", ".", ".."} & {*parts} or parts[0].endswith(":"):
                raise UsageError(f"{self._name}: `{shown}` is not a plain path within the archive; {remedy}")
            if any(part[0] == "." or part.casefold() in _OF_A_SYSTEM for part in parts):
                continue
            if file in files:
                raise UsageError(f"{self._name}: `{shown}` is in the archive twice; {remedy}")
            files[file] = one
        return files

    def _checked(self, most_pictures: int, most_bytes: int) -> PictureArchive:
        files = [file for file in self._files if _suffix(file) in IMAGE_SUFFIXES]
        root = _outer_folder(files)
        index_file = f"{root}{INDEX}"
        others = _described(self._files.keys() - {*files, index_file})
        if not files:
            found = f", but {others}" if others else ""
            raise UsageError(
                f"{self._name}: holds no pictures{found}; put pictures into folders train/CLASS and held-out/CLASS"
            )
        if len(files) > most_pictures or sum(self._files[file].file_size for file in files) > most_bytes:
            most = f"{most_pictures:,} pictures and {most_bytes / 1e9:.0f} GB"
            raise UsageError(f"{self._name}: too large; a model has at most {most}")
        index = self._index(index_file) if index_file in self._files else {}
        known = {str(one.get("file")): one for one in _objects(index.get("pictures"))}
        pictures = tuple(self._picture(file, file.removeprefix(root), known) for file in files)
        slugs = self._slugs(index)
        self._refuse_double_names({one.class_name for one in pictures if one.class_name} | slugs.keys())
        pipeline = index.get("pipeline")
        usable = isinstance(pipeline, str) and re.fullmatch(r"[a-z0-9_-]{1,64}", pipeline) is not None
        left_out = (f"{self._name}: left out {others}",) if others else ()
        return PictureArchive(pictures, slugs, pipeline if usable else None, left_out)

    def _slugs(self, index: dict[str, Any]) -> dict[str, str]:
        slugs = {
            one["name"]: one["slug"]
            for one in _objects(index.get("classes"))
            if isinstance(one.get("name"), str) and re.fullmatch(r"[a-z0-9_-]{1,64}", str(one.get("slug")))
        }
        if len(set(slugs.values())) < len(slugs) or any((slugs[one] == UNKNOWN) != (one == UNKNOWN) for one in slugs):
            raise UsageError(f"{self._name}: {INDEX} gives two classes the same slug; export it again")
        return slugs

    def _picture(self, file: str, place: str, known: dict[str, dict[str, Any]]) -> ArchivedPicture:
        self._refuse_unusual(file)
        parts = place.split("/")
        held_out = {TRAIN: False, HELD_OUT: True}.get(parts[0])
        class_parts = parts[:-1] if held_out is None else parts[1:-1]
        if parts[0] == SORT and len(parts) == 2:
            class_name = None
        elif len(class_parts) == 1 and parts[0] != SORT:
            class_name = self._class_name(class_parts[0])
        else:
            remedy = "name folders train/CLASS and held-out/CLASS"
            if len(parts) == 3 and parts[0].casefold() in _MEASURES:
                remedy = f"rename the folder `{parts[0]}` to `{HELD_OUT}`, or leave it out"
            raise UsageError(f"{self._name}: `{shortened(file, 100)}` is in no class; {remedy}")
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

    def _class_name(self, folder: str) -> str:
        if len(folder.strip()) > LONGEST_NAME:
            remedy = f"rename the folder to at most {LONGEST_NAME} characters"
            raise UsageError(f"{self._name}: the class name `{shortened(folder)}` is too long; {remedy}")
        try:
            name = checked_class_name(folder)
        except UsageError as error:
            raise UsageError(f"{self._name}: {error}; rename the folder") from error
        return UNKNOWN if folded(name) == UNKNOWN else name

    def _index(self, file: str) -> dict[str, Any]:
        remedy = "export it again, or leave it out"
        self._refuse_unusual(file)
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
            with self._zip.open(self._files[file]) as opened:
                content = opened.read(most_bytes + 1)
        except _DAMAGED as error:
            raise UsageError(f"{self._name}: `{shown}` is damaged ({error}); copy the archive again") from error
        if len(content) > most_bytes:
            raise UsageError(
                f"{self._name}: `{shown}` has more than {most_bytes // 1_000_000} MB; scale it down or leave it out"
            )
        return content

    def _refuse_unusual(self, file: str) -> None:
        one = self._files[file]
        if one.compress_type not in _COMPRESSIONS or one.flag_bits & _ENCRYPTED:
            shown = shortened(file, 100)
            raise UsageError(f"{self._name}: `{shown}` is encrypted or unusually compressed; make a plain zip archive")

    def _refuse_double_names(self, names: set[str]) -> None:
        first: dict[str, str] = {}
        for name in sorted(names):
            other = first.setdefault(folded(name), name)
            if other != name:
                reason = "differ only in case, or in `_` and spaces; rename one"
                raise UsageError(f"{self._name}: the classes `{other}` and `{name}` {reason}")


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
    """Raise UsageError unless the archive ends with a directory of a bounded size; `zipfile` reads it whole.

    The last end record must end, with its comment, at the end of the file: `zipfile` then takes the same one.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _ZIP64_END_BYTES - _LOCATOR_BYTES - _END_BYTES - _MOST_COMMENT_BYTES))
    end = file.read()
    at = end.rfind(_END)
    complete = at >= 0 and at + _END_BYTES + int.from_bytes(end[at + 20 : at + 22], "little") == len(end)
    directory_bytes = int.from_bytes(end[at + 12 : at + 16], "little")
    before = end[: max(0, at)][-_ZIP64_END_BYTES - _LOCATOR_BYTES :]
    record, locator = before[:-_LOCATOR_BYTES], before[-_LOCATOR_BYTES:]
    if locator[:4] == _ZIP64_LOCATOR:
        place = size - len(end) + at - len(before)
        complete = complete and record[:4] == _ZIP64_END and int.from_bytes(locator[8:16], "little") == place
        directory_bytes = int.from_bytes(record[40:48], "little")
    if not complete:
        raise UsageError(f"{name}: no complete zip archive; make or copy it again")
    if directory_bytes > _MOST_DIRECTORY_BYTES:
        raise UsageError(f"{name}: holds too many files; give an archive of one model's pictures")


def _path(one: zipfile.ZipInfo) -> str:
    """Return the path of a file: the Finder writes UTF-8 without marking it, Windows PowerShell backslashes."""
    name = one.filename
    if not one.flag_bits & _UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _outer_folder(files: list[str]) -> str:
    """Return the folder that everything is in, as `birds/`, or an empty text.

    A file that lies outside of a class's folder does not change it, so that the file itself is refused.
    """
    folders = [file.split("/")[:-1] for file in files]
    depth = 0
    while sum(len(one) > depth + 1 for one in folders) * 2 > len(folders):
        names = {"".join(one[depth : depth + 1]) for one in folders}
        if len(names) > 1 or names & {TRAIN, HELD_OUT, SORT}:
            break
        depth += 1
    return "".join(f"{name}/" for name in folders[0][:depth]) if folders else ""


def _suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def _described(others: Iterable[str]) -> str:
    """Return `2 files that are no pictures (.aae, .mov)`, empty when there are none."""
    kinds = Counter(shortened(_suffix(file), 12) or "no suffix" for file in others)
    if not kinds:
        return ""
    shown = [kind for kind, _ in sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))]
    more = ", …" if len(shown) > 5 else ""
    total = kinds.total()
    noun = f"{counted(total, 'file')} that {'is no picture' if total == 1 else 'are no pictures'}"
    return f"{noun} ({', '.join(shown[:5])}{more})"


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
