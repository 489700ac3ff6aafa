"""What lies in a camera's buffers becomes the right picture: channel order, row padding, planes, cutting, mirroring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.picamera.buffer import BufferLayout, BufferReader
from edge_classifierd.scaler import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Left half red; right half green above blue.
WIDTH, HEIGHT = 32, 18
COLOURS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
COLOURS[:, : WIDTH // 2] = (220, 30, 30)
COLOURS[: HEIGHT // 2, WIDTH // 2 :] = (30, 180, 30)
COLOURS[HEIGHT // 2 :, WIDTH // 2 :] = (30, 30, 220)

ORDER = {"RGB888": (2, 1, 0), "BGR888": (0, 1, 2), "XRGB8888": (2, 1, 0), "XBGR8888": (0, 1, 2)}


def buffer_of(rgb: NDArray[np.uint8], pixel_format: str, padding: int) -> tuple[BufferLayout, NDArray[np.uint8]]:
    """`rgb` as libcamera would write it, with `padding` bytes of noise at each row's end."""
    height, width = rgb.shape[:2]
    noise = np.random.default_rng(1)
    if pixel_format in ORDER:
        pixels = rgb[:, :, ORDER[pixel_format]]
        if pixel_format.startswith("X"):
            pixels = np.concatenate([pixels, noise.integers(0, 255, (height, width, 1), np.uint8)], axis=2)
        rows = [pixels.reshape(height, -1)]
    else:
        name = {"YUV420": "yuv420p", "NV12": "nv12"}[pixel_format]
        planar = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(
            format=name, dst_colorspace="ITU601", dst_color_range="MPEG"
        )
        packed = planar.to_ndarray().reshape(-1)
        luma, chroma = packed[: width * height].reshape(height, width), packed[width * height :]
        halves = (
            [chroma.reshape(height // 2, width)] if name == "nv12" else list(chroma.reshape(2, height // 2, width // 2))
        )
        rows = [luma, *halves]
    padded = []
    for plane in rows:
        pad = padding * plane.shape[1] // rows[0].shape[1]
        padded.append(np.hstack([plane, noise.integers(0, 255, (plane.shape[0], pad), np.uint8)]).reshape(-1))
    layout = BufferLayout(pixel_format, width, height, rows[0].shape[1] + padding)
    return layout, np.concatenate([*padded, np.zeros(99, np.uint8)])


def rgb_of(picture: av.VideoFrame) -> NDArray[np.int16]:
    return picture.to_ndarray(format="rgb24").astype(np.int16)


FORMATS = [*ORDER, "YUV420", "NV12"]


@pytest.mark.parametrize("height", [16, 18])  # PyAV's own way with YUV takes multiples of 4 only
@pytest.mark.parametrize("padding", [0, 32])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_every_format_shows_the_colours_that_were_there(pixel_format: str, padding: int, height: int) -> None:
    layout, buffer = buffer_of(COLOURS[:height], pixel_format, padding)
    seen = rgb_of(BufferReader(layout).picture(buffer))
    assert seen.shape == (height, WIDTH, 3)
    for x, y in ((8, 8), (24, 4), (24, 12)):
        assert np.abs(seen[y, x] - COLOURS[y, x]).max() <= 5, (x, y)


def planes_of(picture: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Each plane's samples, shape (rows, columns, samples)."""
    height, width = picture.height, picture.width
    depths = {"nv12": (1, 2), "yuv420p": (1, 1, 1)}.get(picture.format.name, (len(picture.format.components),))
    planes = []
    for number, (plane, depth) in enumerate(zip(picture.planes, depths, strict=True)):
        half = 1 if number == 0 else 2
        rows = np.frombuffer(bytes(plane), np.uint8)[: plane.line_size * (height // half)].reshape(-1, plane.line_size)
        planes.append(rows[:, : width // half * depth].reshape(height // half, width // half, depth))
    return planes


@pytest.mark.parametrize("pixel_format", FORMATS)
@settings(max_examples=50)
@given(
    left=st.integers(0, 7), top=st.integers(0, 3), width=st.integers(1, 8), height=st.integers(1, 4),
    left_right=st.booleans(), top_bottom=st.booleans(), padding=st.sampled_from([0, 16, 64]),
)  # fmt: skip
def test_cutting_and_mirroring_do_what_slices_of_the_planes_do(  # noqa: PLR0917 - hypothesis fills them in by name
    pixel_format: str, left: int, top: int, width: int, height: int, left_right: bool, top_bottom: bool, padding: int
) -> None:
    layout, buffer = buffer_of(COLOURS, pixel_format, padding)
    cut = Box(2 * left, 2 * top, 2 * width, 2 * height)
    reader = BufferReader(layout, cut=cut, left_right=left_right, top_bottom=top_bottom)
    seen = planes_of(reader.picture(buffer))
    for number, (plane, whole) in enumerate(zip(seen, planes_of(BufferReader(layout).picture(buffer)), strict=True)):
        half = 1 if number == 0 else 2
        wanted = whole[cut.y // half : (cut.y + cut.height) // half, cut.x // half : (cut.x + cut.width) // half]
        np.testing.assert_array_equal(plane, wanted[:: -1 if top_bottom else 1, :: -1 if left_right else 1])


def test_bt709_and_full_range_reach_the_conversion() -> None:
    buffer = np.concatenate([np.full(256, 120, np.uint8), np.full(64, 90, np.uint8), np.full(64, 200, np.uint8)])
    seen = {
        (bt709, full): tuple(
            rgb_of(
                BufferReader(BufferLayout("YUV420", 16, 16, 16, bt709=bt709, full_range=full)).picture(buffer)
            )[8, 8].tolist()
        )
        for bt709 in (False, True)
        for full in (False, True)
    }  # fmt: skip
    assert len(set(seen.values())) == 4
    # R = Y + 1.402 (V - 128) for BT.601 in full range, 1.5748 for BT.709; limited range stretches by 255/219.
    assert seen[False, True][0] == pytest.approx(120 + 1.402 * 72, abs=3)
    assert seen[True, True][0] == pytest.approx(120 + 1.5748 * 72, abs=3)


def test_a_picture_without_changes_shares_the_buffers_memory() -> None:
    layout, buffer = buffer_of(COLOURS, "RGB888", 0)
    picture = BufferReader(layout).picture(buffer)
    buffer[:] = 7
    assert (rgb_of(picture) == 7).all()


def test_a_format_nobody_reads_is_refused_with_the_other_way() -> None:
    with pytest.raises(SourceError, match=r"delivers MJPEG, which is not supported; .*type: v4l2"):
        BufferReader(BufferLayout("MJPEG", 16, 16, 16))


def test_a_short_buffer_is_refused() -> None:
    layout, buffer = buffer_of(COLOURS, "NV12", 0)
    with pytest.raises(SourceError, match=r"delivered 700 bytes instead of 864"):
        BufferReader(layout).picture(buffer[:700])
