from __future__ import annotations

import io
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from frame_fakes import ManualClock
from PIL import Image

from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.camera import Camera
from edge_classifierd.frames.picture_check import BLANK_AFTER_S, FROZEN_AFTER_S, PictureCheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

RANDOM = np.random.default_rng(20)
HEIGHT, WIDTH = 240, 320


def noisy(level: float, sigma: float) -> Pixels:
    values = RANDOM.normal(level, sigma, (HEIGHT, WIDTH, 3))
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def even(*colour: int) -> Pixels:
    return np.full((HEIGHT, WIDTH, 3), colour, np.uint8)


def scene() -> Pixels:
    """Return a picture with content, always the same."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([rows, columns % 256, (rows + columns) % 256], axis=-1).astype(np.uint8)


def jpeg(pixels: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def with_text(pixels: Pixels, value: int = 255) -> Pixels:
    """Return the picture with bright bars where a camera writes the time, in the upper eighth."""
    pixels = pixels.copy()
    pixels[6:18, 10 : 10 + 4 * (value % 40) : 3] = value
    return pixels


def flags(make: Callable[[int], Pixels], *, seconds: int = 400, every_s: int = 10) -> dict[str | None, float]:
    """Return the first time of each flag while a camera sends the pictures that `make` returns for each second."""
    check, found = PictureCheck("porch"), dict[str | None, float]()
    for second in range(0, seconds, every_s):
        check.observe(av.VideoFrame.from_ndarray(make(second), format="rgb24"), second)
        found.setdefault(None if check.problem is None else check.problem.flag, second)
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda _: noisy(120, 3),
        lambda _: noisy(4, 2),  # night
        lambda _: noisy(1, 0.6),  # most of the values are 0
        lambda _: jpeg(noisy(6, 4)),
        lambda second: with_text(scene(), second % 200),  # a still scene, and the time of the camera
        lambda second: scene() if second % 100 < 50 else noisy(120, 3),  # still between key frames
        lambda second: even(0, 0, 0) if second % 120 < 50 else noisy(4, 2),
        lambda second: even(255, 255, 255) if second % 120 < 50 else noisy(200, 3),  # dazzled
        lambda _: np.clip(noisy(200, 3) + np.linspace(0, 40, WIDTH)[:, None], 0, 255).astype(np.uint8),  # fog
        lambda _: with_text(noisy(0, 0.5), 60),
    ],
)
def test_picture_with_noise_or_changes_is_no_problem(make: Callable[[int], Pixels]) -> None:
    assert set(flags(make)) == {None}


@pytest.mark.parametrize("colour", [(0, 255, 0), (0, 0, 255), (128, 128, 128), (255, 255, 255), (0, 0, 0), (3, 3, 3)])
def test_one_even_colour_is_blank_within_a_minute(colour: tuple[int, int, int]) -> None:
    found = flags(lambda _: even(*colour))
    assert BLANK_AFTER_S <= found["blank"] <= BLANK_AFTER_S + 10
    assert "frozen" not in found


@pytest.mark.parametrize(
    "make",
    [
        lambda _: jpeg(even(20, 200, 40)),
        lambda second: with_text(even(0, 200, 0), second % 200),  # a dead sensor behind the camera's clock
        lambda second: even(100, 100 + second // 10 % 2, 100),
    ],
)
def test_nearly_even_bright_picture_is_blank(make: Callable[[int], Pixels]) -> None:
    assert "blank" in flags(make)


def test_small_thing_in_front_of_an_overexposed_sky_is_content() -> None:
    sky = even(255, 255, 255)
    sky[110:130, 150:170] = 80
    assert "blank" not in flags(lambda _: sky)


def test_lamp_in_the_dark_is_content() -> None:
    dark = even(0, 0, 0)
    dark[60:62, 100:103] = 90
    assert "blank" not in flags(lambda _: dark)


@pytest.mark.parametrize("make", [lambda _: scene(), lambda _: jpeg(scene())])
def test_same_picture_is_frozen_after_minutes(make: Callable[[int], Pixels]) -> None:
    found = flags(make)
    assert FROZEN_AFTER_S <= found["frozen"] <= FROZEN_AFTER_S + 20
    assert "blank" not in found


def test_few_pictures_are_not_enough_for_frozen() -> None:
    assert set(flags(lambda _: scene(), seconds=540, every_s=60)) == {None}
    assert "frozen" in flags(lambda _: scene(), seconds=780, every_s=60)


def test_beginning_and_end_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    still = scene()
    flags(lambda second: still if second < 300 else noisy(120, 3))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "porch: the camera sends the same picture again and again; restart the camera" in caplog.text
    assert "porch: the picture is in order again" in caplog.text


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "gray", "yuyv422", "bgra"])
def test_pixel_formats_of_cameras_are_read(pixel_format: str) -> None:
    frozen, moving = PictureCheck("a"), PictureCheck("b")
    for second in range(0, 300, 10):
        still = av.VideoFrame.from_ndarray(scene(), format="rgb24").reformat(format=pixel_format)
        frozen.observe(still, float(second))
        moving.observe(av.VideoFrame.from_ndarray(noisy(90, 3)).reformat(format=pixel_format), float(second))
    assert frozen.problem is not None
    assert frozen.problem.flag == "frozen"
    assert moving.problem is None


class StillCamera:
    """Delivers the same picture, a second apart by the clock of the test, then ends."""

    skipped = 0
    pauses_until_s = 0.0

    def __init__(self, clock: ManualClock, *, live: bool) -> None:
        self.live = live
        self._clock = clock
        self._left = 400

    def open(self) -> None: ...

    def read(self) -> Frame | None:
        self._clock.now_s += 1.0
        self._left -= 1
        picture = av.VideoFrame.from_ndarray(scene(), format="rgb24")
        return Frame(picture, 0, self._clock.now_s, datetime.now(UTC)) if self._left else None

    def close(self) -> None: ...

    def cancel(self) -> None: ...


class Receiver:
    """Takes no frame, so that the camera does not wait."""

    delivering = True

    def offer(self, _: Frame) -> bool:
        return False

    def wait_until_taken(self, patience_s: float | None) -> None: ...

    def set_status(self, status: object, reason: str) -> None: ...

    def end(self, status: object, bug: BaseException | None) -> None: ...


@pytest.mark.parametrize("live", [True, False])
def test_camera_checks_its_picture_if_it_is_live(live: bool) -> None:
    clock = ManualClock()
    camera, receiver = Camera(StillCamera(clock, live=live), name="porch", clock=clock, stall_timeout_s=10), Receiver()
    camera.attach(receiver)
    camera.start()
    camera._thread.join(20)
    assert (camera.picture_problem is not None) is live
    camera.detach(receiver)
