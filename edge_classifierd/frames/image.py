"""Decoding of one still picture from a file."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import av
import av.error

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.exif import COMPRESSION, ORIENTATION, picture_tags
from edge_classifierd.frames.gif import first_image_is_whole
from edge_classifierd.frames.mirroring import turn_over

if TYPE_CHECKING:
    from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})

_MOST_BYTES = 256 * 1024 * 1024
_MOST_PIXELS = 100_000_000
_MIRRORED = frozenset({2, 4, 5, 7})
_JPEG_IN_TIFF = frozenset({6, 7})

# FFmpeg's decoders by the first bytes of a file: its name may lie.
_DECODERS = (
    (b"\xff\xd8", "mjpeg"),
    (b"\x89PNG", "png"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
    (b"GIF8", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)


def read_image(path: Path) -> av.VideoFrame:
    """Decode the (first) picture in a file, in the pixel format it is stored in.

    The frame's `rotation` carries the EXIF orientation; the pixels are not turned, but mirrored where it says so.
    Raises SourceError for a file that is missing, unreadable, empty, cut short, damaged or no picture.
    """
    data = _read(path)
    decoder = next((name for magic, name in _DECODERS if data.startswith(magic)), None)
    if decoder is None:
        raise SourceError(f"{path}: not a JPEG, PNG, WebP, BMP, GIF or TIFF picture; remove or convert it")
    tags = picture_tags(data)
    if decoder == "webp" and data[12:16] == b"VP8X" and data[20:21] and data[20] & 0x02:
        raise SourceError(f"{path}: an animated WebP cannot be read; convert it to a still picture or a video")
    if decoder == "tiff" and tags.get(COMPRESSION) in _JPEG_IN_TIFF:  # FFmpeg would make it black without a word
        raise SourceError(f"{path}: a TIFF with a JPEG inside cannot be read; convert it to a plain JPEG")
    if decoder == "gif" and not first_image_is_whole(data):
        raise _damaged(path, decoder)
    context = av.CodecContext.create(decoder, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    # `explode` refuses what is damaged; it would also make the TIFF decoder refuse tags that it merely does not know.
    strictness = {} if decoder == "tiff" else {"err_detect": "explode"}
    context.options = {"max_pixels": str(_MOST_PIXELS), **strictness}
    try:
        frames = context.decode(av.Packet(data)) or context.decode(None)
    except av.error.FFmpegError as error:
        raise _damaged(path, decoder) from error
    if not frames or frames[0].is_corrupt:
        raise _damaged(path, decoder)
    if tags.get(ORIENTATION) in _MIRRORED:
        turn_over(frames[0])
    return frames[0]


def _damaged(path: Path, decoder: str) -> SourceError:
    kind = {"mjpeg": "JPEG"}.get(decoder, decoder.upper())
    return SourceError(
        f"{path}: the {kind} data is damaged, cut short or larger than 100 megapixels; replace or remove it"
    )


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would block
            raise SourceError(f"{path}: not a regular file; remove it")
        if found.st_size > _MOST_BYTES:
            raise SourceError(f"{path}: {found.st_size / 1e6:.0f} MB is too large for a picture; remove it")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file; check the path") from error
    except PermissionError as error:
        raise SourceError(f"{path}: permission denied; make it readable for the service user") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check the disk") from error
    if not data:
        raise SourceError(f"{path}: the file is empty; replace or remove it")
    return data
