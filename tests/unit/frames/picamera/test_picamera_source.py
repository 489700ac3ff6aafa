"""The Raspberry Pi camera's source, on a stand-in for the modules picamera2 and libcamera."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.sources import Picamera2Section as Section
from edge_classifierd.errors import MissingError, SourceError
from edge_classifierd.frames.factory import make_source
from edge_classifierd.frames.picamera.controls import CameraControls
from edge_classifierd.frames.picamera.source import Picamera2Source
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.frames.base import Frame

CONTROLS = {
    "FrameDurationLimits": (20000, 500000, None),
    "ScalerCrop": ((0, 0, 64, 64), (0, 0, 4608, 2592), (0, 0, 4608, 2592)),
    "ExposureTime": (1, 66666, None), "AnalogueGain": (1.0, 16.0, None),
    "AfMode": (0, 2, 0), "LensPosition": (0.0, 32.0, 1.0), "AwbMode": (0, 7, 0), "AeExposureMode": (0, 3, 0),
}  # fmt: skip


class Hardware:
    """What is plugged in and what it does; shared by all the cameras of a test."""

    def __init__(self) -> None:
        self.cameras = [{"Model": "imx708", "Id": "/base/i2c@1a", "Num": 0}]
        self.controls: dict[str, Any] = dict(CONTROLS)
        self.seen = self.cameras
        self.transform_works = True
        self.streams = 2
        self.smallest = 16
        self.busy = False
        self.silent = False
        self.short = False
        self.open = 0
        self.requests_out = 0
        self.configured: dict[str, Any] = {}
        self.set: dict[str, Any] = {}

    def look(self) -> None:
        """libcamera starts, and sees what is plugged in."""
        self.seen = list(self.cameras)


class Request:
    def __init__(self, hardware: Hardware, sizes: dict[str, tuple[int, int]]) -> None:
        self.hardware, self.sizes = hardware, sizes
        hardware.requests_out += 1

    def make_buffer(self, name: str) -> Any:
        width, height = self.sizes[name]
        if self.hardware.short:
            raise RuntimeError("buffer is gone")
        return np.full(width * height * 3 // 2, 128, np.uint8)

    def release(self) -> None:
        self.hardware.requests_out -= 1


class Job:
    def __init__(self) -> None:
        self.future: Future[Request] = Future()

    def get_result(self, timeout: float | None = None) -> Request:
        return self.future.result(timeout)


def modules(hardware: Hardware) -> dict[str, ModuleType]:  # noqa: C901 - a whole stand-in
    """picamera2 and libcamera as far as the source uses them, doing what the real ones do (0.3.38, 0.4.0)."""

    class Picamera2:
        sensor_resolution = (4608, 2592)
        _cm = SimpleNamespace(reset=hardware.look)

        def __init__(self, number: int) -> None:
            reading, self.notifyme_w = os.pipe()
            self.notifymeread = os.fdopen(reading, "rb")
            self.is_open = False
            self._preview = None
            self.jobs: list[Job] = []
            if hardware.busy:
                raise RuntimeError("Camera __init__ sequence did not complete.") from RuntimeError(
                    "Failed to acquire camera: Device or resource busy"
                )
            self.number, self.is_open = number, True
            self.camera_controls = hardware.controls
            hardware.open += 1

        @staticmethod
        def global_camera_info() -> list[dict[str, Any]]:
            return hardware.seen

        def create_video_configuration(self, **given: Any) -> dict[str, Any]:
            return given

        def configure(self, given: dict[str, Any]) -> None:
            sizes = {name: given[name]["size"] for name in ("main", "lores") if given[name]}
            if len(sizes) > hardware.streams:
                raise RuntimeError("lores stream is not supported")
            if "lores" in sizes:
                width, height = sizes["lores"]
                sizes["lores"] = (max(hardware.smallest, width), max(hardware.smallest, height))
            hardware.configured, self.sizes = given, sizes

        def camera_configuration(self) -> dict[str, Any]:
            given = hardware.configured
            done = given["transform"] if hardware.transform_works else SimpleNamespace(hflip=0, vflip=0)
            streams: dict[str, Any] = {"main": None, "lores": None}
            for name, size in self.sizes.items():
                streams[name] = {"format": "YUV420", "size": size, "stride": size[0]}
            return {**streams, "transform": done, "colour_space": given["colour_space"]}

        def set_controls(self, controls: dict[str, Any]) -> None:
            assert set(controls) <= set(hardware.controls)
            hardware.set = controls

        def start(self) -> None:
            pass

        def capture_request(self, *, wait: bool, signal_function: Any) -> Job:
            assert wait is False
            job = Job()
            if hardware.silent:
                self.jobs.append(job)
            else:
                job.future.set_result(Request(hardware, self.sizes))
                signal_function(job)
            return job

        def cancel_all_and_flush(self) -> None:
            for job in self.jobs:
                job.future.cancel()
            self.jobs = []

        def close(self) -> None:
            assert not self.jobs, "the real one would wait for ever"
            if self.is_open:
                hardware.open -= 1
                self.is_open = False
                self.notifymeread.close()
                os.close(self.notifyme_w)

    libcamera = ModuleType("libcamera")
    libcamera.Transform = lambda hflip, vflip: SimpleNamespace(hflip=int(hflip), vflip=int(vflip))  # type: ignore[attr-defined]
    space = SimpleNamespace(ycbcrEncoding=SimpleNamespace(name="Rec601"), range=SimpleNamespace(name="Limited"))
    libcamera.ColorSpace = SimpleNamespace(Smpte170m=lambda: space)  # type: ignore[attr-defined]
    libcamera.controls = SimpleNamespace(  # type: ignore[attr-defined]
        AfModeEnum=SimpleNamespace(Continuous="af-continuous", Manual="af-manual"),
        AwbModeEnum=SimpleNamespace(Daylight="awb-daylight"),
        AeExposureModeEnum=SimpleNamespace(Short="ae-short"),
    )
    picamera2 = ModuleType("picamera2")
    picamera2.Picamera2 = Picamera2  # type: ignore[attr-defined]
    return {"libcamera": libcamera, "picamera2": picamera2}


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hardware]:
    made = Hardware()
    for name, module in modules(made).items():
        monkeypatch.setitem(sys.modules, name, module)
    yield made
    assert made.open == 0, "a camera was left open"
    assert made.requests_out == 0, "a request was not given back"


def source(**options: Any) -> Picamera2Source:
    given = {"width": 1280, "height": 720, "stall_timeout_s": 0.2, "clock": SystemClock()} | options
    return Picamera2Source(given.pop("camera", 0), **given)


def opened(**options: Any) -> Picamera2Source:
    made = source(**options)
    made.open()
    return made


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_frames_come_numbered_in_the_wanted_size_and_every_request_is_given_back(hardware: Hardware) -> None:
    camera = opened()
    frames = [camera.read() for _ in range(20)]
    assert [frame.sequence for frame in frames] == list(range(20))
    picture = frames[0].picture
    assert (picture.format.name, picture.width, picture.height) == ("yuv420p", 1280, 720)
    assert hardware.requests_out == 0
    camera.close()


def a_third(width: int, height: int) -> tuple[int, int]:
    return -(-width // 3), -(-height // 3)


def sizes(frame: Frame) -> list[tuple[int, int]]:
    return [(picture.width, picture.height) for picture in (frame.picture, frame.for_model)]


def test_the_camera_scales_for_the_model_in_a_second_stream(hardware: Hardware) -> None:
    camera = opened(needs=a_third)
    frame = camera.read()
    assert sizes(frame) == [(1280, 720), (428, 240)]
    assert hardware.configured["lores"] == {"size": (428, 240), "format": "YUV420"}
    assert hardware.requests_out == 0
    camera.close()


@pytest.mark.parametrize(
    ("options", "streams", "smallest"),
    [
        pytest.param({}, 2, 16, id="nobody says what the model needs"),
        pytest.param({"needs": lambda width, height: (width - 300, height - 150)}, 2, 16, id="it needs nearly all"),
        pytest.param({"needs": a_third}, 1, 16, id="the camera has one stream"),
        pytest.param({"needs": a_third}, 2, 300, id="the camera would distort it"),
    ],
)
def test_where_a_second_stream_is_of_no_use_the_picture_itself_is_for_the_model(
    hardware: Hardware, options: dict[str, Any], streams: int, smallest: int
) -> None:
    hardware.streams, hardware.smallest = streams, smallest
    camera = opened(**options)
    frame = camera.read()
    assert frame.small is None
    assert frame.for_model is frame.picture
    assert not hardware.configured["lores"]
    camera.close()


def test_a_region_that_the_camera_cuts_out_is_cut_out_of_both_streams(hardware: Hardware) -> None:
    hardware.controls["ScalerCrops"] = ((0, 0, 64, 64), (0, 0, 4608, 2592), (0, 0, 4608, 2592))
    camera = opened(region=Region(0.0, 0.0, 0.5, 0.5), needs=a_third)
    assert sizes(camera.read()) == [(1280, 720), (428, 240)]
    assert hardware.set["ScalerCrops"] == [(0, 0, 2304, 1296)] * 2
    camera.close()


def test_a_region_that_is_cut_out_here_leaves_one_stream(hardware: Hardware) -> None:
    del hardware.controls["ScalerCrop"]
    camera = opened(region=Region(0.0, 0.0, 0.5, 0.5), needs=a_third)
    assert sizes(camera.read()) == [(640, 360), (640, 360)]
    camera.close()


def test_the_factory_hands_on_what_the_model_needs(hardware: Hardware) -> None:
    camera = make_source(Section.model_validate({"type": "picamera2"}), SystemClock(), None, a_third)
    camera.open()
    frame = camera.read()
    assert frame is not None
    assert sizes(frame)[1] == (428, 240)
    assert hardware.configured["lores"]
    camera.close()


def test_a_request_is_given_back_even_when_its_buffer_fails(hardware: Hardware) -> None:
    camera = opened()
    hardware.short = True
    with pytest.raises(SourceError, match=r"^camera 0: buffer is gone; check its cable"):
        camera.read()
    camera.close()


def test_without_picamera2_the_debian_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(MissingError, match=r"picamera2 is not there .*sudo apt install python3-picamera2"):
        source().open()


def test_a_picamera2_that_does_not_fit_numpy_is_told_from_one_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("libcamera", "picamera2"):
        (tmp_path / f"{name}.py").write_text("raise ValueError('numpy.dtype size changed')\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingError, match=r"cannot be loaded \(numpy.dtype size changed\); .*pip uninstall numpy"):
        source().open()


def test_a_camera_that_comes_after_libcamera_has_looked_is_found(hardware: Hardware) -> None:
    there, hardware.cameras, hardware.seen = hardware.cameras, [], []
    camera = source()
    with pytest.raises(SourceError, match="libcamera finds no camera"):
        camera.open()
    camera.close()
    hardware.cameras = there
    camera.open()
    camera.close()


def test_no_camera_at_all_is_one_sentence_and_costs_no_file(hardware: Hardware) -> None:
    hardware.cameras = hardware.seen = []
    camera = source()
    before = open_files()
    for _ in range(5):
        with pytest.raises(SourceError, match=r"^camera 0: libcamera finds no camera; check its cable"):
            camera.open()
        camera.close()
    assert open_files() == before


def test_a_busy_camera_is_one_sentence_and_costs_no_file(hardware: Hardware) -> None:
    hardware.busy = True
    camera = source()
    before = open_files()
    for _ in range(5):
        with pytest.raises(SourceError, match=r"^camera 0: in use by another program; stop that"):
            camera.open()
        camera.close()
    assert open_files() == before
    hardware.busy = False
    camera.open()
    assert camera.read().sequence == 0
    camera.close()


@pytest.mark.parametrize(("wanted", "number"), [(1, 1), ("imx219", 1), ("IMX708", 0), ("i2c@1a", 0)])
def test_a_camera_is_found_by_number_model_or_id(hardware: Hardware, wanted: int | str, number: int) -> None:
    hardware.cameras.append({"Model": "imx219", "Id": "/base/i2c@80000", "Num": 1})
    camera = opened(camera=wanted)
    assert camera._camera.number == number
    camera.close()


@pytest.mark.parametrize("wanted", [1, "imx219"])
def test_a_camera_that_is_not_there_is_answered_with_those_that_are(hardware: Hardware, wanted: int | str) -> None:
    with pytest.raises(SourceError, match=f"^camera {wanted}: no such camera; there is 0: imx708$"):
        source(camera=wanted).open()
    assert hardware.open == 0


def test_a_silent_camera_is_a_stall_and_can_be_opened_again(hardware: Hardware) -> None:
    camera = opened()
    hardware.silent = True
    begun = time.monotonic()
    with pytest.raises(SourceError, match=r"^camera 0: no picture for 0.2 s; check its cable"):
        camera.read()
    assert 0.15 < time.monotonic() - begun < 2
    camera.close()
    hardware.silent = False
    camera.open()
    assert camera.read().sequence == 0
    camera.close()


def test_cancelling_ends_a_read_that_waits_and_holds_until_close(hardware: Hardware) -> None:
    camera = opened(stall_timeout_s=60)
    hardware.silent = True
    threading.Timer(0.05, camera.cancel).start()
    with pytest.raises(SourceError, match="reading was cancelled"):
        camera.read()
    with pytest.raises(SourceError, match="reading was cancelled"):
        camera.read()
    camera.close()
    hardware.silent = False
    camera.open()
    camera.read()
    camera.close()


def test_reading_and_closing_what_was_never_opened_is_no_crash() -> None:
    camera = source()
    camera.cancel()
    camera.close()
    with pytest.raises(SourceError, match="not open"):
        camera.read()


@pytest.mark.parametrize(
    ("rotation", "mirror", "flips"),
    [
        (0, "none", (0, 0)), (180, "none", (1, 1)), (0, "horizontal", (1, 0)), (0, "vertical", (0, 1)),
        (180, "horizontal", (0, 1)), (180, "both", (0, 0)), (90, "horizontal", (0, 0)), (270, "none", (0, 0)),
    ],
)  # fmt: skip
def test_the_camera_turns_and_mirrors_where_it_can(
    hardware: Hardware, rotation: Any, mirror: Any, flips: tuple[int, int]
) -> None:
    camera = opened(rotation=rotation, mirror=mirror)
    done = hardware.configured["transform"]
    assert (done.hflip, done.vflip) == flips
    camera.close()


def test_what_the_camera_does_not_turn_is_turned_here(hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    def numbered(request: Request, name: str) -> Any:
        width, height = request.sizes[name]
        return np.arange(width * height * 3 // 2).astype(np.uint8)

    monkeypatch.setattr(Request, "make_buffer", numbered)
    luma = {}
    for works in (True, False):
        hardware.transform_works = works
        camera = opened(width=64, height=64, rotation=180)
        luma[works] = camera.read().picture.to_ndarray()[:64]
        camera.close()
    np.testing.assert_array_equal(luma[False], luma[True][::-1, ::-1])


def test_a_region_is_cut_by_the_camera_and_fills_the_wanted_size(hardware: Hardware) -> None:
    camera = opened(region=Region(0.5, 0.0, 0.5, 1.0))
    assert hardware.configured["main"]["size"] == (640, 720)
    assert hardware.set["ScalerCrop"] == (2304, 0, 2304, 2592)
    camera.close()
    hardware.controls["ScalerCrops"] = (None, None, None)
    camera = opened(region=Region(0.0, 0.0, 0.25, 0.25))
    assert hardware.configured["main"]["size"] == (1280, 720)
    assert hardware.set["ScalerCrops"] == [(0, 0, 1152, 648)]
    assert "ScalerCrop" not in hardware.set, "ScalerCrops would win over it"
    camera.close()


def test_a_region_that_the_camera_cannot_cut_is_cut_here(hardware: Hardware) -> None:
    del hardware.controls["ScalerCrop"]
    camera = opened(region=Region(0.5, 0.0, 0.5, 1.0))
    picture = camera.read().picture
    assert (picture.width, picture.height) == (640, 720)
    camera.close()


def test_looks_reach_the_camera_and_what_it_lacks_is_told_once(
    hardware: Hardware, caplog: pytest.LogCaptureFixture
) -> None:
    del hardware.controls["LensPosition"], hardware.controls["AnalogueGain"]
    look = CameraControls(exposure="short", exposure_time_s=0.01, gain=2.0, white_balance="daylight", focus=2.0)
    camera = source(look=look, fps=10)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            camera.open()
            camera.close()
    assert hardware.set == {
        "AeExposureMode": "ae-short", "ExposureTime": 10000, "AwbMode": "awb-daylight", "AfMode": "af-manual",
        "FrameDurationLimits": (100000, 100000),
    }  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [
        "camera 0: it has no control for `focus`, which is ignored",
        "camera 0: it has no control for `gain`, which is ignored",
    ]


def test_a_camera_with_autofocus_focuses_by_itself(hardware: Hardware) -> None:
    opened().close()
    assert hardware.set == {"AfMode": "af-continuous"}
    del hardware.controls["AfMode"]
    hardware.set = {}
    opened().close()
    assert hardware.set == {}


def test_a_rate_beyond_the_cameras_limits_is_kept_by_waiting(hardware: Hardware) -> None:
    camera = opened(fps=50)
    assert hardware.set["FrameDurationLimits"] == (20000, 20000)
    begun = time.monotonic()
    for _ in range(11):
        camera.read()
    assert 0.18 < time.monotonic() - begun < 1
    camera.close()
    camera = opened(fps=1)
    assert hardware.set["FrameDurationLimits"] == (500000, 500000)
    camera.close()


def test_the_section_says_what_the_source_does_itself_and_reaches_it(hardware: Hardware) -> None:
    section = Section.model_validate(
        {"type": "picamera2", "rotation": 180, "region_in_camera": True, "focus": 0.5, "fps": None}
    )
    assert section.turns_itself
    assert section.cuts_itself
    camera = make_source(section, SystemClock(), Region(0.0, 0.0, 0.5, 0.5))
    camera.open()
    assert hardware.configured["transform"].hflip == 1
    assert hardware.set == {"ScalerCrop": (0, 0, 2304, 1296), "AfMode": "af-manual", "LensPosition": 0.5}
    camera.close()
    quarter = Section.model_validate({"type": "picamera2", "rotation": 90})
    assert not quarter.turns_itself
    assert not quarter.cuts_itself
