"""Finding and opening the Raspberry Pi camera, and what its failures say."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from picamera_stand_in import Hardware, open_files, opened, source

from edge_classifierd.errors import MissingError, SourceError


def test_without_picamera2_the_debian_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(MissingError, match=r"picamera2 is not installed .*sudo apt install python3-picamera2"):
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
    with pytest.raises(SourceError, match=f"^camera {wanted}: no such camera; available: 0: imx708$"):
        source(camera=wanted).open()
    assert hardware.open == 0


def test_reading_and_closing_what_was_never_opened_is_no_crash() -> None:
    camera = source()
    camera.cancel()
    camera.close()
    with pytest.raises(SourceError, match="not open"):
        camera.read()
