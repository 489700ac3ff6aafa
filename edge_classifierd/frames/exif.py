"""What a picture's file says of it beside the pixels: the tags of a TIFF, or of the EXIF in a JPEG, PNG or WebP.

EXIF (CIPA DC-008) is the directory of a TIFF without pictures. FFmpeg reads it too, but PyAV hands on the turn alone,
not whether the picture is mirrored.
"""

from __future__ import annotations

import struct
from typing import Final

COMPRESSION: Final = 0x103
ORIENTATION: Final = 0x112
"""1: as stored, 3, 6 and 8: turned, 2, 4, 5 and 7: mirrored (and turned)."""

_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">"}
_SHORT, _LONG = 3, 4
_EXIF: Final = b"Exif\0\0"
_APP1, _FIRST_MARKER, _START_OF_SCAN = 0xFFE1, 0xFFC0, 0xFFDA
_MOST_PARTS: Final = 100_000  # of a file that is looked through; they bound the time that a hostile one can cost


def picture_tags(data: bytes) -> dict[int, int]:
    """The whole numbers in the first directory, by tag; empty where there is none or it is damaged."""
    try:
        return _directory(_tiff_in(data))
    except struct.error:
        return {}


def _directory(tiff: bytes) -> dict[int, int]:
    order = _ORDERS.get(tiff[:4])
    if order is None:
        return {}
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    tags = {}
    for place in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", tiff, place)
        if kind in {_SHORT, _LONG}:
            (tags[tag],) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", tiff, place + 8)
    return tags


def _tiff_in(data: bytes) -> bytes:
    if data.startswith(b"\xff\xd8"):
        return _in_jpeg(data)
    if data.startswith(b"\x89PNG"):
        return _in_chunks(data, 8, ">I4s", b"eXIf")
    if data.startswith(b"RIFF"):
        return _in_chunks(data, 12, "<4sI", b"EXIF")
    return data


def _in_jpeg(data: bytes) -> bytes:
    at = 2
    for _ in range(_MOST_PARTS):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == 0xFFFF:  # a fill byte
            at += 1
            continue
        if marker < _FIRST_MARKER or marker == _START_OF_SCAN:
            break
        if marker == _APP1 and data.startswith(_EXIF, at + 4):
            return data[at + 4 + len(_EXIF) : at + 2 + length]
        at += 2 + length
    return b""


def _in_chunks(data: bytes, at: int, head: str, wanted: bytes) -> bytes:
    """PNG's chunks (a sum of 4 bytes follows each) and RIFF's (of even length)."""
    for _ in range(_MOST_PARTS):
        first, second = struct.unpack_from(head, data, at)
        name, length = (first, second) if head.startswith("<") else (second, first)
        if name == wanted:
            return data[at + 8 : at + 8 + length].removeprefix(_EXIF)
        at += 8 + length + (length % 2 if head.startswith("<") else 4)
    return b""
