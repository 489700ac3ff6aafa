"""The region on the sensor is the region that the viewer would have cut out of the upright picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.frames.picamera.geometry import box_in_memory, even_box, filled, sensor_box, sensor_mode
from edge_classifierd.preprocess import Mirror, Region, Rotation, View
from edge_classifierd.scaler import Box

REGIONS = st.builds(
    lambda x, y, w, h: Region(x, y, w * (1 - x), h * (1 - y)),
    st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.1, 1), st.floats(0.1, 1),
)  # fmt: skip


@given(
    region=REGIONS, rotation=st.sampled_from([0, 90, 180, 270]),
    mirror=st.sampled_from(["none", "horizontal", "vertical", "both"]), undone=st.tuples(st.booleans(), st.booleans()),
)  # fmt: skip
def test_the_box_in_memory_holds_the_pixels_of_the_region(
    region: Region, rotation: Rotation, mirror: Mirror, undone: tuple[bool, bool]
) -> None:
    width, height = 64, 48
    view = View(rotation, mirror, region)
    numbered = np.arange(width * height).reshape(height, width)
    # `delivered` is what the source hands out; the camera turns by 180 degrees and mirrors, quarter turns it leaves.
    if rotation in {0, 180}:
        upright = delivered = numbered
        in_memory = delivered[:: -1 if undone[1] else 1, :: -1 if undone[0] else 1]
    else:
        undone = (False, False)
        in_memory = delivered = numbered
        upright = np.rot90(delivered, -(rotation // 90))
        upright = upright[:, ::-1] if mirror in {"horizontal", "both"} else upright
        upright = upright[::-1] if mirror in {"vertical", "both"} else upright
    wanted = view.region_box(upright.shape[1], upright.shape[0])
    box = box_in_memory(view, undone, width, height)
    seen = in_memory[box.y : box.y + box.height, box.x : box.x + box.width]
    expected = upright[wanted.y : wanted.y + wanted.height, wanted.x : wanted.x + wanted.width]
    assert set(seen.flat) == set(expected.flat)


def test_the_sensor_is_cropped_within_the_part_that_has_the_pictures_proportions() -> None:
    view = View(region=Region(0.5, 0.0, 0.5, 1.0))
    # A 4:3 sensor and 16:9 pictures: rows above and below are never seen.
    assert sensor_box(view, (False, False), (1280, 720), (8, 16, 3280, 2464)) == (8 + 1640, 16 + 309, 1640, 1845)
    assert sensor_box(view, (True, False), (1280, 720), (8, 16, 3280, 2464))[0] == 8


@pytest.mark.parametrize(
    ("region", "size"),
    [
        (Region(), (1280, 720)),
        (Region(0.0, 0.0, 0.5, 0.5), (1280, 720)),
        (Region(0.25, 0.0, 0.5, 1.0), (640, 720)),
        (Region(0.0, 0.4, 1.0, 0.1), (1280, 72)),
        (Region(0.0, 0.4, 1.0, 0.01), (1280, 70)),
    ],
)
def test_a_region_is_delivered_as_large_as_fits(region: Region, size: tuple[int, int]) -> None:
    width, height = filled(View(region=region), 1280, 720)
    assert (width, height) == pytest.approx(size, abs=6)
    assert width % 2 == height % 2 == 0


@pytest.mark.parametrize(
    ("resolution", "size", "mode"),
    [
        ((3280, 2464), (640, 480), (1640, 1232)),
        ((4608, 2592), (2304, 1296), (2304, 1296)),
        ((4608, 2592), (2560, 1440), (4608, 2592)),
    ],
)
def test_the_readout_sees_the_whole_field_of_view(
    resolution: tuple[int, int], size: tuple[int, int], mode: tuple[int, int]
) -> None:
    assert sensor_mode(resolution, size) == mode


@given(x=st.integers(0, 50), y=st.integers(0, 50), width=st.integers(1, 50), height=st.integers(1, 50))
def test_an_even_box_is_even_and_near(x: int, y: int, width: int, height: int) -> None:
    box = even_box(Box(x, y, width, height))
    assert all(number % 2 == 0 for number in (box.x, box.y, box.width, box.height))
    assert abs(box.x - x) <= 1
    assert abs(box.width - width) <= 1
