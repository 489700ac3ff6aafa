"""Finds the cameras of this machine: Video4Linux devices and cameras of libcamera."""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# VIDIOC_QUERYCAP of linux/videodev2.h: driver, card, bus_info, version, capabilities, device_caps, reserved.
_CAPABILITY: Final = struct.Struct("16s32s32sIII12x")
_QUERYCAP: Final = 0x80685600
_VIDEO_CAPTURE: Final = 0x1
_DEVICE_CAPS: Final = 0x80000000
# Drivers of raw sensors and codecs of the Raspberry Pi, which libcamera uses; not cameras by themselves.
_NO_CAMERAS: Final = ("unicam", "bcm2835", "rp1", "pisp", "rpi", "rpivid", "codec")


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera, and the source type that opens it."""

    type: str
    """`v4l2` or `picamera2`."""
    device: str
    """The device to configure (a stable link where there is one), or the number of a picamera2 camera."""
    name: str
    """The name that the camera reports."""


def find_cameras(root: Path = Path("/")) -> tuple[FoundCamera, ...]:
    """Return Raspberry Pi cameras, then USB cameras. Opens devices for a moment, without streaming."""
    return (*_libcamera_cameras(), *_kernel_cameras(root))


def _kernel_cameras(root: Path) -> list[FoundCamera]:
    links = {link.resolve(): link for link in sorted((root / "dev/v4l/by-id").glob("*"))}
    found = []
    for node in sorted((root / "dev").glob("video*"), key=lambda path: [int(d) for d in re.findall(r"\d+", path.name)]):
        name = _capture_name(node)
        if name is not None:
            found.append(FoundCamera("v4l2", str(links.get(node.resolve(), node)), name))
    return found


def _capture_name(node: Path) -> str | None:
    """Return the name of the device; None when it does not capture video."""
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(descriptor, _QUERYCAP, bytes(_CAPABILITY.size))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    driver, card, _, _, capabilities, device_caps = _CAPABILITY.unpack(answer)
    offered = device_caps if capabilities & _DEVICE_CAPS else capabilities
    if not offered & _VIDEO_CAPTURE or driver.rstrip(b"\0").decode("ascii", "replace").startswith(_NO_CAMERAS):
        return None
    return str(card.rstrip(b"\0").decode("utf-8", "replace"))


def _libcamera_cameras() -> list[FoundCamera]:
    try:
        module = importlib.import_module("picamera2")
        listed = module.Picamera2.global_camera_info()
    except (ImportError, AttributeError, RuntimeError, OSError):  # not installed, or libcamera cannot start
        return []
    # libcamera lists USB cameras too, but V4L2 needs less for them.
    own = [camera for camera in listed if "usb" not in str(camera.get("Id", "")).lower()]
    return [FoundCamera("picamera2", str(camera.get("Num", 0)), str(camera.get("Model", "camera"))) for camera in own]
