"""Finding the cameras that the kernel lists; the kernel's answers are stood in for, the folders are real."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING

from edge_classifierd.doctor.find_cameras import find_cameras

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CAPTURE, OUTPUT, DEVICE_CAPS = 0x1, 0x2, 0x80000000


def test_only_what_captures_is_listed_by_its_stable_link_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {
        "video0": (b"uvcvideo", b"HD Webcam C525", CAPTURE),
        "video1": (b"uvcvideo", b"HD Webcam C525", 0),  # its metadata node
        "video2": (b"uvcvideo", b"Second", CAPTURE),
        "video10": (b"bcm2835-codec", b"decoder", CAPTURE),
        "video11": (b"unicam", b"raw sensor", CAPTURE),
        "video12": (b"loopback", b"Output only", OUTPUT),
        "video13": (b"stk", b"Thirteen", CAPTURE),
    }
    (tmp_path / "dev/v4l/by-id").mkdir(parents=True)
    for name in nodes:
        (tmp_path / "dev" / name).write_text("")
    (tmp_path / "dev/video3").mkdir()  # cannot be opened for writing
    (tmp_path / "dev/v4l/by-id/usb-046d_C525-video-index0").symlink_to(tmp_path / "dev/video0")

    def answer(descriptor: int, request: int, argument: bytes) -> bytes:
        assert request == (2 << 30) | (len(argument) << 16) | (ord("V") << 8)  # _IOR('V', 0, struct v4l2_capability)
        driver, card, caps = nodes[os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))]  # noqa: PTH115, PTH119
        return struct.pack("16s32s32sIII12x", driver, card, b"usb-1", 0x60000, DEVICE_CAPS | CAPTURE | OUTPUT, caps)

    monkeypatch.setattr(fcntl, "ioctl", answer)
    found = [camera for camera in find_cameras(tmp_path) if camera.type == "v4l2"]
    assert [(camera.device, camera.name) for camera in found] == [
        (str(tmp_path / "dev/v4l/by-id/usb-046d_C525-video-index0"), "HD Webcam C525"),
        (str(tmp_path / "dev/video2"), "Second"),
        (str(tmp_path / "dev/video13"), "Thirteen"),
    ]
