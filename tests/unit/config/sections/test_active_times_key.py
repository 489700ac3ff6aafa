"""The key `active`: what it accepts, and the place of its sun times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest
from config_files import MINIMAL

from edge_classifierd.config.generate.json_schema import render_schema
from edge_classifierd.config.loading.load import load
from edge_classifierd.decision.active_times import ActiveRange, ActiveTimes, Coordinates

if TYPE_CHECKING:
    from pathlib import Path

PLACE = "device: {location: {latitude: 52.5, longitude: 13.4}}\n"


def active(folder: Path, line: str, before: str = "") -> ActiveTimes:
    path = folder / "config.yaml"
    path.write_text(f"{before}{MINIMAL}    {line}\n")
    return load(path).configuration.pipelines[0].active


@pytest.mark.parametrize(
    ("line", "ranges"),
    [
        ("", ()),
        ("active:", ()),
        ("active: []", ()),
        ("active: 06:00-22:30", ("06:00 - 22:30",)),
        ('active: ["06:00-08:00", 22:00 - 23:00]', ("06:00 - 08:00", "22:00 - 23:00")),
    ],
)
def test_text_or_list_of_ranges(tmp_path: Path, line: str, ranges: tuple[str, ...]) -> None:
    assert active(tmp_path, line) == ActiveTimes(tuple(map(ActiveRange.parse, ranges)))


def test_sun_times_have_the_place_of_the_device(tmp_path: Path) -> None:
    assert active(tmp_path, "active: sunrise - sunset", PLACE).place == Coordinates(52.5, 13.4)
    assert active(tmp_path, "active: 06:00-22:30", PLACE).place is None


def test_ranges_are_shown_as_text(tmp_path: Path) -> None:
    active(tmp_path, "active: sunrise-30m - sunset", PLACE)
    section = load(tmp_path / "config.yaml").configuration.pipelines[0]
    assert section.model_dump(mode="json")["active"] == ["sunrise-30m - sunset"]


@pytest.mark.parametrize(
    ("value", "valid"),
    [("06:00-22:30", True), (["sunrise-30m - sunset", "1:00-2:00"], True), ("6-22", False), (6, False)],
)
def test_schema_for_editors_knows_the_ranges(value: object, valid: bool) -> None:

    schema = json.loads(render_schema())
    document = {"pipelines": [{"name": "a", "source": {"type": "v4l2"}, "active": value}]}
    assert jsonschema.Draft202012Validator(schema).is_valid(document) is valid
