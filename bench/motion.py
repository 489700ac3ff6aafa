"""False wakes, misses and cost of the motion gate: bench/motion.py PHOTOS [--minutes 10] [--scenes 10] [--json].

PHOTOS is a folder of photographs, which make the backgrounds and the things. All sequences are 1280×720 at 10 frames
per second with noise in every pixel, once in RGB and once in YUV:

1. Still scenes under noise, flicker, ramps of brightness, shake, rain, clouds and the switch of an infrared filter: the
   share of frames in which something moves, and how often a whole view is classified because of its light.
2. Photographs of 3 to 15 % of the width that pass, or appear and stay: the share of frames in which a box covers them.
3. The time of `MotionGate.look`, repeated on two pictures.
4. A still scene from memory, ten frames per second, through the daemon's camera thread: the share of a core that the
   process takes, and the time of a look with the caches as they are then.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from av.video.reformatter import Interpolation

from edge_classifierd.clock import SystemClock
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.camera import Camera
from edge_classifierd.frames.capture import Capture
from edge_classifierd.motion.gate import GateSettings, MotionGate
from edge_classifierd.preprocess import Region, View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from edge_classifierd.motion.gate import Look

    Pixels = NDArray[np.int16]
    Change = Callable[[float, Pixels], tuple[Pixels, Region | None]]

WIDTH, HEIGHT, FPS, EDGE = 1280, 720, 10, 8
SETTLED_S: Final = 2.5
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What the gate found in one frame, and what was there."""

    at_s: float
    moving: bool
    classified: bool
    box: Region | None
    truth: Region | None


