"""Reads labelled pictures from folders (one per class) or a CSV table, and splits them."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import SourceError, UsageError
from edge_classifierd.frames.folder import images_in
from edge_classifierd.frames.image import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TABLE: Final = "labels.csv"
"""A table of this name in a folder of pictures is used when there are no class folders."""
_FILE_COLUMNS: Final = ("file", "filename", "path", "image", "picture")
_LABEL_COLUMNS: Final = ("label", "class", "class_name", "name")
_INDEX_COLUMNS: Final = ("class_index", "index", "class_id", "label_index", "id")


@dataclass(frozen=True, slots=True)
class Picture:
    """One labelled picture, with the name of its class, the index, or both."""

    path: Path
    label: str | None
    index: int | None = None
    built_in: bool = False
    """Whether it belongs to the program and not to the user."""

    @property
    def class_name(self) -> str:
        """The name of the class in the data set."""
        return self.label if self.label is not None else str(self.index)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled pictures in a fixed order."""

    source: Path
    pictures: tuple[Picture, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of their first pictures."""
        return tuple(dict.fromkeys(picture.class_name for picture in self.pictures))


def read_dataset(source: Path) -> Dataset:
    """List the pictures of a folder (one folder a class, or with a table `labels.csv`) or of a CSV table.

    Nothing is decoded. Hidden files, and folders without pictures, are left out; the order is natural (`2` before
    `10`). Raises UsageError when it is neither.
    """
    if os.path.isfile(source):  # noqa: PTH113 - Path's raises in a folder that is closed to this account
        return _from_table(source)
    if not os.path.isdir(source):  # noqa: PTH112 - see above
        raise UsageError(f"{source}: no such folder or CSV table; give a folder that holds one folder per class")
    try:
        folders = sorted((one for one in source.iterdir() if one.is_dir() and one.name[0] != "."), key=_natural)
    except OSError as error:
        remedy = "let the account that runs this read it"
        raise UsageError(f"{source}: cannot be listed: {error.strerror}; {remedy}") from error
    for folder in folders:
        if any("\ud800" <= character <= "\udfff" for character in folder.name):  # bytes that are no UTF-8
            shown = ascii(folder.name)
            raise UsageError(f"{source}: the folder {shown} would be a class, but its name is not UTF-8; rename it")
    found = tuple(Picture(path, folder.name) for folder in folders for path in images_below(folder))
    if found:
        return Dataset(source, found)
    if (source / TABLE).is_file():
        return _from_table(source / TABLE)
    raise UsageError(
        f"{source}: holds no labelled pictures; make one folder per class inside it, with the class's pictures, "
        f"or a table `{TABLE}` with the columns file,label"
    )


def images_below(folder: Path) -> tuple[Path, ...]:
    """Return the pictures in a folder and the folders inside it, in natural order. Raises UsageError."""
    try:
        return images_in(folder, recursive=True)
    except SourceError as error:
        raise UsageError(str(error)) from error


def write_table(path: Path, pictures: Sequence[Picture]) -> None:
    """Write pictures as a CSV table that `read_dataset` reads. Raises UsageError when it cannot be written."""
    try:
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("file", "label"))
            table.writerows((str(picture.path.resolve()), picture.class_name) for picture in pictures)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def split(
    classes: NDArray[np.intp], groups: NDArray[np.intp], holdout: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions to learn from and those held out, both ascending; deterministic for the same seed.

    The share `holdout` of each class's pictures, rounded, is held out, but at least one is learnt from. Pictures of one
    group (near-duplicates, a burst) stay on one side, so the share is only approximate.
    """
    random = np.random.default_rng(seed)
    members: dict[int, list[int]] = {}
    for position, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(position)
    held = np.zeros(len(classes), np.bool_)
    for one in np.unique(classes).tolist():
        own = [group for group in members.values() if classes[group[0]] == one]
        left = round(holdout * sum(len(group) for group in own))
        for number, at in enumerate(random.permutation(len(own)).tolist()):
            if len(own[at]) <= left and number < len(own) - 1:
                held[own[at]] = True
                left -= len(own[at])
    return np.flatnonzero(~held), np.flatnonzero(held)


def _rows(source: Path) -> list[list[str]]:
    """Return the rows of a table that are not empty. Raises UsageError."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            return [[cell.strip() for cell in row] for row in csv.reader(file) if any(map(str.strip, row))]
    except PermissionError as error:
        raise UsageError(f"{source}: permission denied; let the account that runs this read it") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: is no CSV table: not UTF-8 text; give file,label on each line") from error
    except (OSError, csv.Error) as error:
        raise UsageError(f"{source}: is no CSV table: {error}; give file,label on each line") from error


def _from_table(source: Path) -> Dataset:
    rows = _rows(source)
    if not rows:
        raise UsageError(f"{source}: is empty; give file,label on each line")
    header = [cell.casefold().replace(" ", "_") for cell in rows[0]]
    file_at = _column(header, _FILE_COLUMNS)
    if file_at is None:
        file_at, label_at, index_at, first = *_columns_by_content(source, rows[0]), 1
    else:
        label_at, index_at, first = _column(header, _LABEL_COLUMNS), _column(header, _INDEX_COLUMNS), 2
        rows = rows[1:]
    if label_at is None and index_at is None:
        raise UsageError(f"{source}: line 1 names no column `label` or `class_index`; start it with `file,label`")
    pictures = []
    for number, row in enumerate(rows, first):
        if len(row) <= max(file_at, label_at or 0, index_at or 0):
            raise UsageError(f"{source}: row {number} has only {len(row)} columns; give file and label on each line")
        label = row[label_at] or None if label_at is not None else None
        index = row[index_at] if index_at is not None else ""
        if index and not (index.isascii() and index.isdecimal()):
            raise UsageError(f"{source}: row {number}: `{index[:40]}` is no class index; indices count from 0")
        if label is None and not index:
            raise UsageError(f"{source}: row {number} has neither label nor index")
        pictures.append(Picture(source.parent / row[file_at], label, int(index[:9]) if index else None))
    if not pictures:
        raise UsageError(f"{source}: lists no pictures; give file,label on each line")
    return Dataset(source, tuple(pictures))


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _columns_by_content(source: Path, row: list[str]) -> tuple[int, int | None, int | None]:
    """Columns of a table without a header: file, label or index; or file, index, label."""
    if len(row) < 2 or not row[0].lower().endswith(tuple(IMAGE_SUFFIXES)):
        raise UsageError(f"{source}: line 1 names no column `file`; start the table with `file,label`")
    if len(row) > 2 and row[1].isdecimal():
        return 0, 2, 1
    return (0, None, 1) if row[1].isdecimal() else (0, 1, None)


def _natural(path: Path) -> tuple[list[str | int], str]:
    pieces = re.split(r"(\d+)", path.name.casefold())
    return [int(piece) if at % 2 else piece for at, piece in enumerate(pieces)], path.name
