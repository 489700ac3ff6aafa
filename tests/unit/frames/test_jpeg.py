"""What people are shown of a frame: a JPEG, upright, cut to the region, no larger than asked for."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from edge_classifierd.frames.image import read_image
from edge_classifierd.frames.jpeg import encode_jpeg, has_end
from edge_classifierd.preprocess import Region, View

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.preprocess import Rotation


def quarters(width: int, height: int) -> av.VideoFrame:
    """Red, green, blue and white quarters."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (230, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 230, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 230)
    pixels[height // 2 :, width // 2 :] = (230, 230, 230)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def decoded(folder: Path, jpeg: bytes) -> np.ndarray:
    (folder / "a.jpg").write_bytes(jpeg)
    return read_image(folder / "a.jpg").to_ndarray(format="rgb24").astype(int)


@pytest.mark.parametrize(
    ("view", "size", "corner"),
    [
        (View(), (320, 240), (230, 20, 20)),
        (View(rotation=90), (240, 320), (20, 20, 230)),
        (View(rotation=180), (320, 240), (230, 230, 230)),
        (View(mirror="horizontal"), (320, 240), (20, 230, 20)),
        (View(rotation=270, mirror="vertical"), (240, 320), (230, 20, 20)),
        (View(region=Region(0.5, 0.5, 0.5, 0.25)), (160, 60), (230, 230, 230)),
    ],
)
@pytest.mark.parametrize("pixel_format", ["rgb24", "yuv420p"])
def test_it_shows_the_view_in_its_own_size(
    tmp_path: Path, view: View, size: tuple[int, int], corner: tuple[int, int, int], pixel_format: str
) -> None:
    frame = quarters(320, 240).reformat(format=pixel_format)
    pixels = decoded(tmp_path, encode_jpeg(frame, view, max_width=640, quality=90))
    assert (pixels.shape[1], pixels.shape[0]) == size
    assert np.abs(pixels[4:12, 4:12].mean(axis=(0, 1)) - corner).max() < 12


@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("width", [158, 160, 320])
@pytest.mark.parametrize(
    ("pixel_format", "colours"),
    [
        ("rgb24", {}),
        ("yuv420p", {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.MPEG}),
        ("yuv420p", {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}),
        ("yuv420p", {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.JPEG}),
        ("nv12", {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}),
        ("yuv420p10le", {"dst_colorspace": Colorspace.BT2020, "dst_color_range": ColorRange.MPEG}),
        ("yuvj420p", {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.JPEG}),
    ],
)
def test_colours_are_those_of_the_picture_whatever_its_matrix_and_range(
    tmp_path: Path, pixel_format: str, colours: dict[str, Any], width: int, rotation: Rotation
) -> None:
    picture = quarters(320, 320).reformat(format=pixel_format, **colours)
    view = View(rotation=rotation)
    pixels = decoded(tmp_path, encode_jpeg(picture, view, max_width=width, quality=95))
    shown = np.array([(230, 20, 20), (20, 230, 20), (20, 20, 230), (230, 230, 230)]).reshape(2, 2, 3)
    shown = np.rot90(shown, -(rotation // 90))
    half = width // 2
    for row, column in np.ndindex(2, 2):
        part = pixels[row * half + 8 : (row + 1) * half - 8, column * half + 8 : (column + 1) * half - 8]
        assert np.abs(part.mean(axis=(0, 1)) - shown[row, column]).max() < 4


@pytest.mark.parametrize("pixel_format", ["gray", "rgb24", "yuv420p"])
@pytest.mark.parametrize("width", [64, 128])
def test_what_is_gray_stays_gray(tmp_path: Path, pixel_format: str, width: int) -> None:
    levels = np.tile(np.arange(128, dtype=np.uint8), (64, 1))
    picture = av.VideoFrame.from_ndarray(levels, format="gray").reformat(format=pixel_format)
    pixels = decoded(tmp_path, encode_jpeg(picture, View(), max_width=width, quality=95))
    assert (pixels.max(axis=2) - pixels.min(axis=2)).max() == 0


@pytest.mark.parametrize("rotation", [0, 90])
def test_it_is_scaled_down_to_the_width_and_never_up(tmp_path: Path, rotation: Rotation) -> None:
    view = View(rotation=rotation)
    assert decoded(tmp_path, encode_jpeg(quarters(640, 640), view, max_width=320, quality=80)).shape == (320, 320, 3)
    assert decoded(tmp_path, encode_jpeg(quarters(64, 64), view, max_width=320, quality=80)).shape == (64, 64, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 5), (101, 77)])
def test_any_size_gives_a_picture_of_even_sides(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width, _ = decoded(tmp_path, encode_jpeg(quarters(*size), View(), max_width=64, quality=80)).shape
    assert width % 2 == height % 2 == 0
    assert width <= 64


def test_the_picture_stays_as_it_was() -> None:
    picture = quarters(64, 64).reformat(format="yuvj420p", dst_color_range=ColorRange.JPEG)
    picture.colorspace = Colorspace.ITU601  # as decoded from a JPEG: nothing is to be done
    picture.pts, picture.time_base = 90, Fraction(1, 30)
    encode_jpeg(picture, View(), max_width=64, quality=80)
    assert (picture.pts, picture.time_base) == (90, Fraction(1, 30))


def test_more_quality_takes_more_bytes_and_is_nearer_to_the_picture(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
    made = [encode_jpeg(frame, View(), max_width=64, quality=quality) for quality in (1, 40, 80, 95)]
    assert sorted(made, key=len) == made
    errors = [float(np.abs(decoded(tmp_path, jpeg) - noise).mean()) for jpeg in made]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("progressive", [True, False])
@pytest.mark.parametrize("restart", [0, 5])
def test_the_end_is_that_of_the_last_scan(restart: int, *, progressive: bool) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    # An embedded preview has an end of its own.
    Image.fromarray(noise).save(
        file, "JPEG", progressive=progressive, restart_marker_blocks=restart, exif=b"Exif\0\0\xff\xda\xff\xd9"
    )
    data = file.getvalue()
    assert has_end(data)
    assert has_end(data + b"\xff\xda\0\x0cftypmp42")
    for length in range(0, len(data) - 1, 7):
        assert not has_end(data[:length])
        assert not has_end(data[:length].ljust(len(data), b"\0"))
