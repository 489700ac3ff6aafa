"""Pictures whose file says how they are to be turned and mirrored, in every format that can say so."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving_pictures import encoded, picture, with_orientation

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.exif import COMPRESSION, ORIENTATION, picture_tags
from edge_classifierd.frames.image import read_image
from edge_classifierd.preprocess import Box, Scaler, View

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# How the stored rows and columns become the upright picture, from the EXIF standard (CIPA DC-008, Orientation).
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


def quarters(height: int = 64, width: int = 96) -> np.ndarray:
    """A picture whose four quarters differ, so that every turn and mirroring shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (230, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 230, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 230)
    pixels[height // 2 :, width // 2 :] = (230, 230, 230)
    return pixels


def tiff_header(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def jpeg(stored: av.VideoFrame, orientation: int) -> bytes:
    return with_orientation(encoded(stored, "mjpeg", "yuvj444p", qmin="2", qmax="2"), orientation)


def png(stored: av.VideoFrame, orientation: int) -> bytes:
    data = encoded(stored, "png", "rgb24")
    body = b"eXIf" + tiff_header(orientation, ">")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]


def palette_png(stored: av.VideoFrame, orientation: int) -> bytes:
    """With one bit for each of red, green and blue."""
    bits = stored.to_ndarray(format="rgb24") > 127
    indices = bits[..., 0] * 4 + bits[..., 1] * 2 + bits[..., 2]
    palette = bytes(255 * (index >> shift & 1) for index in range(8) for shift in (2, 1, 0))
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in indices)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", stored.width, stored.height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette),
        (b"eXIf", tiff_header(orientation)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def webp(stored: av.VideoFrame, orientation: int) -> bytes:
    picture_chunk = encoded(stored, "libwebp", "bgra", lossless="1")[12:]
    if picture_chunk[:4] == b"VP8X":
        picture_chunk = picture_chunk[18:]
    side = (stored.width - 1).to_bytes(3, "little") + (stored.height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + side
    exif = tiff_header(orientation)
    body = b"WEBP" + extended + picture_chunk + b"EXIF" + struct.pack("<I", len(exif)) + exif
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(stored: av.VideoFrame, orientation: int) -> bytes:
    data = encoded(stored, "tiff", "rgb24")
    assert data.startswith(b"II*\0")
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = [data[at + 2 + 12 * number :][:12] for number in range(count)]
    entries.append(struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0))
    entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
    directory = struct.pack("<H", count + 1) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


FORMATS = [jpeg, png, palette_png, webp, tiff]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("made", FORMATS)
def test_a_picture_stands_upright_whatever_its_file_says_of_turning_and_mirroring(
    tmp_path: Path, made: Callable[[av.VideoFrame, int], bytes], orientation: int
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(made(av.VideoFrame.from_ndarray(quarters(), format="rgb24"), orientation))
    frame, view = read_image(path), View()
    pixels = Scaler().rgb(frame, Box(0, 0, frame.width, frame.height), frame.width, frame.height)
    shown = view.upright(pixels, view.quarter_turns(frame)).astype(int)
    wanted = UPRIGHT[orientation](quarters())
    assert shown.shape == wanted.shape
    assert np.abs(shown - wanted).mean() < 24  # eight colours are coarse; a wrong turn is off by more than 80


def test_a_mirrored_picture_in_the_common_format_keeps_its_chroma_beside_its_luma(tmp_path: Path) -> None:
    stored = av.VideoFrame.from_ndarray(quarters(), format="rgb24")
    path = tmp_path / "a.jpg"
    path.write_bytes(with_orientation(encoded(stored), 4))
    shown = read_image(path).to_ndarray(format="rgb24").astype(int)
    assert np.abs(shown - quarters()[::-1]).mean() < 8


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order: str) -> None:
    assert picture_tags(tiff_header(7, order)) == {ORIENTATION: 7}


def test_exif_is_found_behind_other_segments_and_fill_bytes() -> None:
    data = encoded(picture(9))
    comment = b"\xff\xfe" + struct.pack(">H", 7) + b"hello"
    body = b"Exif\0\0" + tiff_header(5)
    marked = data[:2] + comment + b"\xff\xff\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    assert picture_tags(marked) == {ORIENTATION: 5}


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0\0", b"\xff\xd8\xff\xff\xff", b"II*\0\xff\xff\xff\xff"]
)
def test_what_says_nothing_has_no_tags(data: bytes) -> None:
    assert picture_tags(data) == {}


@given(st.sampled_from(FORMATS), st.data())
def test_damage_never_raises(made: Callable[[av.VideoFrame, int], bytes], data: st.DataObject) -> None:
    whole = bytearray(made(av.VideoFrame.from_ndarray(quarters(16, 16), format="rgb24"), 6))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    picture_tags(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_a_tiff_with_a_jpeg_inside_is_refused_and_not_taken_for_a_black_picture(tmp_path: Path) -> None:
    data = bytearray(tiff(av.VideoFrame.from_ndarray(quarters(), format="rgb24"), 1))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for number in range(count):
        entry = at + 2 + 12 * number
        if struct.unpack_from("<H", data, entry)[0] == COMPRESSION:
            struct.pack_into("<H", data, entry + 8, 7)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.tif: a TIFF with a JPEG inside .*; convert it"):
        read_image(tmp_path / "a.tif")


def test_an_animated_webp_is_called_so(tmp_path: Path) -> None:
    still = webp(av.VideoFrame.from_ndarray(quarters(), format="rgb24"), 1)
    (tmp_path / "a.webp").write_bytes(still[:20] + b"\x02" + still[21:])
    with pytest.raises(SourceError, match=r"a\.webp: an animated WebP .*; convert it"):
        read_image(tmp_path / "a.webp")
