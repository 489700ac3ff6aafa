"""Finds pictures that are nearly the same or of one burst; in both halves of a split they make a model look better."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from edge_classifierd.frames.jpeg import read_header

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import av
    from numpy.typing import NDArray

_SIDE: Final = 16
BITS: Final = _SIDE * _SIDE
_BLOCK: Final = 2048
_BURST_GAP_S: Final = 3.0
_BURST_LENGTH_S: Final = 30.0  # so that a long series with short gaps is not one burst
_HEADER_BYTES: Final = 1 << 18
_EXIF_DIRECTORY, _TIME_TAKEN = 0x8769, 0x9003
# 20261128_221530, 2026-11-28_22-15-30-120000 and similar, as phones and `collect` name pictures.
_TIME_IN_NAME: Final = re.compile(r"(20\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_ T.]?(\d\d)[-_.:]?(\d\d)[-_.:]?(\d\d)")


def difference_hash(picture: av.VideoFrame) -> NDArray[np.bool_]:
    """Return, shape (256,), whether each of 16 × 16 grey cells is darker than its right neighbour.

    This is the dHash of N. Krawetz ("Kind of Like That", 2013) with 16 × 16 cells. Size, compression, brightness and
    contrast hardly change it.
    """
    grey = picture.reformat(_SIDE + 1, _SIDE, "gray", interpolation="AREA", threads=1).to_ndarray()
    cells = grey.astype(np.int16)
    return np.asarray(cells[:, :-1] < cells[:, 1:]).reshape(-1)


def near_duplicates(hashes: NDArray[np.bool_], most: int) -> NDArray[np.intp]:
    """Return pairs of positions, shape (pairs, 2), first < second, whose hashes differ in at most `most` bits."""
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    least = BITS - 2 * most  # equal bits less different ones
    pairs = []
    for start in range(0, len(signs), _BLOCK):
        first, second = np.nonzero(signs[start : start + _BLOCK] @ signs.T >= least)
        first = first + start
        pairs.append(np.stack((first, second), 1)[first < second])
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.intp)


def burst_pairs(paths: Sequence[Path]) -> NDArray[np.intp]:
    """Return pairs of positions, shape (pairs, 2), of pictures of one burst: at most 3 s apart, 30 s in all.

    The time is that in the picture's EXIF data, else that in its file name. Pictures without a time are in no pair,
    and only pictures in the same folder are compared.
    """
    timed = sorted((path.parent, taken, at) for at, path in enumerate(paths) if (taken := time_taken(path)) is not None)
    pairs, start = [], 0
    for number in range(1, len(timed)):
        (folder, begin, _), (_, earlier, previous), (other, later, at) = timed[start], timed[number - 1], timed[number]
        gap, length = (later - earlier).total_seconds(), (later - begin).total_seconds()
        if folder == other and gap <= _BURST_GAP_S and length <= _BURST_LENGTH_S:
            pairs.append(sorted((previous, at)))
        else:
            start = number
    return np.array(pairs, np.intp).reshape(-1, 2)


def time_taken(path: Path) -> datetime | None:
    """Return when a picture was taken, in the local time of its camera; None where neither EXIF nor name has it."""
    text = _exif_time(path)
    found = _TIME_IN_NAME.search(text) or _TIME_IN_NAME.search(path.name)
    if found is None:
        return None
    try:
        return datetime(*map(int, found.groups()))  # type: ignore[arg-type]  # noqa: DTZ001 - only compared
    except ValueError:
        return None


def _exif_time(path: Path) -> str:
    try:
        with path.open("rb") as file:
            header = read_header(file.read(_HEADER_BYTES))
    except OSError:
        return ""
    if header is None or not header.exif:
        return ""
    tags = Image.Exif()
    try:
        tags.load(header.exif)
        return str(tags.get_ifd(_EXIF_DIRECTORY).get(_TIME_TAKEN, "")).replace(":", "-")
    except Exception:  # noqa: BLE001 - Pillow raises nearly every kind of exception on damaged data
        return ""


def grouped(count: int, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each of `count` positions the smallest position that it is connected with by `pairs`."""
    parent = list(range(count))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    for first, second in pairs.tolist():
        one, other = root(first), root(second)
        parent[max(one, other)] = min(one, other)
    return np.array([root(position) for position in range(count)], np.intp)
