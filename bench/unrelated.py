"""Unrelated objects and unequal classes after a training.

usage: bench/unrelated.py IMAGENET [--seeds 3] [--half tuning|final]

IMAGENET is a folder with a table `labels.csv` (columns file and class_index, from 0) of ImageNet pictures. Two tables:

1. Dogs, birds and a third group, 8 pictures of each to learn from and no class `unknown`: the share of 100 unrelated
   objects that raise a watch at the recommended thresholds, and the share of the other members that raise theirs.
   With --half, every second class of each group and of the objects, and 5 pictures to learn from: constants are chosen
   on one half and measured on the other.
2. 40 pictures of objects against 3 of dogs: the balanced accuracy of `train --no-unknown` and, where scikit-learn is
   installed, of its logistic regression with balanced weights on the same embeddings.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does

import numpy as np

from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.learning.embeddings.embed import Embedder, computable, load_extractor
from edge_classifierd.learning.train import TrainingPlan, train
from edge_classifierd.model.bundle import bundled_model_path, load_bundle
from edge_classifierd.preprocess import Preprocessor

try:
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError:
    LogisticRegression = None

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_classifierd.learning.train import Training

DOGS: Final = range(151, 269)
BIRDS: Final = (*range(7, 25), *range(80, 101), *range(127, 147))
THIRD: Final = {
    "wild mammals": (*range(269, 300), *range(330, 388)),
    "reptiles, fish": (*range(7), *range(25, 69), *range(389, 398)),
    "vehicles": (403, 407, 450, 510, 547, 555, 569, 573, 586, 603, 609, 627, 654, 656, 660, 661, 665, 670, 675, 690,
                 705, 717, 734, 751, 757, 779, 780, 791, 802, 803, 817, 820, 829, 833, 847, 864, 866, 867, 870, 880),
}  # fmt: skip
OBJECTS: Final = range(398, 924)
HALVES: Final = {None: (None,), "tuning": (0, None, 2), "final": (1, None, 2)}


def scores(model: Path, paths: Sequence[Path]) -> np.ndarray:
    bundle = load_bundle(model)
    classifier, prepare = make_classifier(bundle, "cpu", 2), Preprocessor(bundle.input, bundle.normalisation)
    return np.stack([classifier.classify(prepare(read_image(path))).confidences for path in paths])


def learn(folder: Path, groups: dict[str, Sequence[Path]], *, add_unknown: bool) -> Training:
    for name, paths in groups.items():
        (folder / "pictures" / name).mkdir(parents=True)
        for path in paths:
            (folder / "pictures" / name / path.name).symlink_to(path)
    output = folder / "m.tflite"
    return train(TrainingPlan(folder / "pictures", bundled_model_path(), output, holdout=0, add_unknown=add_unknown))


def three_groups(pictures: dict[int, list[Path]], third: str, seed: int, half: str | None) -> tuple[float, float]:
    """Return the share of unrelated objects that raise a watch, and the share of members that raise theirs."""
    part, learnt = slice(*HALVES[half]), 8 if half is None else 5
    random = np.random.default_rng(seed)
    wanted = {"dogs": DOGS, "birds": BIRDS, "third": THIRD[third]}
    groups = {
        name: [path for index in indices for path in pictures.get(index, [])][part] for name, indices in wanted.items()
    }
    used = {index for indices in wanted.values() for index in indices}
    objects = [path for index in OBJECTS if index not in used for path in pictures.get(index, [])][part]
    for members in (*groups.values(), objects):
        random.shuffle(members)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        training = learn(Path(folder), {name: members[:learnt] for name, members in groups.items()}, add_unknown=True)
        thresholds = {sweep.watch: sweep.threshold or 0.6 for sweep in training.sweeps}
        at = {name: training.labels.index(name) for name in groups}
        unrelated = scores(training.output, objects[:100])
        raised = np.any([unrelated[:, at[name]] >= thresholds[name] for name in groups], axis=0)
        found = [
            scores(training.output, every[learnt:])[:, at[name]] >= thresholds[name] for name, every in groups.items()
        ]
    return float(raised.mean()), float(np.concatenate(found).mean())


def forty_against_three(pictures: dict[int, list[Path]], seed: int) -> tuple[float, float]:
    """Return the balanced accuracy of `train` and of scikit-learn (not a number without it)."""
    random = np.random.default_rng(seed)
    many = [path for index in OBJECTS for path in pictures.get(index, [])]
    few = [path for index in DOGS for path in pictures.get(index, [])]
    random.shuffle(many)  # type: ignore[arg-type]
    random.shuffle(few)  # type: ignore[arg-type]
    learnt, held = (many[:40], few[:3]), (many[40:], few[3:])
    with tempfile.TemporaryDirectory() as folder:
        training = learn(Path(folder), {"many": learnt[0], "few": learnt[1]}, add_unknown=False)
        at = [training.labels.index("many"), training.labels.index("few")]
        best = [scores(training.output, paths).argmax(1) for paths in held]
        own = np.mean([(one == right).mean() for one, right in zip(best, at, strict=True)])
    if LogisticRegression is None:
        return float(own), float("nan")
    embedder = Embedder(computable(load_extractor(bundled_model_path())), fit="crop", crop_fraction=1.0, threads=2)

    def embed(paths: Sequence[Path]) -> np.ndarray:
        return np.stack([embedder(embedder.prepare(read_image(path))) for path in paths])[:, : embedder.channels]

    fitted = LogisticRegression(class_weight="balanced", max_iter=2000)
    fitted.fit(np.concatenate([embed(paths) for paths in learnt]), [0] * 40 + [1] * 3)
    recalls = [(fitted.predict(embed(paths)) == side).mean() for side, paths in enumerate(held)]
    return float(own), float(np.mean(recalls))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("imagenet", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--half", choices=["tuning", "final"])
    arguments = parser.parse_args()
    pictures: dict[int, list[Path]] = {}
    with (arguments.imagenet / "labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            pictures.setdefault(int(row["class_index"]), []).append(arguments.imagenet.resolve() / row["file"])
    for third in THIRD:
        measured = [three_groups(pictures, third, seed, arguments.half) for seed in range(arguments.seeds)]
        alarms, found = np.mean(measured, axis=0)
        shares = f"{alarms:.0%} of unrelated objects, {found:.0%} of members"
        print(f"dogs, birds, {third}: {shares} raise a watch", flush=True)
    if arguments.half is not None:
        return
    own, other = np.mean([forty_against_three(pictures, seed) for seed in range(arguments.seeds)], axis=0)
    compared = "scikit-learn is not installed" if np.isnan(other) else f"scikit-learn {other:.1%}"
    print(f"40 against 3 pictures: balanced accuracy {own:.1%}, {compared}")


if __name__ == "__main__":
    main()
