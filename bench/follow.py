"""Top-1 of what moves with `follow`, and of the whole frame: bench/follow.py IMAGENET [--tuning] [--margins 0,0.1].

IMAGENET is a folder with a table `labels.csv` (columns file and class_index, from 0) of ImageNet photographs. Each is
shown as a square, as an oval and as a cut-out along its colours, at random places of a 1280×720 scene made of
another photograph, with noise of σ 4 in every pixel. It appears, or it slides in, stops and leaves again. Every second
photograph was kept out of all tuning and is measured by default; `--tuning` measures the others.

The bundled model classifies the whole frame, the square that the gate finds, and the true square.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import av
import numpy as np
from av.video.reformatter import Interpolation

from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.model.bundle import bundled_model_path, load_bundle
from edge_classifierd.motion.gate import GateSettings, MotionGate, square_around
from edge_classifierd.preprocess import Preprocessor, Region, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Pixels = NDArray[np.int16]
    Shape = Literal["square", "oval", "cut-out"]

WIDTH, HEIGHT = 1280, 720
EMPTY_S: Final = (0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.1)
STEP_S: Final = 0.1
SHAPES: Final[tuple[Shape, ...]] = ("square", "oval", "cut-out")


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph of ImageNet."""

    path: Path
    class_index: int


def read(path: Path, width: int, height: int) -> Pixels:
    """Return the middle of a photograph in that size, shape (height, width, 3)."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
    scale = max(width / picture.width, height / picture.height)
    across, down = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    pixels = picture.reformat(across, down, "rgb24", interpolation=Interpolation.BICUBIC).to_ndarray()
    x, y = (across - width) // 2, (down - height) // 2
    return pixels[y : y + height, x : x + width].astype(np.int16)


def outline(shape: Shape, thing: Pixels) -> NDArray[np.float32]:
    """Return how opaque each pixel of the thing is, shape (side, side, 1), 0 to 1, with soft edges."""
    side = len(thing)
    if shape == "square":
        return np.ones((side, side, 1), np.float32)
    at = np.linspace(-1, 1, side)
    radius = np.hypot(at[:, None], at[None])
    if shape == "oval":
        oval: NDArray[np.float32] = ((1 - radius) * side / 6).clip(0, 1)[..., None].astype(np.float32)
        return oval
    return _cut_out(thing, radius)


def _cut_out(thing: Pixels, radius: NDArray[np.float64]) -> NDArray[np.float32]:
    """Keep the 60 % of a photograph whose colours occur more in its middle than at its border, or are in its middle."""
    colours = (thing // 32) @ np.array([64, 8, 1])
    inside, border = (np.bincount(colours[part], minlength=512) + 1.0 for part in (radius < 0.6, radius > 0.95))
    likely = np.log(inside / inside.sum() / (border / border.sum()))[colours].clip(-2, 2) + 3 * (0.9 - radius)
    coarse = likely[: len(likely) // 24 * 24, : len(likely) // 24 * 24]
    coarse = coarse.reshape(24, len(coarse) // 24, 24, -1).mean(axis=(1, 3))
    opaque = ((coarse - np.quantile(coarse, 0.4)) * 400 + 128).clip(0, 255).astype(np.uint8)
    fine = av.VideoFrame.from_ndarray(opaque, "gray").reformat(
        len(thing), len(thing), interpolation=Interpolation.BICUBIC
    )
    soft: NDArray[np.float32] = (fine.to_ndarray() / 255).astype(np.float32)[..., None]
    return soft


class Stage:
    """Makes the frames of one scene with one thing in it."""

    def __init__(self, scene: Pixels, thing: Pixels, opaque: NDArray[np.float32], noise: Sequence[Pixels]) -> None:
        self._scene, self._thing, self._opaque, self._noise = scene, thing, opaque, noise
        self._count = 0

    def frame(self, place: tuple[int, int] | None) -> av.VideoFrame:
        """Return the next frame with the thing's upper left corner at `place`; it may be partly outside."""
        pixels = self._scene
        if place is not None:
            pixels = pixels.copy()
            side = len(self._thing)
            left, top, right, bottom = max(0, place[0]), max(0, place[1]), place[0] + side, place[1] + side
            part = np.s_[top - place[1] : max(0, min(HEIGHT, bottom) - place[1]), left - place[0] : max(
                0, min(WIDTH, right) - place[0])]  # fmt: skip
            under = pixels[top : max(0, bottom), left : max(0, right)]
            opaque = self._opaque[part]
            under[:] = opaque * self._thing[part] + (1 - opaque) * under
        self._count += 1
        noisy = np.clip(pixels + self._noise[self._count % len(self._noise)], 0, 255).astype(np.uint8)
        return av.VideoFrame.from_numpy_buffer(noisy, "rgb24")


