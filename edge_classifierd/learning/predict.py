"""Runs a model on a labelled data set and evaluates its scores."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd.errors import SourceError, UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.learning.class_matching import match_classes
from edge_classifierd.learning.evaluate import Scored, evaluate
from edge_classifierd.learning.learnt_pictures import learnt_by, picture_hash
from edge_classifierd.learning.thresholds import LEAST_POSITIVES, WatchedClasses, sweep
from edge_classifierd.learning.training_set import summarised
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edge_classifierd.learning.dataset import Dataset
    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.learning.thresholds import Sweep
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.preprocess import Fit, View


@dataclass(frozen=True, slots=True)
class Trial:
    """A model, and how pictures are prepared for it."""

    bundle: ModelBundle
    fit: Fit = "crop"
    crop_fraction: float = 1.0
    view: View | None = None
    threads: int = 2
    device: str = "auto"
    margin: float = 0.1
    watches: Sequence[WatchedClasses] = ()
    """The watches to recommend thresholds for; empty: one for each class that has enough pictures."""


def try_out(trial: Trial, dataset: Dataset, progress: Callable[[int, int], None]) -> Evaluation:
    """Classify every picture once and evaluate the scores; classes without a matching label are left out.

    Raises UsageError when no class matches or no picture can be read; ModelError, MissingError, InferenceError.
    """
    bundle = trial.bundle
    matching = match_classes(dataset, bundle.labels)
    wanted = [picture for picture in dataset.pictures if picture.class_name in matching.targets]
    names = tuple(matching.targets)
    classifier = make_classifier(bundle, trial.device, trial.threads)
    prepare = Preprocessor(
        bundle.input, bundle.normalisation, fit=trial.fit, crop_fraction=trial.crop_fraction, view=trial.view
    )
    confidences, truth, paths, times, unreadable = [], [], [], [], []
    try:
        for number, picture in enumerate(wanted, 1):
            try:
                frame = read_image(picture.path)
            except SourceError as error:
                unreadable.append(str(error))
            else:
                inference = classifier.classify(prepare(frame))
                confidences.append(inference.confidences)
                times.append(inference.inference_ms)
                truth.append(names.index(picture.class_name))
                paths.append(picture.path)
            progress(number, len(wanted))
    finally:
        classifier.close()
    if not paths:
        reason = summarised(unreadable)[0]
        raise UsageError(f"{dataset.source}: none of its {len(wanted):,} pictures can be read: {reason}")
    targets = tuple(matching.targets.values())
    scored = Scored(paths, np.array(truth, np.intp), np.stack(confidences), names, targets, bundle.labels.display)
    return dataclasses.replace(
        evaluate(bundle.name, scored, margin=trial.margin, sweeps=sweeps_of(scored, trial.watches)),
        unreadable=tuple(unreadable),
        left_out=matching.unmatched,
        learnt=_learnt(bundle, paths),
        inference_ms=float(np.median(times)),
    )


def _learnt(bundle: ModelBundle, paths: Sequence[Path]) -> int:
    """Return how many of the pictures the model was trained on."""
    learnt = learnt_by(bundle.path)
    return sum(picture_hash(path) in learnt for path in paths) if learnt else 0


def sweeps_of(scored: Scored, watches: Sequence[WatchedClasses] = ()) -> tuple[Sweep, ...]:
    """Return the sweep of each watch; without watches, of each class that has enough pictures."""
    if not watches:
        sizes = np.bincount(scored.truth, minlength=len(scored.names)).tolist()
        watches = [
            WatchedClasses(name, indices)
            for name, indices, size in zip(scored.names, scored.targets, sizes, strict=True)
            if size >= LEAST_POSITIVES
        ]
    targets = [scored.targets[at] for at in scored.truth.tolist()]
    return tuple(sweep(watch, scored.confidences, targets) for watch in watches)
