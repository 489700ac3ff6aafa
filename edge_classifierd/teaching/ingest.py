"""Turns an offered picture into what is stored: a JPEG encoded here, its thumbnail and its hash."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.image import decode_image
from edge_classifierd.frames.jpeg import decode_jpeg, encode_jpeg
from edge_classifierd.learning.duplicates import BITS, difference_hash
from edge_classifierd.preprocess import View

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

MOST_BYTES: Final = 8_000_000
"""Of a picture as it is offered."""
TOO_SIMILAR_BITS: Final = 10
"""A picture whose hash differs from one of its class in fewer bits is not kept."""
_MOST_PIXELS_A_SIDE: Final = 1024
_THUMBNAIL_PIXELS_A_SIDE: Final = 160
_QUALITY, _THUMBNAIL_QUALITY = 90, 75
_MOST_MEMORY: Final = 16_000_000
_LEAST_PIXELS_A_SIDE: Final = 16
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


def encode(picture: bytes | av.VideoFrame, view: View | None = None, name: str = "the picture") -> EncodedPicture:
    """Decode, scale and encode a picture. One call works at a time, which bounds the memory.

    Args:
        picture: A file's content (JPEG, PNG, WebP …), or a frame of a camera.
        view: How a frame is turned and cut.
        name: Names the picture in messages.

    Raises:
        SourceError: The picture is too large, too small, damaged or not a picture.
    """
    with _one_at_a_time:
        frame = decode_image(picture, name, most_bytes=MOST_BYTES) if isinstance(picture, bytes) else picture
        jpeg = _scaled(frame, view or View(), _MOST_PIXELS_A_SIDE, _QUALITY, name)
        stored = decode_jpeg(jpeg, name, most_memory=_MOST_MEMORY)
        thumbnail = _scaled(stored, View(), _THUMBNAIL_PIXELS_A_SIDE, _THUMBNAIL_QUALITY, name)
        return EncodedPicture(jpeg, thumbnail, np.packbits(difference_hash(stored)).tobytes())


def distances(one: bytes, others: list[bytes]) -> NDArray[np.intp]:
    """Return in how many bits a hash differs from each of the others, shape (others,)."""
    bits = np.frombuffer(b"".join(others), np.uint8).reshape(-1, BITS // 8) ^ np.frombuffer(one, np.uint8)
    return np.asarray(np.unpackbits(bits, axis=1).sum(axis=1, dtype=np.intp))


def _scaled(frame: av.VideoFrame, view: View, most_a_side: int, quality: int, name: str) -> bytes:
    across = view.quarter_turns(frame) % 2
    box = view.region_box(*((frame.height, frame.width) if across else (frame.width, frame.height)))
    if min(box.width, box.height) < _LEAST_PIXELS_A_SIDE and most_a_side == _MOST_PIXELS_A_SIDE:
        raise SourceError(f"{name}: {box.width}x{box.height} pixels are too small; give a larger picture or region")
    width = most_a_side if box.width >= box.height else round(most_a_side * box.width / box.height)
    return encode_jpeg(frame, view, max_width=max(2, width), quality=quality)
