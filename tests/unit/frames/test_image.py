"""Still pictures: their formats, orientation, damage, and the memory that reading them takes."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving_pictures import encoded, level, picture, with_orientation
from PIL import Image, ImageFile

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.image import IMAGE_SUFFIXES, MOST_MEMORY, UnreadableFileError, read_image
from edge_classifierd.frames.jpeg import read_header
from edge_classifierd.preprocess import View
from edge_classifierd.scaler import Box, Scaler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def put(folder: Path, name: str, grey: int = 100) -> Path:
    path = folder / name
    path.write_bytes(encoded(picture(grey)))
    return path


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


def test_jpeg_frames_stay_in_the_format_they_are_stored_in(tmp_path: Path) -> None:
    assert read_image(put(tmp_path, "a.jpg")).format.name == "yuvj420p"


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [("a.png", "png", "rgb24"), ("a.bmp", "bmp", "bgr24"), ("a.webp", "libwebp", "yuv420p"),
     ("a.tif", "tiff", "rgb24"), ("a.gif", "gif", "rgb8"), ("lies.jpg", "png", "gray")],
)  # fmt: skip
def test_every_format_is_read_by_its_content(tmp_path: Path, name: str, codec: str, pixel_format: str) -> None:
    path = tmp_path / name
    path.write_bytes(encoded(picture(120), codec, pixel_format))
    if codec == "gif":  # the codec alone writes no file header
        _write_gif(path)
    frame = read_image(path)
    assert (frame.width, frame.height) == (160, 120)
    assert abs(level(frame) - 120) < 20


def _write_gif(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=5)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "gray"
        for grey in (120, 30):
            container.mux(stream.encode(picture(grey).reformat(format="gray")))
        container.mux(stream.encode(None))


def test_the_orientation_of_a_jpeg_is_on_the_frame(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jpg")
    path.write_bytes(with_orientation(path.read_bytes(), 6))
    assert read_image(path).rotation == -90


@pytest.mark.parametrize(("codec", "pixel_format"), [("mjpeg", "yuvj420p"), ("png", "rgb24"), ("libwebp", "yuv420p"),
                                                    ("bmp", "bgr24"), ("tiff", "rgb24")])  # fmt: skip
@pytest.mark.parametrize("kept", [0, 3, 0.2, 0.5, 0.95])
def test_a_picture_cut_short_is_refused_in_one_sentence(
    tmp_path: Path, codec: str, pixel_format: str, kept: float
) -> None:
    data = encoded(picture(7, noise=True), codec, pixel_format)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(SourceError, match=r"^\S*cut\.jpg: [^\n]*; [^\n]*$"):
        read_image(path)


def test_a_gif_cut_short_is_refused_unless_all_its_pixels_are_there(tmp_path: Path) -> None:
    path = tmp_path / "cut.gif"
    _write_gif(path)
    data = path.read_bytes()
    second = data.rindex(b"\x21\xf9\x04")  # the graphic control extension of its second picture
    for kept in range(4, second - 1):  # the last byte is the block terminator
        path.write_bytes(data[:kept])
        with pytest.raises(SourceError, match=r"^\S*cut\.gif: the GIF data is damaged or [^\n]*; [^\n]*$"):
            read_image(path)
    for kept in range(second - 1, second + 1):
        path.write_bytes(data[:kept])
        assert level(read_image(path)) == 120


def test_a_gif_with_a_table_of_its_own_for_the_image_and_a_comment_is_read(tmp_path: Path) -> None:
    """One white pixel, laid out by hand after the GIF89a specification."""
    screen, table = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0), b"\0\0\0\xff\xff\xff"
    comment, image = b"\x21\xfe\x02, \x00", b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0x80)
    path = tmp_path / "dot.gif"
    path.write_bytes(screen + table + comment + image + table + b"\x02\x02\x4c\x01\x00" + b"\x3b")
    assert level(read_image(path)) == 255


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(SourceError, match="not a regular file"):
        read_image(tmp_path / "a.jpg")


def test_the_exif_data_of_a_jpeg_is_found_behind_other_segments_and_fill_bytes() -> None:
    data = encoded(picture(9))
    comment = b"\xff\xfe" + struct.pack(">H", 7) + b"hello"
    body = b"Exif\0\0" + tiff_header(5)
    header = read_header(data[:2] + comment + b"\xff\xff\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])
    assert header is not None
    assert (header.width, header.height, header.exif) == (160, 120, tiff_header(5))


@pytest.mark.parametrize("tail", [b"", b"\xff\xe1\0\0", b"\xff\xff\xff", b"\xff\xc0", b"\xff\xda\0\2"])
def test_an_incomplete_jpeg_has_no_header(tail: bytes) -> None:
    assert read_header(b"\xff\xd8" + tail) is None


@given(st.sampled_from(FORMATS), st.data())
def test_damaged_data_is_refused_in_one_sentence_or_read(
    tmp_path_factory: pytest.TempPathFactory, made: Callable[[av.VideoFrame, int], bytes], data: st.DataObject
) -> None:
    whole = bytearray(made(av.VideoFrame.from_ndarray(quarters(16, 16), format="rgb24"), 6))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    words = "damaged.jpg: read; "
    try:
        read_image(path)
    except SourceError as error:
        words = str(error)
    assert "damaged.jpg: " in words
    assert "; " in words


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    if kind == "AVIF":
        pytest.importorskip("PIL.AvifImagePlugin", reason="Pillow before 11.3 has no AVIF")
    made = io.BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "AVIF"])
def test_the_first_picture_of_an_animation_is_read(tmp_path: Path, kind: str) -> None:
    shades = [Image.new("RGB", (64, 48), (value,) * 3) for value in (120, 30)]
    (tmp_path / "a.bin").write_bytes(saved(shades[0], kind, save_all=True, append_images=shades[1:]))
    assert abs(level(read_image(tmp_path / "a.bin")) - 120) < 6


def test_a_tiff_with_a_jpeg_inside_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(saved(Image.new("RGB", (64, 48), (120,) * 3), "TIFF", compression="jpeg"))
    assert abs(level(read_image(tmp_path / "a.tif")) - 120) < 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_colour_mode_keeps_its_brightness(tmp_path: Path, mode: str, kind: str) -> None:
    if (kind, mode) == ("PNG", "CMYK"):
        pytest.skip("PNG has no CMYK")
    grey = Image.new("L", (64, 48), 255)
    if mode == "I;16":
        image = Image.fromarray(np.full((48, 64), 255 << 8, np.uint16))
    else:
        image = grey.convert("RGB").convert(mode)
    (tmp_path / "a.bin").write_bytes(saved(image, kind))
    assert level(read_image(tmp_path / "a.bin")) >= 254


def test_a_phones_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(SourceError, match=r"IMG_0001\.HEIC: HEIC pictures cannot be read here; convert it to JPEG"):
        read_image(path)
    assert path.suffix.lower() in IMAGE_SUFFIXES


def png_of(width: int, height: int, bits: int, colour: int) -> bytes:
    """A sound PNG of one colour whose pixels were never in memory."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = bytes(1 + width * bits * {0: 1, 2: 3, 6: 4}[colour] // 8)
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def black(side: int, kind: str, **options: object) -> bytes:
    return saved(Image.new("L" if kind == "GIF" else "RGB", (side, side)), kind, **options)


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