class Classifier:
    """The bundled model on any part of a frame."""

    def __init__(self) -> None:
        self._bundle = load_bundle(bundled_model_path())
        self._classifier = make_classifier(self._bundle, "cpu", 2)
        self.offset = len(self._bundle.labels) - 1000

    def top(self, picture: av.VideoFrame, region: Region | None) -> int:
        view = View(region=region or Region())
        prepare = Preprocessor(self._bundle.input, self._bundle.normalisation, view=view)
        return int(self._classifier.classify(prepare(picture)).confidences.argmax()) - self.offset


def slide(to: tuple[int, int], side: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Return the places of a thing that comes in from a side, slows down and stops."""
    start = (-side if random.random() < 0.5 else WIDTH, to[1])
    shares = 1 - (1 - np.linspace(0.1, 1, 10)) ** 2
    return [(round(start[0] + float(share) * (to[0] - start[0])), to[1]) for share in shares]


def measure(
    photographs: Sequence[Photograph], side: int, margins: Sequence[float], *, moves: bool, random: np.random.Generator
) -> dict[Shape, Counter[str]]:
    """Return the numbers of photographs that were recognised, for each shape."""
    classifier = Classifier()
    noise = [np.rint(4 * random.normal(size=(HEIGHT, WIDTH, 3))).astype(np.int16) for _ in range(3)]
    right: dict[Shape, Counter[str]] = {shape: Counter() for shape in SHAPES}
    for number, photograph in enumerate(photographs):
        thing = read(photograph.path, side, side)
        scene = read(photographs[(number + 7) % len(photographs)].path, WIDTH, HEIGHT)
        for shape in SHAPES:
            place = int(random.integers(0, WIDTH - side)), int(random.integers(0, HEIGHT - side + 1))
            stage = Stage(scene, thing, outline(shape, thing), noise)
            gate = MotionGate(GateSettings(follow=True), View())
            for at_s in EMPTY_S:
                gate.look(stage.frame(None), at_s)
            now_s = EMPTY_S[-1]
            picture = stage.frame(None)
            for where in [*(slide(place, side, random) if moves else ()), place, place, place]:
                now_s += STEP_S
                picture = stage.frame(where)
                look = gate.look(picture, now_s)
            counts = right[shape]
            truth = Region(place[0] / WIDTH, place[1] / HEIGHT, side / WIDTH, side / HEIGHT)
            counts["whole"] += classifier.top(picture, None) == photograph.class_index
            counts["true"] += classifier.top(picture, truth) == photograph.class_index
            box = look.things[0].box if look.things else None
            counts["unseen"] += box is None
            for margin in margins:
                square = square_around(box, Region(), WIDTH, HEIGHT, margin=margin) if box else None
                counts[f"{margin:g}"] += classifier.top(picture, square) == photograph.class_index
            for _ in range(3):
                now_s += STEP_S
                look = gate.look(stage.frame(None), now_s)
            for _ in range(4):
                now_s += 0.5
                look = gate.look(stage.frame(None), now_s)
            counts["left unnoticed"] += look.moving
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--sides", default="240,400")
    parser.add_argument("--margins", default=str(GateSettings().margin))
    options = parser.parse_args()
    with (options.photographs / "labels.csv").open(encoding="utf-8") as table:
        rows = [Photograph(options.photographs / row["file"], int(row["class_index"])) for row in csv.DictReader(table)]
    random = np.random.default_rng(5)
    photographs = rows[0 if options.tuning else 1 :: 2]
    photographs = [photographs[number] for number in random.permutation(len(photographs))[: options.count]]
    margins = [float(margin) for margin in options.margins.split(",")]
    for side in (int(side) for side in options.sides.split(",")):
        for moves in (False, True):
            right = measure(photographs, side, margins, moves=moves, random=random)
            everything: Counter[str] = sum(right.values(), Counter())
            for name, counts in [*right.items(), ("all", everything)]:
                total = len(photographs) * (len(SHAPES) if name == "all" else 1)
                figures = "  ".join(f"{key} {100 * counts[key] / total:.1f}" for key in (
                    "whole", "true", *(f"{margin:g}" for margin in margins), "unseen", "left unnoticed"))  # fmt: skip
                print(
                    f"{side} px, {'slides in' if moves else 'appears  '}, {name:<8}: {figures} % of {total}", flush=True
                )


if __name__ == "__main__":
    main()
