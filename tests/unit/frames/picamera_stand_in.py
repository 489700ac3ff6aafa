"""A stand-in for the modules picamera2 and libcamera."""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from edge_classifierd.clock import SystemClock
from edge_classifierd.frames.picamera.source import Picamera2Source

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


def source(**options: Any) -> Picamera2Source:
    given = {"width": 1280, "height": 720, "stall_timeout_s": 0.2, "clock": SystemClock()} | options
    return Picamera2Source(given.pop("camera", 0), **given)


def opened(**options: Any) -> Picamera2Source:
    made = source(**options)
    made.open()
    return made


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
