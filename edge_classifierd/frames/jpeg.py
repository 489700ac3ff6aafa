"""Encodes frames as JPEG, upright and cut to the region; decodes JPEG data whose size is bounded."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
import av.error
import numpy as np

from edge_classifierd.errors import SourceError
from edge_classifierd.scaler import Scaler

if TYPE_CHECKING:
    from av.video.plane import VideoPlane
    from numpy.typing import NDArray

    from edge_classifierd.preprocess import Region, View

# FFmpeg's quantiser for quality 1 and 95 of libjpeg's scale; 2 is the finest of FFmpeg's encoder.
_COARSEST, _FINEST = 31, 2

# Y, U and V of full range BT.601.
_YELLOW: Final = (220, 20, 150)
_DARK: Final = (20, 128, 128)

# Markers of ITU-T T.81, table B.1.
_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1
_SEGMENT_OR_END: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_EXIF: Final = b"Exif\0\0"


class TooLargeError(SourceError):
    """Decoding the picture would take more memory than allowed."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """The part of a JPEG before its first scan."""

    width: int
    height: int
    memory: int
    """Bytes that decoding takes."""
    exif: bytes
    """The EXIF data, a TIFF directory; empty when there is none."""


def read_header(data: bytes) -> JpegHeader | None:
    """Read the segments before the first scan; None when `data` is no JPEG, or incomplete or damaged there."""
    at, exif = 2, b""
    frame: tuple[int, int, int] | None = None
    try:
        while True:
            if data[at] != 0xFF:
                return None
            marker = data[at + 1]
            if marker == 0xFF or marker in _WITHOUT_LENGTH:
                at += 1 if marker == 0xFF else 2
                continue
            (length,) = struct.unpack_from(">H", data, at + 2)
            if marker == _APP1 and data.startswith(_EXIF, at + 4):
                exif = exif or data[at + 4 + len(_EXIF) : at + 2 + length]
            elif marker in _FRAME_HEADERS:
                frame = _frame_header(data, at + 4, progressive=marker in _PROGRESSIVE)
            elif marker == _START_OF_SCAN:
                return None if frame is None else JpegHeader(*frame, exif)
            at += 2 + length
    except (IndexError, struct.error):
        return None


def has_end(data: bytes) -> bool:
    """Return whether the end marker (EOI) of the first picture is there, so that none of its scans is missing."""
    at = 2
    while found := _SEGMENT_OR_END.search(data, at):
        at = found.end()
        if data[at - 1] == _END_OF_IMAGE:
            return True
        at += int.from_bytes(data[at : at + 2])
    return False


def _frame_header(data: bytes, at: int, *, progressive: bool) -> tuple[int, int, int]:
    """Return width, height and the memory of a frame header (ITU-T T.81, B.2.2) in bytes."""
    height, width, components = struct.unpack_from(">HHB", data, at + 1)
    sampling = [(data[at + 7 + 3 * number] >> 4) * (data[at + 7 + 3 * number] & 15) for number in range(components)]
    # Where the first component is not the finest, FFmpeg enlarges the others.
    samples = sum(sampling) / sampling[0] if sampling and sampling[0] == max(sampling) else components
    return width, height, round(width * height * max(1.0, samples) * (3 if progressive else 1))


def decode_jpeg(data: bytes, name: str, *, most_memory: int, header: JpegHeader | None = None) -> av.VideoFrame:
    """Decode one JPEG in the pixel format that it is stored in (yuvj420p, yuvj422p …).

    Args:
        data: The file's bytes.
        name: Names the picture in messages.
        most_memory: Bytes that decoding may take, the data (twice, FFmpeg copies it) included.
        header: The result of `read_header`, when the caller has it.

    Raises:
        TooLargeError: The picture needs too much memory.
        SourceError: The data is damaged or incomplete.
    """
    header = header or read_header(data)
    damaged = SourceError(f"{name}: the JPEG data is damaged or incomplete; replace or remove it")
    if header is None:
        raise damaged
    needed = header.memory + 2 * len(data)
    if needed > most_memory:
        raise TooLargeError(
            f"{name}: too large: {header.width}x{header.height} pixels as JPEG need {needed / 1e6:.0f} MB of memory; "
            "scale it down"
        )
    context = av.CodecContext.create("mjpeg", "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    # `explode`: report damage instead of filling it up. `max_pixels`: a second frame header is no larger.
    most_pixels = (header.width + 256) * (header.height + 256)
    context.options = {"max_pixels": str(most_pixels), "err_detect": "explode"}
    try:
        frames = context.decode(av.Packet(data)) or context.decode(None)
    except av.error.FFmpegError as error:
        raise damaged from error
    if not frames or frames[0].is_corrupt:
        raise damaged
    return frames[0]


def encode_jpeg(
    picture: av.VideoFrame, view: View, *, max_width: float, quality: int, mark: Region | None = None
) -> bytes:
    """Return the view's region as a JPEG.

    Args:
        picture: The picture of the source.
        view: How it is turned and cut.
        max_width: The greatest width in pixels.
        quality: From 1 (small) to 95 (fine).
        mark: A part of the upright frame around which a box is drawn.
    """
    turns = view.quarter_turns(picture)
    across = bool(turns % 2)
    width, height = (picture.height, picture.width) if across else (picture.width, picture.height)
    box = view.region_box(width, height)
    scale = min(1.0, max_width / box.width)
    # Even, because the chroma of a JPEG has half the size.
    target_width = max(2, round(box.width * scale) // 2 * 2)
    target_height = max(2, round(box.height * scale) // 2 * 2)
    size = (target_height, target_width) if across else (target_width, target_height)
    scaled = Scaler().jpeg(picture, view.source_box(box, turns, width, height), *size)
    if turns or view.mirror != "none" or scaled is picture:  # the encoder changes its timestamp, a mark the pixels
        scaled = _upright(scaled, view, turns)
    if mark is not None:
        _draw_box(scaled, view.region, mark)
    return _encode(scaled, quality)


def _upright(picture: av.VideoFrame, view: View, turns: int) -> av.VideoFrame:
    """Return an upright copy of a planar picture."""
    width, height = (picture.height, picture.width) if turns % 2 else (picture.width, picture.height)
    upright = av.VideoFrame(width, height, picture.format.name)
    for plane, target in zip(picture.planes, upright.planes, strict=True):
        _samples(target)[:] = view.upright(_samples(plane), turns)
    return upright


def _draw_box(picture: av.VideoFrame, region: Region, mark: Region) -> None:
    """Draw a yellow box around a part of the frame into a planar picture of a region, with a dark line inside."""
    line = max(2, round(picture.width / 200) // 2 * 2)  # even, as the chroma has half the size
    for number, plane in enumerate(picture.planes):
        samples = _samples(plane)
        rows, columns = samples.shape
        left, right = (round((x - region.x) / region.width * columns) for x in (mark.x, mark.x + mark.width))
        top, bottom = (round((y - region.y) / region.height * rows) for y in (mark.y, mark.y + mark.height))
        width = line if number == 0 else line // 2
        for inset, colour in ((width, _DARK), (0, _YELLOW)):
            _frame(samples, (left + inset, top + inset, right - inset, bottom - inset), width, colour[number])


def _frame(samples: NDArray[np.uint8], box: tuple[int, int, int, int], line: int, value: int) -> None:
    """Set the samples along the inner edge of a box (left, top, right, bottom), as far as it is in the picture."""
    rows, columns = samples.shape
    left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(columns, box[2]), min(rows, box[3])
    part = samples[top : max(top, bottom), left : max(left, right)]
    for edge in (
        part[:line],
        part[max(0, len(part) - line) :],
        part[:, :line],
        part[:, max(0, part.shape[1] - line) :],
    ):
        edge[:] = value


def _samples(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.ndarray((plane.height, plane.width), np.uint8, memoryview(plane), strides=(plane.line_size, 1))


def _encode(frame: av.VideoFrame, quality: int) -> bytes:
    context = av.CodecContext.create("mjpeg", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = frame.width, frame.height
    context.pix_fmt = "yuvj420p"
    context.time_base = Fraction(1, 1)
    context.thread_count = 1
    quantiser = max(_FINEST, min(_COARSEST, round(_FINEST + (95 - quality) / 94 * (_COARSEST - _FINEST))))
    context.qmin = context.qmax = quantiser
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