BOMBS: dict[str, Callable[[], bytes]] = {
    "one bit": lambda: png_of(11_000, 11_000, 1, 0),
    "16-bit colour": lambda: png_of(9_700, 9_700, 16, 2),
    "16-bit colour, smaller": lambda: png_of(5_000, 4_200, 16, 6),
    "jpeg": lambda: with_size(black(1000, "JPEG"), 16_000, 16_000),
    "progressive jpeg": lambda: with_size(black(1000, "JPEG", progressive=True), 9_000, 9_000),
    "gif": lambda: black(8_000, "GIF"),
    "gif screen": lambda: patched(black(16, "GIF"), 6, struct.pack("<HH", 65_535, 65_535)),
    "webp": lambda: black(6_000, "WEBP", method=0),
    "lossless webp": lambda: black(6_000, "WEBP", lossless=True, method=0),
    "animated webp": lambda: black(6_000, "WEBP", save_all=True, append_images=[Image.new("RGB", (6000, 6000))]),
    "tiff": lambda: black(6_000, "TIFF", compression="tiff_deflate"),
    "bmp": lambda: patched(black(16, "BMP"), 18, struct.pack("<ii", 30_000, 30_000)),
    "avif": lambda: black(5_000, "AVIF", speed=10),
}


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its frame header."""
    at = next(at for at in range(len(jpeg)) if jpeg[at] == 0xFF and jpeg[at + 1] in {0xC0, 0xC2})
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


MEASURED = """
import pathlib, resource, sys
import edge_classifierd.frames.image as image
from edge_classifierd.errors import SourceError
small, path = map(pathlib.Path, sys.argv[1:])
image.read_image(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(image.read_image(path).width)
except SourceError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def measured(tmp_path: Path, data: bytes) -> tuple[str, int]:
    """What a child process prints when it reads the picture, and the bytes of memory that it takes for it."""
    small = tmp_path / "small.png"
    small.write_bytes(png_of(16, 16, 8, 2))
    (tmp_path / "bomb.bin").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(small), str(tmp_path / "bomb.bin")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    words, taken = done.stdout.splitlines()
    return words, int(taken)


@pytest.mark.parametrize("kind", BOMBS)
def test_a_decompression_bomb_is_refused_in_one_sentence_before_memory_is_taken(tmp_path: Path, kind: str) -> None:
    words, taken = measured(tmp_path, BOMBS[kind]())
    assert "bomb.bin: too large: " in words
    assert "; scale it down" in words
    assert taken < 20_000_000


LARGEST: dict[str, Callable[[], bytes]] = {
    "png": lambda: png_of(5_000, 4_000, 16, 2),
    "jpeg": lambda: black(6_800, "JPEG", subsampling=0),
    "progressive jpeg": lambda: black(3_900, "JPEG", progressive=True, subsampling=0),
    "gif": lambda: black(3_900, "GIF"),
    "webp": lambda: black(2_990, "WEBP", method=0),
    "lossless webp": lambda: black(2_990, "WEBP", lossless=True, method=0),
    "tiff of one strip": lambda: black(3_400, "TIFF", compression="tiff_deflate", strip_size=1 << 30),
    "avif": lambda: black(2_990, "AVIF", speed=10),
}


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_picture_that_is_read_stays_within_the_bound(tmp_path: Path, kind: str) -> None:
    words, taken = measured(tmp_path, LARGEST[kind]())
    assert words.isdecimal(), words
    assert taken < MOST_MEMORY


def test_pillows_limits_are_set() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < 30_000_000
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_file_that_the_disk_does_not_give_is_unreadable_and_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").symlink_to("/proc/self/mem")  # its first page is not there
    with pytest.raises(UnreadableFileError, match=r"bad\.jpg: cannot be read"):
        read_image(tmp_path / "bad.jpg")
    with pytest.raises(UnreadableFileError, match=r"gone\.jpg: no such file"):
        read_image(tmp_path / "gone.jpg")
