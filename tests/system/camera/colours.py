"""Reads frames of the virtual camera through our source; exit 0 when every colour is where it belongs."""

# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import sys

from edge_classifierd.clock import SystemClock
from edge_classifierd.frames.picamera.source import Picamera2Source
from edge_classifierd.preprocess import Region

# The virtual camera passes JPEG's full range on as if it were video's: colours come 8 % stronger, but in their order.
WHERE = {"red": (320, 360), "green": (960, 180), "blue": (960, 540)}
RGB = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220)}


def colour_at(pixels, x, y):
    return tuple(int(value) for value in pixels[y - 8 : y + 8, x - 8 : x + 8].reshape(-1, 3).mean(0))


def a_third(width, height):
    return -(-width // 3), -(-height // 3)


def check(source, where, for_model):
    wrong = 0
    for _ in range(3):  # opened, closed and opened again
        source.open()
        frame = [source.read() for _ in range(5)][-1]
        for picture in (frame.picture, frame.small or frame.picture):
            wrong += check_picture(picture, where, picture.height / 720)
        smaller = frame.small or frame.picture
        size = (smaller.width, smaller.height)
        if size != for_model:
            wrong += 1
            print(f"{size} for the model instead of {for_model}")
        source.close()
    return wrong


def check_picture(picture, where, scale):
    wrong = 0
    pixels = picture.to_ndarray(format="rgb24")
    for name, (x, y) in where.items():
        seen = colour_at(pixels, round(x * scale), round(y * scale))
        good = all(abs(a - b) < 20 for a, b in zip(seen, RGB[name], strict=True))
        wrong += not good
        said = f"{picture.format.name} {picture.width}x{picture.height}"
        print(f"{said} {name}: {seen}{'' if good else f' instead of {RGB[name]}'}")
    return wrong


def main() -> int:
    clock = SystemClock()
    options = {"width": 1280, "height": 720, "needs": a_third, "stall_timeout_s": 5, "clock": clock}
    wrong = check(Picamera2Source("imx708", **options), WHERE, (428, 240))
    right_half = Picamera2Source(0, region=Region(0.5, 0.0, 0.5, 1.0), fps=20, **options)
    wrong += check(right_half, {"green": (320, 180), "blue": (320, 540)}, (640, 720))  # cut out here
    right_half.open()
    begun = clock.monotonic()
    for _ in range(20):
        right_half.read()
    took = clock.monotonic() - begun
    right_half.close()
    print(f"20 frames at 20 fps in {took:.2f} s")
    return int(wrong > 0 or not 0.8 < took < 1.3)


if __name__ == "__main__":
    sys.exit(main())
