"""The suggested configuration."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.config.loading.load import load
from edge_classifierd.doctor.find_cameras import FoundCamera
from edge_classifierd.doctor.suggested_configuration import find_broker, found_lines, suggest
from edge_classifierd.inference.edgetpu.devices import Tpu

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["2024", "0x10", "On", "null", "1e3", "~", "Überwachung!", "", "a" * 80])
def test_a_camera_may_call_itself_whatever_it_likes(tmp_path: Path, name: str) -> None:
    cameras = [FoundCamera("v4l2", "/dev/video0", name), FoundCamera("v4l2", "/dev/video2", name)]
    (tmp_path / "config.yaml").write_text(suggest(cameras, (), "broker"))
    first, second = load(tmp_path / "config.yaml").configuration.pipelines
    assert second.name == f"{first.name}-2"
    assert [str(one.source.device) for one in (first, second)] == ["/dev/video0", "/dev/video2"]  # type: ignore[union-attr]


def test_the_second_camera_of_the_board_is_suggested_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(suggest([FoundCamera("picamera2", "1", "imx708")], (), None))
    (one,) = load(tmp_path / "config.yaml").configuration.pipelines
    assert (one.source.type, one.source.camera) == ("picamera2", 1)  # type: ignore[union-attr]


def test_the_first_broker_that_listens_is_suggested() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert find_broker(("no-such-host.invalid", "127.0.0.1", "127.0.0.2"), port) == "127.0.0.1"
    assert find_broker(("127.0.0.1",), port) is None


def test_what_was_found_and_what_stands_in_for_what_was_not() -> None:
    none = found_lines((), (), None)
    assert [line.partition(":")[0] for line in none] == ["no camera found", "no MQTT broker found"]
    assert "/dev/video0" in none[0]
    assert "mqtt.host" in none[1]
    found = found_lines([FoundCamera("picamera2", "0", "imx708")], [Tpu("usb", 0, "1-1")], "homeassistant.local")
    assert found == [
        "camera found: imx708 (picamera2 0)",
        "MQTT broker found: homeassistant.local",
        "Edge TPU found: usb:0",
    ]


def test_a_suggestion_without_a_broker_says_that_it_guesses() -> None:
    assert "host: localhost   # no broker was found: name yours" in suggest((), (), None)
    assert "host: homeassistant.local\n" in suggest((), (), "homeassistant.local")
    assert "usb:0" in suggest((), [Tpu("usb", 0, "1-1")], None)
