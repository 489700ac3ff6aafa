"""Calculates a camera's regions on the sensor and in memory, its stream sizes and the sensor mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_classifierd.scaler import Box

if TYPE_CHECKING:
    from edge_classifierd.preprocess import View

_SMALLEST: Final = 64


def sensor_mode(resolution: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the sensor mode to request: half the resolution when that is enough, else the whole.

    Sensors offer half the resolution for the whole view. By default picamera2 takes the mode nearest to the wanted
    size, and small modes see only the middle of the sensor.
    """
    half = (resolution[0] // 2, resolution[1] // 2)
    return half if size[0] <= half[0] and size[1] <= half[1] else resolution


def small_size(needed: tuple[int, int], size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the size of a second, smaller stream for the model, in even numbers; None when it saves too little."""
    width, height = (max(_SMALLEST, -(-side // 2) * 2) for side in needed)
    return (width, height) if 2 * width * height <= size[0] * size[1] else None


def box_in_memory(view: View, undone: tuple[bool, bool], width: int, height: int) -> Box:
    """Return the region in a picture of that size from the camera, before the flips in `undone` are applied."""
    if view.rotation in {0, 180}:
        box = view.region_box(width, height)
        x = width - box.x - box.width if undone[0] else box.x
        y = height - box.y - box.height if undone[1] else box.y
        return Box(x, y, box.width, box.height)
    turns = view.rotation // 90
    return view.source_box(view.region_box(height, width), turns, height, width)


def sensor_box(
    view: View, undone: tuple[bool, bool], size: tuple[int, int], sensor: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Return the region in pixels of the sensor, within its middle part that has the proportions of `size`."""
    left, top, width, height = sensor
    seen_width = min(width, round(height * size[0] / size[1]))
    seen_height = min(height, round(width * size[1] / size[0]))
    box = box_in_memory(view, undone, seen_width, seen_height)
    x, y = left + (width - seen_width) // 2 + box.x, top + (height - seen_height) // 2 + box.y
    return x, y, box.width, box.height


def filled(view: View, width: int, height: int) -> tuple[int, int]:
    """Return the largest size with the region's proportions within the wanted size, in even numbers."""
    box = box_in_memory(view, (False, False), width, height)
    scale = min(width / box.width, height / box.height)
    return max(_SMALLEST, int(box.width * scale) // 2 * 2), max(_SMALLEST, int(box.height * scale) // 2 * 2)


def even_box(box: Box) -> Box:
    """Return the box in even numbers, because chroma has half the rows and columns; at least 2 by 2."""
    return Box(box.x // 2 * 2, box.y // 2 * 2, max(2, box.width // 2 * 2), max(2, box.height // 2 * 2))
