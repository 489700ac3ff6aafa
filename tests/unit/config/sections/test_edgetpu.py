"""Devices and the Edge TPU's section, as the file may have them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edge_classifierd.config.sections.edgetpu import EdgeTpuSection
from edge_classifierd.config.sections.model import ModelSection


@pytest.mark.parametrize("device", ["auto", "cpu", "edgetpu", "usb", "usb:0", "usb:12", "pci", "pci:1"])
def test_every_known_device_is_taken(device: str) -> None:
    assert ModelSection.model_validate({"device": device}).device == device


@pytest.mark.parametrize("device", ["gpu", "usb:", "usb:x", "usb:-1", "USB", "", 0, None, ["usb:0"]])
def test_other_devices_are_refused(device: object) -> None:
    with pytest.raises(ValidationError):
        ModelSection.model_validate({"device": device})


def test_options_reach_the_library_as_texts() -> None:
    section = EdgeTpuSection.model_validate({"options": {"Performance": "Max", "Usb.AlwaysDfu": True, "Queue": 32}})
    assert section.options == {"Performance": "Max", "Usb.AlwaysDfu": "True", "Queue": "32"}
    assert EdgeTpuSection.model_validate({"options": None}).options == {}


@pytest.mark.parametrize(
    "section",
    [
        {"options": {"device": "usb:0"}},
        {"options": {"a": None}},
        {"options": {"a": 1.5}},
        {"options": {1: "a"}},
        {"options": {"": "a"}},
        {"options": "Performance=Max"},
        {"options": {str(number): "a" for number in range(33)}},
        {"deadline": 0},
        {"deadline": "11s"},
        {"load_deadline": 0.1},
        {"count": 0},
        {"library": ""},
        {"libary": "x"},
    ],
)
def test_what_cannot_be_meant_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EdgeTpuSection.model_validate(section)


def test_durations_are_seconds() -> None:
    section = EdgeTpuSection.model_validate({"deadline": "250ms", "load_deadline": "1m"})
    assert (section.deadline, section.load_deadline) == (0.25, 60.0)
