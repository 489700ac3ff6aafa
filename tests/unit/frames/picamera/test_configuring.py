"""Streams, regions, orientation and controls of the Raspberry Pi camera."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from picamera_stand_in import Hardware, Request, opened, source

from edge_classifierd.clock import SystemClock
from edge_classifierd.config.sections.sources import Picamera2Section as Section
from edge_classifierd.frames.factory import make_source
from edge_classifierd.frames.picamera.controls import CameraControls
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from edge_classifierd.frames.base import Frame


def a_third(width: int, height: int) -> tuple[int, int]:
    return -(-width // 3), -(-height // 3)


def sizes(frame: Frame) -> list[tuple[int, int]]:
    return [(picture.width, picture.height) for picture in (frame.picture, frame.small or frame.picture)]


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
        "camera 0: has no control for `focus`; the key is ignored",
        "camera 0: has no control for `gain`; the key is ignored",
    ]


def test_a_camera_with_autofocus_focuses_by_itself(hardware: Hardware) -> None:
    opened().close()
    assert hardware.set == {"AfMode": "af-continuous"}
    del hardware.controls["AfMode"]
    hardware.set = {}
    opened().close()
    assert hardware.set == {}


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
