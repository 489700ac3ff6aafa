"""Turns an offered picture into what is stored: a JPEG encoded here, its thumbnail and its hash."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.image import decode_image
from edge_classifierd.frames.jpeg import decode_jpeg, encode_jpeg, read_header
from edge_classifierd.learning.duplicates import BITS, difference_hash
from edge_classifierd.preprocess import View

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

MOST_BYTES: Final = 25_000_000
"""Of a picture as it is offered: a photo of 24 megapixels. Decoding it is bounded by `frames.image.MOST_MEMORY`."""
TOO_SIMILAR_BITS: Final = 10
"""A picture whose hash differs from one of its class in fewer bits is not kept."""
_MOST_PIXELS_A_SIDE: Final = 1024
_THUMBNAIL_PIXELS_A_SIDE: Final = 160
_QUALITY, _THUMBNAIL_QUALITY = 90, 75
_MOST_MEMORY: Final = 16_000_000
_LEAST_PIXELS_A_SIDE: Final = 16
"""Of a stored picture."""
_LEAST_LENGTH_OF_THIN: Final = 800
"""Earlier versions also stored thinner pictures: long ones that became thin when they were scaled."""
# Markers of ITU-T T.81, table B.1: JFIF's APP0, tables, a baseline frame, the restart interval.
_PLAIN: Final = frozenset({0xE0, 0xDB, 0xC0, 0xC4, 0xDD})
_COMMENT: Final = 0xFE
_MOST_COMMENT_BYTES: Final = 40
_START_OF_SCAN: Final = b"\xff\xda"
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """A picture as it is stored."""

    jpeg: bytes
    """At most 1024 pixels a side, upright, without metadata."""
    thumbnail: bytes
    """A JPEG of at most 160 pixels a side."""
    hash: bytes
    """The bits of `difference_hash`, 32 bytes."""


def encode(
    picture: bytes | av.VideoFrame, view: View | None = None, name: str = "the picture", *, keep: bool = False
) -> EncodedPicture:
    """Decode, scale and encode a picture. One call works at a time, which bounds the memory.

    Args:
        picture: A file's content (JPEG, PNG, WebP …), or a frame of a camera.
        view: How a frame is turned and cut.
        name: Names the picture in messages.
        keep: Keep the bytes of a JPEG that has the form of one encoded here, so that a restored picture is the same.

    Raises:
        SourceError: The picture is too large, too small, damaged or not a picture.
    """
    with _one_at_a_time:
        frame = decode_image(picture, name, most_bytes=MOST_BYTES) if isinstance(picture, bytes) else picture
        if keep and isinstance(picture, bytes) and _is_plain(picture):
            jpeg = picture
        else:
            jpeg = _scaled(frame, view or View(), _MOST_PIXELS_A_SIDE, _QUALITY, name)
        stored = decode_jpeg(jpeg, name, most_memory=_MOST_MEMORY)
        thumbnail = _scaled(stored, View(), _THUMBNAIL_PIXELS_A_SIDE, _THUMBNAIL_QUALITY, name)
        return EncodedPicture(jpeg, thumbnail, np.packbits(difference_hash(stored)).tobytes())


def distances(one: bytes, others: list[bytes]) -> NDArray[np.intp]:
    """Return in how many bits a hash differs from each of the others, shape (others,)."""
    bits = np.frombuffer(b"".join(others), np.uint8).reshape(-1, BITS // 8) ^ np.frombuffer(one, np.uint8)
    return np.asarray(np.unpackbits(bits, axis=1).sum(axis=1, dtype=np.intp))


def _is_plain(data: bytes) -> bool:
    """Return whether a JPEG has a size that is stored and holds nothing but the picture."""
    header = read_header(data)
    if header is None or not _is_stored_size(header.width, header.height) or not data.endswith(b"\xff\xd9"):
        return False
    at = 2
    while data[at : at + 2] != _START_OF_SCAN:
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        own_comment = marker == _COMMENT and data.startswith(b"Lavc", at + 4) and end - at < _MOST_COMMENT_BYTES
        if data[at] != 0xFF or not (marker in _PLAIN or own_comment):
            return False
        at = end
    return True


def _is_stored_size(width: int, height: int) -> bool:
    shorter, longer = sorted((width, height))
    if shorter >= _LEAST_PIXELS_A_SIDE and longer <= _MOST_PIXELS_A_SIDE:
        return True
    return shorter <= _LEAST_PIXELS_A_SIDE and longer >= _LEAST_LENGTH_OF_THIN


def _scaled(frame: av.VideoFrame, view: View, most_a_side: int, quality: int, name: str) -> bytes:
    across = view.quarter_turns(frame) % 2
    box = view.region_box(*((frame.height, frame.width) if across else (frame.width, frame.height)))
    longer, shorter = max(box.width, box.height), min(box.width, box.height)
    stored = most_a_side == _MOST_PIXELS_A_SIDE
    if stored and shorter * most_a_side < _LEAST_PIXELS_A_SIDE * max(longer, most_a_side):
        thin = f" when they are scaled to {most_a_side}" if shorter >= _LEAST_PIXELS_A_SIDE else ""
        raise SourceError(
            f"{name}: {box.width}x{box.height} pixels are too small{thin}; give a larger picture or region"
        )
    width = most_a_side if box.width >= box.height else most_a_side * box.width / box.height
    return encode_jpeg(frame, view, max_width=max(2, width), quality=quality)