class Studio:
    """Makes the frames of scenes in one pixel format, always the same ones for a seed."""

    def __init__(self, pixel_format: str, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.pixel_format = pixel_format
        self.depth = (3,) if pixel_format == "rgb24" else ()
        shape = (HEIGHT + 64, WIDTH + 64, *self.depth)
        self._noise = [self.random.normal(size=shape).astype(np.float32) for _ in range(3)]
        self._scaled: tuple[float, list[Pixels]] = (0.0, [])

    def photograph(self, path: Path, width: int, height: int) -> Pixels:
        """Return the middle of a photograph in that size, shape (height, width[, 3])."""
        with av.open(str(path)) as container:
            picture = next(container.decode(video=0))
        scale = max(width / picture.width, height / picture.height)
        across, down = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
        colours = "rgb24" if self.depth else "gray"
        pixels = picture.reformat(across, down, colours, interpolation=Interpolation.BICUBIC).to_ndarray()
        x, y = (across - width) // 2, (down - height) // 2
        return pixels[y : y + height, x : x + width].astype(np.int16)

    def frame(self, pixels: Pixels, sigma: float) -> av.VideoFrame:
        """Return the pixels with noise as a frame."""
        if self._scaled[0] != sigma:
            self._scaled = (sigma, [np.rint(sigma * field).astype(np.int16) for field in self._noise])
        field = self._scaled[1][self.random.integers(len(self._noise))]
        y, x = self.random.integers(0, 64, 2)
        sums = pixels + field[y : y + HEIGHT, x : x + WIDTH]
        noisy: NDArray[np.uint8] = np.clip(sums, 0, 255, out=sums).astype(np.uint8)
        if self.depth:
            return av.VideoFrame.from_numpy_buffer(noisy, "rgb24")
        planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        planes[:HEIGHT] = noisy
        return av.VideoFrame.from_numpy_buffer(planes, "yuv420p")


def run(studio: Studio, scene: Pixels, seconds: float, change: Change, sigma: float) -> list[Seen]:
    gate = MotionGate(GateSettings(follow=True, refresh_s=1e9, hold_s=0.05), View())
    seen = []
    for number in range(int(seconds * FPS)):
        at_s = number / FPS
        pixels, truth = change(at_s, scene)
        look = gate.look(studio.frame(pixels, sigma), at_s)
        seen.append(Seen(at_s, look.moving, look.classify and number > 0, _box(look), truth))
    return seen


def _box(look: Look) -> Region | None:
    return look.things[0].box if look.things else None


def cut(scene: Pixels, dx: int = 0, dy: int = 0) -> Pixels:
    return scene[EDGE + dy : EDGE + dy + HEIGHT, EDGE + dx : EDGE + dx + WIDTH]


def scaled(pixels: Pixels, gain: float, offset: float = 0.0) -> Pixels:
    return (pixels * np.float32(gain) + np.float32(offset)).astype(np.int16)


def ramp(at_s: float) -> float:
    """The course of a ramp that begins after 3 s, 0 to 1 in the unit of the argument's seconds."""
    return min(1.0, max(0.0, at_s))


def still_scenes(random: np.random.Generator) -> dict[str, Change]:  # noqa: C901 - one function for each sequence
    """Return the sequences in which nothing moves."""

    def flicker(t: float, scene: Pixels) -> tuple[Pixels, None]:
        rows = np.arange(HEIGHT, dtype=np.float32).reshape(-1, *[1] * (scene.ndim - 1))
        wave = 1 + 0.06 * np.sin(2 * np.pi * (rows / 300 + 3.7 * t))
        return (cut(scene) * wave.astype(np.float32)).astype(np.int16), None

    def brightness(t: float, scene: Pixels) -> tuple[Pixels, None]:  # up and down by half, in 4 s each
        return scaled(cut(scene), 1 + 0.5 * abs((t / 4 + 1) % 2 - 1)), None

    def shake(pixels: int) -> Change:
        def shaken(_: float, scene: Pixels) -> tuple[Pixels, None]:
            dx, dy = (int(each) for each in random.integers(-pixels, pixels + 1, 2))
            return cut(scene, dx, dy), None

        return shaken

    def gusts(t: float, scene: Pixels) -> tuple[Pixels, Region | None]:
        return shake(2)(t, scene) if int(t) % 3 == 0 else (cut(scene), None)

    def rain(_: float, scene: Pixels) -> tuple[Pixels, None]:
        pixels = cut(scene).copy()
        for _drop in range(120):
            x, y = int(random.integers(WIDTH - 2)), int(random.integers(HEIGHT - 32))
            pixels[y : y + int(random.integers(8, 32)), x : x + 2] += 60
        return pixels, None

    def leaves(t: float, scene: Pixels) -> tuple[Pixels, None]:
        pixels = cut(scene).copy()
        dx, dy = round(6 * np.sin(2 * np.pi * 0.7 * t)), round(3 * np.sin(2 * np.pi * 1.1 * t))
        pixels[:360, 800:1120] = cut(scene, dx, dy)[:360, 800:1120]
        return pixels, None

    def exposure(t: float, scene: Pixels) -> tuple[Pixels, None]:
        return scaled(cut(scene), 1 + 0.3 * ramp((t - 3) / 0.3)), None

    def cloud(t: float, scene: Pixels) -> tuple[Pixels, None]:
        share = ramp(t - 3)
        return scaled(cut(scene), 1 - 0.35 * share, 12 * share), None

    def infrared(t: float, scene: Pixels) -> tuple[Pixels, None]:
        if t < 3:
            return cut(scene), None
        curve = 255 * (np.maximum(cut(scene), 0) / np.float32(255)) ** np.float32(0.5)
        return scaled(curve.astype(np.int16), min(1.0, 0.5 + (t - 3) / 2)), None

    return {
        "noise": lambda _, scene: (cut(scene), None),
        "flicker": flicker,
        "brightness": brightness,
        "shake of 1 px": shake(1),
        "rain": rain,
        "shake of 2 px": shake(2),
        "gusts of 2 px": gusts,
        "leaves of 6 px": leaves,
        "exposure": exposure,
        "cloud": cloud,
        "infrared": infrared,
    }


LONG: Final = ("noise", "flicker", "brightness", "shake of 1 px", "rain")
"""Sequences that run for the whole of `--minutes`, one scene after another; the others take 9 s in each scene."""


def paste(pixels: Pixels, thing: Pixels, x: int, y: int) -> Region | None:
    """Paste a thing as far as it is inside; return its visible part when that is more than half of it."""
    height, width = thing.shape[:2]
    left, right = max(0, x), min(WIDTH, x + width)
    if right <= left:
        return None
    pixels[y : y + height, left:right] = thing[:, left - x : right - x]
    inside = (right - left) / width > 0.5
    return Region(left / WIDTH, y / HEIGHT, (right - left) / WIDTH, height / HEIGHT) if inside else None


def passing(thing: Pixels, speed: float, y: int) -> Change:
    """A thing that crosses the scene from the left, `speed` widths per second."""

    def change(t: float, scene: Pixels) -> tuple[Pixels, Region | None]:
        pixels = cut(scene).copy()
        x = int(-thing.shape[1] + speed * WIDTH * (t - 3))
        return pixels, paste(pixels, thing, x, y) if t >= 3 else None

    return change


def appearing(thing: Pixels, x: int, y: int) -> Change:
    def change(t: float, scene: Pixels) -> tuple[Pixels, Region | None]:
        pixels = cut(scene).copy()
        return pixels, paste(pixels, thing, x, y) if t >= 3 else None

    return change


def covers(box: Region | None, truth: Region) -> bool:
    if box is None:
        return False
    across = min(box.x + box.width, truth.x + truth.width) - max(box.x, truth.x)
    down = min(box.y + box.height, truth.y + truth.height) - max(box.y, truth.y)
    return across > 0 and down > 0


def measure_still(studio: Studio, photographs: Sequence[Path], minutes: float) -> dict[str, dict[str, float]]:
    results = {}
    for name, change in still_scenes(studio.random).items():
        seconds = max(9.0, minutes * 60 / len(photographs)) if name in LONG else 9.0
        moving = frames = classified = 0
        for path in photographs:
            scene = studio.photograph(path, WIDTH + 2 * EDGE, HEIGHT + 2 * EDGE)
            seen = [each for each in run(studio, scene, seconds, change, 6.0) if each.at_s >= SETTLED_S]
            frames += len(seen)
            moving += sum(each.moving for each in seen)
            classified = max(classified, sum(each.classified and not each.moving for each in seen))
        share = 100 * moving / frames
        results[name] = {"moving_percent": share, "frames": frames, "classified_for_light": classified}
        print(f"{studio.pixel_format:<8} {name:<15} moving in {share:6.3f} % of {frames} frames, "
              f"at most {classified} classified for a change of light", file=sys.stderr, flush=True)  # fmt: skip
    return results


def measure_things(studio: Studio, photographs: Sequence[Path], things: Sequence[Path]) -> dict[str, float]:
    results = {}
    for share in (0.03, 0.05, 0.10, 0.15):
        for kind in ("passes slowly", "passes", "appears"):
            frames = hits = 0
            for path, other in zip(photographs, things, strict=True):
                scene = studio.photograph(path, WIDTH + 2 * EDGE, HEIGHT + 2 * EDGE)
                side = round(share * WIDTH)
                thing = studio.photograph(other, side, side)
                y = int(studio.random.integers(0, HEIGHT - side))
                if kind == "appears":
                    change = appearing(thing, int(studio.random.integers(0, WIDTH - side)), y)
                else:
                    change = passing(thing, 0.3 if kind == "passes" else 0.08, y)
                seen = [each for each in run(studio, scene, 8, change, 4.0) if each.truth is not None]
                frames += len(seen)
                hits += sum(covers(each.box, each.truth) for each in seen if each.truth is not None)
            results[f"{share:.0%} {kind}"] = 100 * hits / frames
            print(f"{studio.pixel_format:<8} {share:4.0%} of the width, {kind:<14} found in "
                  f"{100 * hits / frames:6.2f} % of {frames} frames", file=sys.stderr, flush=True)  # fmt: skip
    return results


def measure_cost(studio: Studio, photograph: Path) -> dict[str, float]:
    """Return the median and the fastest tenth of a look, in milliseconds."""
    scene = studio.photograph(photograph, WIDTH + 2 * EDGE, HEIGHT + 2 * EDGE)
    frames = [studio.frame(cut(scene), 4.0) for _ in range(2)]
    gate = MotionGate(GateSettings(), View())
    times = []
    for number in range(600):
        start = time.perf_counter()
        gate.look(frames[number % 2], number / FPS)
        times.append(1000 * (time.perf_counter() - start))
    times = sorted(times[100:])
    cost = {"median_ms": statistics.median(times), "fastest_tenth_ms": times[len(times) // 10]}
    print(f"{studio.pixel_format:<8} a look takes {cost['median_ms']:.3f} ms (median), "
          f"{cost['fastest_tenth_ms']:.3f} ms (fastest tenth)", file=sys.stderr)  # fmt: skip
    return cost


class Still:
    """A source of a still scene with noise, at ten frames per second."""

    live = True
    skipped = 0
    pauses_until_s = -inf

    def __init__(self, frames: Sequence[av.VideoFrame]) -> None:
        self._frames = frames
        self._clock = SystemClock()
        self._count = 0
        self._cancelled = threading.Event()

    def open(self) -> None:
        self._due_s = self._clock.monotonic()

    def read(self) -> Frame | None:
        self._due_s += 1 / FPS
        self._cancelled.wait(max(0.0, self._due_s - self._clock.monotonic()))
        self._count += 1
        picture = self._frames[self._count % len(self._frames)]
        return Frame(picture, self._count, self._clock.monotonic(), self._clock.utc())

    def close(self) -> None:
        self._cancelled.clear()

    def cancel(self) -> None:
        self._cancelled.set()


class TimedGate:
    """Measures each look of a gate."""

    def __init__(self) -> None:
        self._gate = MotionGate(GateSettings(follow=True), View())
        self.times_ms: list[float] = []
        self.admitted = 0

    def admit(self, frame: Frame) -> Frame | None:
        start_s = time.thread_time()
        look = self._gate.look(frame.picture, frame.captured_s)
        self.times_ms.append(1000 * (time.thread_time() - start_s))
        self.admitted += look.classify
        return None

    def aim(self, frame: Frame) -> Frame:
        return frame


def measure_running(studio: Studio, photograph: Path, seconds: float = 30.0) -> dict[str, float]:
    """Return the share of a core that the process takes, and the time of a look."""
    scene = studio.photograph(photograph, WIDTH + 2 * EDGE, HEIGHT + 2 * EDGE)
    source = Still([studio.frame(cut(scene), 4.0) for _ in range(20)])
    results = {}
    for name, gate in (("capture alone", None), ("with gate", TimedGate())):
        camera = Camera(source, name="bench", clock=SystemClock(), stall_timeout_s=10.0)
        capture = Capture(camera, lambda frame: frame, name="bench", prepare_when_taken=True, gate=gate)
        camera.attach(capture)
        capture.start()
        time.sleep(5)
        start_s, cpu_s = time.monotonic(), time.process_time()
        time.sleep(seconds)
        results[name] = 100 * (time.process_time() - cpu_s) / (time.monotonic() - start_s)
        capture.stop(2.0)
        print(f"{studio.pixel_format:<8} {name:<14} {results[name]:.2f} % of a core", file=sys.stderr)
        if gate is not None:
            results["look_ms"] = statistics.median(gate.times_ms)
            print(f"{studio.pixel_format:<8} a look takes {results['look_ms']:.2f} ms (median of "
                  f"{len(gate.times_ms)}); {gate.admitted} frames would be classified", file=sys.stderr)  # fmt: skip
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("still", "things", "cost", "running"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = sorted(path for path in options.photographs.rglob("*") if path.suffix.lower() in SUFFIXES)
    results: dict[str, dict[str, object]] = {}
    for pixel_format in ("rgb24", "yuv420p"):
        studio = Studio(pixel_format, options.seed)
        chosen = [paths[number] for number in studio.random.choice(len(paths), 2 * options.scenes, replace=False)]
        scenes, things = chosen[: options.scenes], chosen[options.scenes :]
        found: dict[str, object] = {}
        results[pixel_format] = found
        if options.only in {None, "cost"}:
            found["cost"] = measure_cost(studio, scenes[0])
        if options.only in {None, "running"}:
            found["running"] = measure_running(studio, scenes[0])
        if options.only in {None, "things"}:
            found["things"] = measure_things(studio, scenes, things)
        if options.only in {None, "still"}:
            found["still"] = measure_still(studio, scenes, options.minutes)
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
